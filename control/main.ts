/**
 * weftd, the process: arguments, state directory and its lock, log, signals. What it does is put together in
 * weftd.ts.
 *
 *   node dist/control/main.js --state DIR [--listen HOST:PORT] [--foreground]      serve
 *   node dist/control/main.js --state DIR --doctor                                 say what this machine has and lacks
 *
 * SIGTERM and SIGINT end weftd alone: planes and guests go on, and the next weftd takes them over.
 */
import { copyFileSync, readFileSync, rmSync, statSync, truncateSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { pino } from 'pino';
import { z } from 'zod';
import { HostError } from '../host/errno.js';
import { fallocate, punchHole } from '../host/file.js';
import { IoUring } from '../host/ioUring.js';
import { listenUnix } from '../host/unix.js';
import { ApiServer } from './api/server.js';
import type { Clock } from './clock.js';
import { judge } from './doctor/checks.js';
import { collectFacts } from './doctor/process.js';
import { judgeStorage } from './doctor/storage/checks.js';
import { collectStorageFacts } from './doctor/storage/process.js';
import { HostImages } from './image/process.js';
import { layoutOf, type Layout } from './model/layout.js';
import { emptySpecs, type Specs } from './model/resource.js';
import { StoreError } from './store/errors.js';
import { LevelStore } from './store/level.js';
import { lockStateDirectory, openStateDirectory } from './store/stateDirectory.js';
import { checkOf, readOrMakeToken } from './store/token.js';
import { QemuHost } from './vmm/process.js';
import { Weftd } from './weftd.js';

interface Arguments {
  state: string;
  listen: { host: string; port: number } | undefined;
  foreground: boolean;
  doctor: boolean;
}

class UsageError extends Error {
  override readonly name = 'UsageError';
}

const LOG_MAX_BYTES = 32 * 2 ** 20;
const USAGE = 'usage: weftd [--state DIR] [--listen HOST:PORT] [--foreground] [--doctor]';

function defaultState(): string {
  const { WEFT_STATE, XDG_STATE_HOME } = process.env;
  if (WEFT_STATE !== undefined && WEFT_STATE !== '') return WEFT_STATE;
  if (process.geteuid?.() === 0) return '/var/lib/weft';
  const base =
    XDG_STATE_HOME !== undefined && XDG_STATE_HOME !== '' ? XDG_STATE_HOME : join(homedir(), '.local/state');
  return join(base, 'weft');
}

function parseListen(text: string): { host: string; port: number } {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  const host = match?.[1] ?? match?.[2];
  if (host === undefined || port < 0 || port > 65_535)
    throw new UsageError(`--listen ${text}: write HOST:PORT, as 127.0.0.1:7070 or [::1]:7070`);
  return { host, port };
}

function readArguments(): Arguments {
  try {
    const { values } = parseArgs({
      options: {
        state: { type: 'string' },
        listen: { type: 'string' },
        foreground: { type: 'boolean', default: false },
        doctor: { type: 'boolean', default: false },
      },
    });
    return {
      state: resolve(values.state ?? defaultState()),
      listen: values.listen === undefined ? undefined : parseListen(values.listen),
      foreground: values.foreground,
      doctor: values.doctor,
    };
  } catch (error) {
    process.stderr.write(`weftd: ${error instanceof Error ? error.message : String(error)}\n${USAGE}\n`);
    process.exit(2);
  }
}

const clock: Clock = {
  now_ms: () => Date.now(),
  after(delay_ms, then) {
    const timer = setTimeout(then, delay_ms);
    return () => clearTimeout(timer);
  },
};

function readVersion(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return z.object({ version: z.string() }).parse(JSON.parse(text)).version;
}

function program(path: string): string[] {
  return [fileURLToPath(new URL(path, import.meta.url))];
}

function ioUring(): { available: boolean; reason: string } {
  const found = IoUring.available();
  return { available: found.available, reason: found.available ? '' : found.reason };
}

function giveBack(fd: number, length_bytes: number): boolean {
  fallocate(fd, 0, length_bytes);
  return punchHole(fd, 0, length_bytes);
}

/** Without a weftd nobody knows what is configured. */
async function doctor(state: string, specs: Specs = emptySpecs()) {
  const { checks } = judge(await collectFacts(state, ioUring));
  return { checks: [...checks, ...judgeStorage(collectStorageFacts(layoutOf(state), specs, giveBack))] };
}

/** What must not be seen in a log, should it ever come near one. */
const REDACTED = [
  'token',
  'authorization',
  'headers.authorization',
  '*.token',
  '*.authorization',
  '*.password',
];

function makeLog(layout: Layout, foreground: boolean) {
  const streams = [
    { stream: pino.destination({ dest: `${layout.logs}/weftd.log`, mode: 0o600, sync: true }) },
  ];
  if (foreground) streams.push({ stream: pino.destination({ fd: 2, sync: true }) });
  for (const { stream } of streams)
    // Who read it is gone, or the disk is full: no reason to stop looking after guests.
    stream.on('error', () => {});
  return pino(
    { name: 'weftd', redact: { paths: REDACTED, censor: '[redacted]' } },
    pino.multistream(streams),
  );
}

/**
 * Keeps logs from filling the disk. Copied and emptied in place, since the planes hold theirs open, for appending, for
 * as long as they live.
 */
function trimLogs(layout: Layout): void {
  for (const name of ['weftd', 'dataplane', 'storage']) {
    const path = `${layout.logs}/${name}.log`;
    try {
      if ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) < LOG_MAX_BYTES) continue;
      copyFileSync(path, `${path}.1`);
      truncateSync(path);
    } catch {
      // A full disk: the next minute is another chance.
    }
  }
}

async function serve({ state, listen, foreground }: Arguments): Promise<void> {
  const layout = openStateDirectory(state);
  lockStateDirectory(layout);
  const log = makeLog(layout, foreground);
  process.on('uncaughtException', error => {
    log.fatal({ err: error }, 'weftd ends: planes and guests go on');
    process.exit(1);
  });
  const version = readVersion();
  const store = await LevelStore.open(layout.store);
  const images = new HostImages(layout.images);
  const ending: { server?: ApiServer; begun: boolean } = { begun: false };
  const weftd = await Weftd.open({
    version,
    pid: process.pid,
    layout,
    clock,
    store,
    images,
    guests: new QemuHost({ runDirectory: layout.run, accelFile: `${layout.state}/accel.json` }),
    programs: { dataplane: program('../dataplane/main.js'), storage: program('../storage/main.js') },
    doctor: specs => doctor(state, specs),
    figures: () => {
      const { user, system } = process.cpuUsage();
      return { residentMemory_bytes: process.memoryUsage.rss(), cpu_s: (user + system) / 1e6 };
    },
    log,
    onEnd: () => end('asked to'),
  });
  function end(why: string): void {
    if (ending.begun) return;
    ending.begun = true;
    log.info({ why }, 'weftd ends');
    void (async () => {
      await ending.server?.close();
      // Ours by the lock; a fd given to Node is not unlinked by it.
      rmSync(layout.weftdSocket, { force: true });
      await weftd.end();
      process.exit(0);
    })();
    // Whatever hangs: the store is synced with every change, so nothing is lost.
    setTimeout(() => process.exit(0), 10_000).unref();
  }
  process.on('SIGTERM', () => end('SIGTERM'));
  process.on('SIGINT', () => end('SIGINT'));
  // A terminal that is closed is no reason to end.
  process.on('SIGHUP', () => {});
  setInterval(() => trimLogs(layout), 60_000).unref();
  // Before anything is started: a port that is taken ends weftd with nothing done.
  const unixFd = listenUnix(layout.weftdSocket, { mode: 0o600, replaceStale: true });
  ending.server = await ApiServer.start(weftd.system, {
    unix: { fd: unixFd },
    ...(listen === undefined ? {} : { tcp: { ...listen, mayAsk: checkOf(readOrMakeToken(layout.token)) } }),
  });
  await weftd.start();
  log.info({ version, state, listen: listen ?? null }, 'weftd serves');
}

const parsed = readArguments();
try {
  if (parsed.doctor) process.stdout.write(`${JSON.stringify(await doctor(parsed.state), null, 2)}\n`);
  else await serve(parsed);
} catch (error) {
  const clear = error instanceof StoreError || error instanceof HostError || isListenError(error);
  const words =
    error instanceof Error ? (clear ? error.message : (error.stack ?? error.message)) : String(error);
  process.stderr.write(`weftd: ${words}\n`);
  process.exit(1);
}

function isListenError(error: unknown): boolean {
  return error instanceof Error && 'syscall' in error && 'code' in error;
}
