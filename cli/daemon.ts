/**
 * Starts weftd when nobody answers on its socket: detached, its log in the state directory, so that it goes on after this
 * command. It is weftd itself that refuses to be two on one state directory.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, existsSync, fstatSync, mkdirSync, openSync, readSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import type { Client } from './client.js';
import { CliError, NotRunningError } from './errors.js';
import { withProgress } from './progress.js';
import type { Session } from './session.js';
import type { StatePaths } from './state.js';

export const WEFTD_MAIN = fileURLToPath(new URL('../control/main.js', import.meta.url));

const Healthy = z.object({ ok: z.boolean() });

const START_DEADLINE_MS = 30_000;
const LOOK_EVERY_MS = 50;
const TAIL_BYTES = 4096;

export interface RunningWeftd {
  /** Whether this command started it. */
  started: boolean;
  /** The process, when this command started it. */
  child: ChildProcess | null;
}

export async function isServing(client: Client, deadline_ms = 5000): Promise<boolean> {
  try {
    await client.call('GET', '/healthz', Healthy, { deadline_ms });
    return true;
  } catch (error) {
    if (error instanceof NotRunningError) return false;
    throw error;
  }
}

export async function ensureWeftd(
  session: Session,
  client: Client,
  paths: StatePaths,
  options: { listen?: string | undefined } = {},
): Promise<RunningWeftd> {
  if (await isServing(client)) return { started: false, child: null };
  return withProgress(session, `Starting weftd for ${paths.directory}`, () =>
    start(session, client, paths, options),
  );
}

async function start(
  session: Session,
  client: Client,
  paths: StatePaths,
  options: { listen?: string | undefined },
): Promise<RunningWeftd> {
  const log = openLog(session, paths);
  const logFrom_bytes = fstatSync(log).size;
  try {
    const child = spawn(
      process.execPath,
      [
        WEFTD_MAIN,
        '--state',
        paths.directory,
        ...(options.listen === undefined ? [] : ['--listen', options.listen]),
      ],
      { detached: true, stdio: ['ignore', log, log], cwd: '/', env: { ...session.io.env } },
    );
    const ended = new Promise<string>(resolve => {
      child.once('error', error => resolve(error.message));
      child.once('exit', (code, signal) =>
        resolve(signal === null ? `exit code ${code}` : `signal ${signal}`),
      );
    });
    child.unref();
    const deadlineAt_ms = Date.now() + START_DEADLINE_MS;
    for (;;) {
      const how = await Promise.race([ended, sleep(LOOK_EVERY_MS, null)]);
      // Somebody else may have been quicker: then ours has ended, and theirs serves.
      if (await isServing(client)) return { started: how === null, child: how === null ? child : null };
      if (how !== null && !lostTheRace(tail(log, logFrom_bytes)))
        throw startFailed(`weftd ended at once (${how})`, log, logFrom_bytes, paths);
      if (Date.now() > deadlineAt_ms) {
        child.kill('SIGTERM');
        throw startFailed(
          `weftd did not serve within ${START_DEADLINE_MS / 1000} s`,
          log,
          logFrom_bytes,
          paths,
        );
      }
    }
  } finally {
    closeSync(log);
  }
}

/** Ours has ended because another was started at the same time; that one will serve in a moment. */
function lostTheRace(said: string): boolean {
  return said.includes('another weftd');
}

/** Step by step: mkdir's own `recursive` never returns where a parent exists and takes no directories (as /proc). */
function makeDirectory(directory: string, mode: number): void {
  if (existsSync(directory)) return;
  if (dirname(directory) !== directory) makeDirectory(dirname(directory), mode);
  try {
    mkdirSync(directory, { mode });
  } catch (error) {
    // Another may have made it since we looked.
    if (!existsSync(directory)) throw error;
  }
}

function openLog(session: Session, paths: StatePaths): number {
  try {
    // As root the guests' users pass through to their own directories below.
    makeDirectory(paths.directory, session.io.uid === 0 ? 0o711 : 0o700);
    makeDirectory(paths.logs, 0o700);
    return openSync(paths.weftdLog, 'a+', 0o600);
  } catch (error) {
    throw new CliError(
      'STATE_DIRECTORY',
      `the state directory ${paths.directory} cannot be used: ${error instanceof Error ? error.message : String(error)}`,
      { hint: 'Choose another with --state DIR or WEFT_STATE.', cause: error },
    );
  }
}

function startFailed(what: string, log: number, from_bytes: number, paths: StatePaths): CliError {
  const said = tail(log, from_bytes);
  return new CliError('WEFTD_START', said === '' ? what : `${what}. Its last words:\n${said}`, {
    hint: `The whole log is ${paths.weftdLog}; "weft doctor" says what this machine lacks.`,
  });
}

/** The end of what was logged since `from_bytes`; JSON lines are shown by their message. */
function tail(log: number, from_bytes: number): string {
  const end_bytes = fstatSync(log).size;
  const start_bytes = Math.max(from_bytes, end_bytes - TAIL_BYTES);
  const bytes = Buffer.alloc(Math.max(0, end_bytes - start_bytes));
  readSync(log, bytes, 0, bytes.length, start_bytes);
  const lines = bytes
    .toString('utf8')
    .split('\n')
    .filter(line => line.trim() !== '');
  return lines
    .slice(-8)
    .map(line => `  ${logLine(line)}`)
    .join('\n');
}

function logLine(line: string): string {
  try {
    const record: unknown = JSON.parse(line);
    if (typeof record === 'object' && record !== null && 'msg' in record) return String(record.msg);
  } catch {
    // A line of Node's own, such as a stack trace: shown as it is.
  }
  return line;
}
