/**
 * Gathers the configuration files that the user named: files, directories (all *.yaml and *.yml in them, sorted, not
 * deeper), and `-` for the standard input. Their text goes to weftd as it is; only weftd judges it.
 */
import { readdir, readFile, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { ConfigFile } from '../control/api/contract.js';
import { CliError, UsageError } from './errors.js';
import type { Io } from './session.js';

/** As ChangeRequest in the contract. */
const MAX_FILES = 1000;
const MAX_FILE_BYTES = 8 * 1024 * 1024;
const STDIN_PATH = '<stdin>';

export async function gatherFiles(names: readonly string[], io: Io): Promise<ConfigFile[]> {
  if (names.length === 0)
    throw new UsageError(
      'no configuration file was named',
      'For example: weft apply configs/quickstart.yaml',
    );
  if (names.filter(name => name === '-').length > 1)
    throw new UsageError('"-" (standard input) can be named once only');
  const files: ConfigFile[] = [];
  for (const name of names) {
    if (name === '-') files.push({ path: STDIN_PATH, text: await readStdin(io) });
    else for (const path of await expand(name, io.cwd)) files.push({ path, text: await read(path, io.cwd) });
  }
  if (files.length > MAX_FILES)
    throw new UsageError(`${files.length} files are too many: at most ${MAX_FILES}`);
  return files;
}

async function expand(name: string, cwd: string): Promise<string[]> {
  const found = await stat(resolve(cwd, name)).catch((error: unknown) => {
    throw unreadable(name, error);
  });
  if (!found.isDirectory()) return [name];
  const entries = (await readdir(resolve(cwd, name)))
    .filter(entry => /\.ya?ml$/.test(entry) && !entry.startsWith('.'))
    .toSorted();
  if (entries.length === 0) {
    throw new CliError('NO_CONFIGURATION', `${name}: no *.yaml file in this directory`);
  }
  return entries.map(entry => join(name, entry));
}

async function read(path: string, cwd: string): Promise<string> {
  const bytes = await readFile(resolve(cwd, path)).catch((error: unknown) => {
    throw unreadable(path, error);
  });
  return decode(path, bytes);
}

async function readStdin(io: Io): Promise<string> {
  if (io.stdin.isTTY === true)
    io.stderr.write('Reading the configuration from the terminal; end it with Ctrl-D.\n');
  const pieces: Buffer[] = [];
  let size_bytes = 0;
  for await (const piece of io.stdin as AsyncIterable<Buffer | string>) {
    const bytes = Buffer.from(piece);
    size_bytes += bytes.length;
    if (size_bytes > MAX_FILE_BYTES) break;
    pieces.push(bytes);
  }
  if (size_bytes > MAX_FILE_BYTES) throw tooLong(STDIN_PATH);
  return decode(STDIN_PATH, Buffer.concat(pieces));
}

function decode(path: string, bytes: Uint8Array): string {
  if (bytes.length > MAX_FILE_BYTES) throw tooLong(path);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new CliError('NOT_TEXT', `${path}: not a text file in UTF-8`);
  }
}

function tooLong(path: string): CliError {
  return new CliError('TOO_LONG', `${path}: longer than ${MAX_FILE_BYTES / 1024 / 1024} MiB`);
}

function unreadable(path: string, error: unknown): CliError {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  const why: Record<string, string> = {
    ENOENT: 'no such file',
    EACCES: 'no permission to read it',
    EISDIR: 'is a directory',
    ENOTDIR: 'no such file',
  };
  return new CliError('UNREADABLE', `${path}: ${why[code] ?? String(error)}`, { cause: error });
}
