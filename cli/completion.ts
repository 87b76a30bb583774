/**
 * What could be typed next. The shells' scripts are a few lines each and ask `weft __complete -- WORD...`, so that
 * everything is known in one place: the commands themselves, read from the parser, and names, asked of weftd with
 * a deadline so short that a stuck weftd does not make the shell feel stuck.
 */
import type { Argument, Command, Option } from 'commander';
import { KINDS, type Kind } from '../control/model/spec.js';
import { parseKind } from './resources.js';

export interface Candidate {
  word: string;
  about: string;
}

export interface Completion {
  candidates: Candidate[];
  /** Names of files are welcome as well. */
  files: boolean;
}

export interface NameSource {
  names(kind: Kind | undefined): Promise<{ kind: string; name: string }[]>;
  /** `POOL/VOLUME`. */
  volumes(): Promise<string[]>;
  /** Of a volume, their names alone. */
  snapshots(volume: string): Promise<string[]>;
  pools(): Promise<string[]>;
  jobs(): Promise<string[]>;
}

const NOTHING: Completion = { candidates: [], files: false };
const FILES: Completion = { candidates: [], files: true };

/** `words`: what follows `weft` on the line, up to the cursor; the last is being typed and may be empty. */
export async function complete(
  program: Command,
  words: readonly string[],
  source: NameSource,
): Promise<Completion> {
  const typed = words.at(-1) ?? '';
  let command = program;
  const positional: string[] = [];
  for (let i = 0; i < words.length - 1; i++) {
    const word = words[i] ?? '';
    if (word.startsWith('-') && word !== '-') {
      const option = findOption(command, word);
      if (option === undefined || option.isBoolean() || word.includes('=')) continue;
      i++;
      if (i === words.length - 1) return matching(ofOption(option), typed);
      continue;
    }
    const sub = positional.length === 0 ? findCommand(command, word) : undefined;
    if (sub === undefined) positional.push(word);
    else command = sub;
  }
  if (typed.startsWith('-') && typed !== '-') return matching(optionsOf(command), typed);
  const subcommands = command.commands.filter(candidate => !isHidden(candidate));
  if (subcommands.length > 0) {
    if (positional.length > 0) return NOTHING;
    const candidates = subcommands.map(sub => ({ word: sub.name(), about: sub.description() }));
    return matching({ candidates, files: false }, typed);
  }
  const { registeredArguments } = command;
  const argument = registeredArguments[positional.length] ?? lastVariadic(registeredArguments);
  if (argument === undefined) return NOTHING;
  return matching(await ofArgument(argument, positional, typed, source), typed);
}

async function ofArgument(
  argument: Argument,
  before: readonly string[],
  typed: string,
  source: NameSource,
): Promise<Completion> {
  if (argument.argChoices !== undefined) return words(argument.argChoices);
  switch (argument.name()) {
    case 'file':
      return FILES;
    case 'kind':
      if (typed.includes('/'))
        return words((await source.names(undefined)).map(({ kind, name }) => `${kind}/${name}`));
      return words(KINDS);
    case 'name': {
      const kind = kindOrNothing(before.at(-1) ?? '');
      return kind === undefined ? NOTHING : words((await source.names(kind)).map(({ name }) => name));
    }
    case 'machine':
    case 'switch':
    case 'image':
      return words((await source.names(argument.name() as Kind)).map(({ name }) => name));
    case 'volume':
    case 'snapshot':
      return words(await volumesOrSnapshots(argument.name(), typed, source));
    case 'pool':
      return words(await source.pools());
    case 'job':
      return words(await source.jobs());
    case 'dir':
      return FILES;
    case 'component': {
      const machines = (await source.names('machine')).map(({ name }) => name);
      return words([
        'weftd',
        'dataplane',
        'storage',
        ...machines.map(name => `machine/${name}`),
        ...machines.map(name => `qemu/${name}`),
      ]);
    }
    default:
      return NOTHING;
  }
}

/** Snapshots once an `@` was typed; before it, for an argument that must be one, each volume with its `@`. */
async function volumesOrSnapshots(wanted: string, typed: string, source: NameSource): Promise<string[]> {
  const at = typed.indexOf('@');
  if (at < 0) return (await source.volumes()).map(volume => (wanted === 'snapshot' ? `${volume}@` : volume));
  const volume = typed.slice(0, at);
  return (await source.snapshots(volume)).map(name => `${volume}@${name}`);
}

function ofOption(option: Option): Completion {
  if (option.argChoices !== undefined) return words(option.argChoices);
  return /<(file|dir)/i.test(option.flags) ? FILES : NOTHING;
}

function optionsOf(command: Command): Completion {
  const candidates: Candidate[] = [{ word: '--help', about: 'say how it is used' }];
  for (let at: Command | null = command; at !== null; at = at.parent) {
    for (const option of at.options) {
      if (option.long !== undefined && option.long !== null && !option.hidden) {
        candidates.push({ word: option.long, about: option.description });
      }
    }
  }
  return { candidates, files: false };
}

function findOption(command: Command, word: string): Option | undefined {
  const flag = word.split('=', 1)[0];
  for (let at: Command | null = command; at !== null; at = at.parent) {
    const option = at.options.find(({ short, long }) => short === flag || long === flag);
    if (option !== undefined) return option;
  }
  return undefined;
}

function findCommand(command: Command, word: string): Command | undefined {
  return command.commands.find(sub => sub.name() === word || sub.aliases().includes(word));
}

/** Commander knows it, but its types do not tell. */
function isHidden(command: Command): boolean {
  return command.name().startsWith('__');
}

function lastVariadic(all: readonly Argument[]): Argument | undefined {
  const last = all.at(-1);
  return last?.variadic === true ? last : undefined;
}

function kindOrNothing(word: string): Kind | undefined {
  try {
    return parseKind(word);
  } catch {
    return undefined;
  }
}

function words(all: readonly string[]): Completion {
  return { candidates: all.map(word => ({ word, about: '' })), files: false };
}

function matching({ candidates, files }: Completion, typed: string): Completion {
  return { candidates: candidates.filter(({ word }) => word.startsWith(typed)), files };
}
