/** Ends weftd, alone or with everything that it looks after, and waits until it is gone. */
import { connect } from 'node:net';
import { readFileSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { SystemStatus } from '../control/api/contract.js';
import type { Client } from './client.js';
import { isServing } from './daemon.js';
import { CliError, NotRunningError } from './errors.js';
import { withProgress } from './progress.js';
import type { Session } from './session.js';
import type { StatePaths } from './state.js';

const SLACK_MS = 30_000;
const LOOK_EVERY_MS = 100;

export interface Shutdown {
  everything: boolean;
  /** How long machines may take to power off before they are killed. */
  timeout_ms: number;
}

export async function shutDown(session: Session, client: Client, shutdown: Shutdown): Promise<void> {
  const text = shutdown.everything ? 'Shutting down machines, network, disks and weftd' : 'Ending weftd';
  await withProgress(session, text, async () => {
    const weftd = await processOf(client);
    const deadlineAt_ms = Date.now() + shutdown.timeout_ms + SLACK_MS;
    try {
      await client.call('POST', '/v1/shutdown', z.object({}), {
        body: shutdown,
        deadline_ms: shutdown.timeout_ms + SLACK_MS,
      });
    } catch (error) {
      // It may be gone before its answer has left; whether it is gone is looked at below.
      const torn =
        error instanceof NotRunningError || (error instanceof CliError && error.code === 'CONNECTION');
      if (!torn) throw error;
    }
    // It holds its state directory until its process has ended: only then may the next one start.
    while ((await isServing(client).catch(() => true)) || (weftd !== null && isAlive(weftd))) {
      if (Date.now() > deadlineAt_ms) {
        throw new CliError('STILL_RUNNING', 'weftd has not ended in time', {
          hint: 'See logs/weftd.log in the state directory; "weft down" may be said again.',
        });
      }
      await sleep(LOOK_EVERY_MS);
    }
  });
}

/** Null when it is on another machine, or does not say. */
async function processOf(client: Client): Promise<number | null> {
  if (client.where.kind !== 'unix') return null;
  const status = await client.call('GET', '/v1/status', SystemStatus).catch(() => null);
  return status?.pid ?? null;
}

/** Whether planes or guests live without weftd. */
export async function anythingRunning(paths: StatePaths): Promise<boolean> {
  for (const path of [paths.dataplaneSocket, paths.storageSocket]) if (await answers(path)) return true;
  for (const name of await readdir(paths.machines).catch(() => [])) {
    const text = await readFile(join(paths.machines, name, 'pid'), 'utf8').catch(() => '');
    if (/^\d+\s*$/.test(text) && isAlive(Number(text))) return true;
  }
  return false;
}

function answers(socketPath: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(socketPath);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

/** Read from /proc, where a process that has ended but was not yet reaped is told apart. */
function isAlive(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.[0] !== 'Z';
  } catch {
    return false;
  }
}
