import { setTimeout as sleep } from 'node:timers/promises';
import type { Resource } from '../../control/api/contract.js';
import type { Kind } from '../../control/model/spec.js';
import type { Client } from '../client.js';
import { tableOf } from '../columns.js';
import { CliError, NotRunningError } from '../errors.js';
import { formatJson, formatYaml, outputOption, type OutputForm } from '../format.js';
import { kindArgument, listResources, parseTarget, type Register } from '../resources.js';
import type { Session } from '../session.js';
import { formatTable } from '../table.js';

interface Options {
  output: OutputForm;
  watch: boolean;
}

const LOOK_EVERY_MS = 1000;

export const registerGet: Register = (program, session) => {
  program
    .command('get')
    .description('list resources; with -o yaml in the form of a configuration file')
    .addArgument(kindArgument(false))
    .argument('[name]', 'one of that kind')
    .addOption(outputOption(['table', 'wide', 'yaml', 'json']))
    .option('-w, --watch', 'go on and show each change', false)
    .action(async (kindText: string | undefined, nameText: string | undefined, options: Options, command) => {
      const { kind, name } = parseTarget(kindText, nameText);
      const client = session.client(command);
      const resources = await select(client, kind, name);
      show(session, resources, kind, name, options.output, true);
      if (options.watch) await watch(session, client, resources, { kind, name, output: options.output });
    });
};

async function select(client: Client, kind: Kind | undefined, name: string | undefined): Promise<Resource[]> {
  const resources = await listResources(client, { kind, name });
  if (name !== undefined && resources.length === 0) {
    throw new CliError('NOT_FOUND', `there is no ${kind ?? 'resource'} "${name}"`, {
      hint: `"weft get ${kind ?? ''}" lists those there are.`,
    });
  }
  return resources;
}

function show(
  session: Session,
  resources: readonly Resource[],
  kind: Kind | undefined,
  name: string | undefined,
  output: OutputForm,
  withHeader: boolean,
): void {
  if (output === 'json') {
    // One object for one name, a list otherwise: what was asked for decides, not how many there are.
    session.print(formatJson(name === undefined ? { resources } : resources[0]));
  } else if (output === 'yaml') {
    session.print(formatYaml(asConfiguration(resources)));
  } else if (resources.length === 0) {
    session.say(
      kind === undefined ? 'No resources. "weft apply FILE..." makes some.' : `No ${kind} is configured.`,
    );
  } else {
    const { headers, rows } = tableOf(resources, kind, output === 'wide', session.out);
    const lines = formatTable(headers, rows, session.out);
    session.printAll(withHeader ? lines : lines.slice(1));
  }
}

/** `{kind: {name: spec}}`, as a user would write it. What is being deleted is no longer part of it. */
export function asConfiguration(resources: readonly Resource[]): Record<string, Record<string, unknown>> {
  const configuration: Record<string, Record<string, unknown>> = {};
  for (const { kind, name, spec, deleting } of resources) {
    if (deleting) continue;
    (configuration[kind] ??= {})[name] = spec;
  }
  return configuration;
}

/** Goes on until interrupted: shows whatever has changed, as further rows (or documents). */
async function watch(
  session: Session,
  client: Client,
  first: readonly Resource[],
  wanted: { kind: Kind | undefined; name: string | undefined; output: OutputForm },
): Promise<void> {
  let known = fingerprints(first);
  let away = false;
  for (;;) {
    await sleep(LOOK_EVERY_MS);
    let resources: Resource[];
    try {
      resources = await listResources(client, { kind: wanted.kind, name: wanted.name });
    } catch (error) {
      if (!(error instanceof NotRunningError)) throw error;
      if (!away) session.say('weftd went away; waiting for it to come back.');
      away = true;
      continue;
    }
    away = false;
    const now = fingerprints(resources);
    const changed = resources.filter(resource => known.get(keyOf(resource)) !== now.get(keyOf(resource)));
    const gone = [...known.keys()].filter(key => !now.has(key));
    known = now;
    for (const resource of changed) {
      if (wanted.output === 'json') session.print(JSON.stringify(resource));
      else {
        if (wanted.output === 'yaml') session.print('---');
        show(session, [resource], wanted.kind, wanted.name, wanted.output, false);
      }
    }
    for (const key of gone) session.say(`${key}: gone`);
  }
}

function keyOf(resource: Resource): string {
  return `${resource.kind} ${resource.name}`;
}

/** What counts as a change: counters and sizes that always move do not. */
function fingerprints(resources: readonly Resource[]): Map<string, string> {
  return new Map(
    resources.map(resource => [
      keyOf(resource),
      JSON.stringify([
        resource.generation,
        resource.deleting,
        resource.status.observedGeneration,
        resource.status.conditions,
        resource.status.observed['state'],
        resource.spec,
      ]),
    ]),
  );
}
