/**
 * What every verb is given: the streams, the environment, the way to weftd. Tests pass their own, so that a
 * verb never reaches for `process`.
 */
import { readFileSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import type { Command } from 'commander';
import { Client, type Where } from './client.js';
import { CliError, UsageError } from './errors.js';
import { stateDirectory, statePaths, type StatePaths, type Surroundings } from './state.js';
import { styleFor, type Style } from './style.js';

export interface InputStream extends Readable {
  isTTY?: boolean;
  setRawMode?(raw: boolean): unknown;
}

export interface OutputStream extends Writable {
  isTTY?: boolean;
  columns?: number;
  rows?: number;
}

export interface Io extends Surroundings {
  stdin: InputStream;
  stdout: OutputStream;
  stderr: OutputStream;
  /** SIGINT, SIGTERM or SIGHUP; returns how to stop listening. While somebody listens, they do not end the program. */
  onSignal(listener: (signal: string) => void): () => void;
}

interface GlobalOptions {
  state?: string;
  url?: string;
  tokenFile?: string;
}

export class Session {
  readonly io: Io;
  /** Of the colours on stdout and on stderr: either may be a terminal without the other. */
  readonly out: Style;
  readonly err: Style;
  exitCode = 0;
  /** Set while something is drawn in place on standard error: lines go above it, not into it. */
  drawing: { note(line: string): void } | null = null;

  constructor(io: Io) {
    this.io = io;
    this.out = styleFor(io.stdout.isTTY === true, io.env);
    this.err = styleFor(io.stderr.isTTY === true, io.env);
  }

  /** A line of the answer. */
  print(line = ''): void {
    this.io.stdout.write(`${line}\n`);
  }

  printAll(lines: readonly string[]): void {
    if (lines.length > 0) this.io.stdout.write(`${lines.join('\n')}\n`);
  }

  /** A line beside the answer: progress, hints, warnings. */
  say(line: string): void {
    if (this.drawing === null) this.io.stderr.write(`${line}\n`);
    else this.drawing.note(line);
  }

  paths(command: Command): StatePaths {
    return statePaths(stateDirectory(globals(command).state, this.io));
  }

  client(command: Command): Client {
    const options = globals(command);
    if (options.url === undefined) {
      if (options.tokenFile !== undefined) throw new UsageError('--token-file is for --url only');
      const paths = this.paths(command);
      return new Client({ kind: 'unix', socketPath: paths.apiSocket, stateDirectory: paths.directory });
    }
    return new Client(tcp(options.url, options.tokenFile));
  }

  /** For what must happen on the machine of weftd itself, such as starting it. */
  refuseUrl(command: Command, what: string): void {
    if (globals(command).url !== undefined) {
      throw new UsageError(`${what} works on the machine where weftd runs, not with --url`);
    }
  }
}

function globals(command: Command): GlobalOptions {
  return command.optsWithGlobals();
}

function tcp(url: string, tokenFile: string | undefined): Where {
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch {
    throw new UsageError(`--url ${url}: not a URL`, 'It looks like http://127.0.0.1:7070.');
  }
  if (parsed.protocol !== 'http:' || (parsed.pathname !== '/' && parsed.pathname !== '')) {
    throw new UsageError(
      `--url ${url}: weftd speaks plain http, without a path`,
      'It looks like http://127.0.0.1:7070.',
    );
  }
  // WHATWG URL keeps the brackets of an IPv6 address; node:http wants it without.
  const host = parsed.hostname.replace(/^\[(.*)\]$/, '$1');
  return {
    kind: 'tcp',
    host,
    port: parsed.port === '' ? 80 : Number(parsed.port),
    token: tokenFile === undefined ? null : readToken(tokenFile),
  };
}

function readToken(path: string): string {
  try {
    const token = readFileSync(path, 'utf8').trim();
    if (/^[\x21-\x7e]{1,512}$/.test(token)) return token;
  } catch (error) {
    throw new CliError(
      'TOKEN_FILE',
      `cannot read the token: ${String(error instanceof Error ? error.message : error)}`,
      {
        hint: 'weftd keeps it as "token" in its state directory.',
        cause: error,
      },
    );
  }
  throw new CliError('TOKEN_FILE', `${path} does not hold a token`, {
    hint: 'weftd keeps it as "token" in its state directory.',
  });
}
