/**
 * The engine's thread: real memory, epoll and clocks, and the command channel. It never returns to the JS event
 * loop while it runs: commands are fetched from the message port when the event fd says that there are some.
 */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { EPOLLIN, Epoll } from '../../host/epoll.js';
import { EventFd } from '../../host/eventfd.js';
import { mapAnonymous } from '../../host/memory.js';
import { setThreadName } from '../../host/process.js';
import { Gather } from '../ports/gather.js';
import { desk } from '../ports/kernel/desk.js';
import { App, CommandRefused } from './app.js';
import { Arena, arenaLength } from './arena.js';
import { E } from './counters.js';
import { Loop } from './loop.js';
import type { Notice, Request } from './messages.js';
import { BufferPool } from './pool.js';

/** 4096 slots reserve 285 MB of address space; what was never used of them costs no memory. */
const SLOTS_COUNT = 4096;
/** For AF_XDP: 32 MB, which the kernel pins with the first port of that kind, and costs nothing before. */
const CHUNKS_COUNT = 8192;

const { eventFd } = workerData as { eventFd: number };
const port = parentPort!;
const tell = (notice: Notice): void => port.postMessage(notice);

setThreadName('weft-engine');
desk.send = ask => tell({ type: 'shortcut', ask });
const arena = new Arena(mapAnonymous(arenaLength(SLOTS_COUNT, CHUNKS_COUNT)), SLOTS_COUNT, CHUNKS_COUNT);
const pool = new BufferPool(arena);
const loop = new Loop(pool, new Epoll(256), () => performance.now());

/** machine-id(5), and the name of the host: copies of one image often have the same id. */
function hostIdentity(): string {
  let id = '';
  try {
    id = readFileSync('/etc/machine-id', 'latin1').trim();
  } catch {
    // Not every host has one.
  }
  return `${id} ${hostname()}`;
}

/** The engine's clock is monotonic and fine-grained; the wall's is neither, and may be set. */
let wallOffset_ms = performance.timeOrigin;
function wallClock_us(): number {
  const now_ms = performance.now();
  const wall_ms = Date.now();
  if (Math.abs(wall_ms - now_ms - wallOffset_ms) > 2) wallOffset_ms = wall_ms - now_ms;
  return Math.round((wallOffset_ms + now_ms) * 1000);
}
const app = new App(loop, { gather: new Gather(arena), wallClock_us }, tell, hostIdentity());

const signal = EventFd.of(eventFd);
let isSignalled = false;
loop.watch(eventFd, EPOLLIN, {
  ready: () => {
    signal.drain();
    isSignalled = true;
  },
});

/** False when it was told to stop. */
function takeCommands(): boolean {
  let message = receiveMessageOnPort(port) as { message: Request } | undefined;
  for (; message !== undefined; message = receiveMessageOnPort(port) as { message: Request } | undefined) {
    const { id, command } = message.message;
    loop.counters[E.commands]!++;
    try {
      tell({ type: 'answer', id, answer: app.carryOut(command) });
    } catch (error) {
      if (!(error instanceof CommandRefused)) throw error;
      tell({ type: 'refusal', id, refusal: error.refusal });
    }
    if (command.op === 'stop') return false;
  }
  return true;
}

loop.counters[E.buffers] = SLOTS_COUNT;
tell({ type: 'ready', counters: loop.counters });
for (let runs = true; runs;) {
  loop.turn();
  if (isSignalled) {
    isSignalled = false;
    runs = takeCommands();
  }
}
port.close();
