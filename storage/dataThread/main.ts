/**
 * The data thread's wiring: the loop, the volumes it serves, and io_uring where it can be had. Started as a worker
 * by nbd/server.ts; its mail comes by a MessagePort, with an eventfd that wakes the loop.
 */
import * as fs from 'node:fs';
import { parentPort, receiveMessageOnPort, workerData, type MessagePort } from 'node:worker_threads';
import { EventFd } from '../../host/eventfd.js';
import { IoUring } from '../../host/ioUring.js';
import { mapAnonymous } from '../../host/memory.js';
import { setThreadName } from '../../host/process.js';
import { KernelIo } from '../layers/kernelIo.js';
import { RegionBudget } from '../layers/regions.js';
import { AT_SERVER } from '../nbd/counters.js';
import { CONNECTION_LIMIT, DESCRIPTORS_FOR_CLIENTS } from '../nbd/limits.js';
import { Loop } from '../nbd/loop.js';
import type { FromLoop, ToLoop } from '../nbd/messages.js';
import { BlockingIo } from '../pool/file.js';
import { Later } from '../volume/later.js';
import { Guests } from '../vhost/guests.js';
import { Limits } from '../volume/limited.js';
import type { LayersOpening } from '../volume/opening.js';
import { Arena, newChecksum } from './arena.js';
import { Builder, changeLayers, type Built } from './build.js';
import { RingIo } from './ring.js';

export interface DataThreadStart {
  readonly mailFd: number;
  readonly mailPort: MessagePort;
  readonly serverCounters: Float64Array;
  /** For tests and for comparison. */
  readonly ioUring: boolean;
}

/** Slow requests in the submission ring at a time; more wait in RingIo. */
const RING_ENTRIES = 256;
/** A volume's state is told at most so often, whatever its writes meet. */
const STATE_INTERVAL_MS = 200;

function main(start: DataThreadStart, post: (message: FromLoop) => void): void {
  setThreadName('weft-data');
  const later = new Later();
  const available = start.ioUring ? IoUring.available() : { available: false, reason: 'switched off' };
  const ringSignal = available.available ? EventFd.create() : null;
  const uring = ringSignal === null ? null : new IoUring(RING_ENTRIES, ringSignal);
  const ring = uring === null ? null : new RingIo(uring);
  const slow = ring ?? new BlockingIo(later);

  const states = new Map<Built, { told_ms: number; changed: boolean; mirrorLeft_bytes: number }>();
  const tell = (built: Built, now_ms: number): void => {
    const entry = states.get(built);
    if (entry === undefined || !entry.changed || now_ms < entry.told_ms + STATE_INTERVAL_MS) return;
    entry.changed = false;
    entry.told_ms = now_ms;
    const { volumeId, state, reason, checksumErrors, mirrorStatus: mirror } = built;
    const serverSize_bytes = built.remote?.serverSize_bytes ?? null;
    entry.mirrorLeft_bytes = mirror?.left_bytes ?? 0;
    post({ type: 'volumeState', volumeId, state, reason, checksumErrors, mirror, serverSize_bytes });
  };
  const checksum = newChecksum();
  const limits = new Limits(now_ms);
  const budget = new RegionBudget();
  const builder = new Builder({
    io: new KernelIo(slow),
    slow,
    allocate: mapAnonymous,
    later,
    checksum,
    budget,
    now_ms,
    limits,
    onState: built => {
      const entry = states.get(built);
      if (entry === undefined) return;
      entry.changed = true;
      tell(built, now_ms());
    },
  });

  start.serverCounters[AT_SERVER.ioUring] = ring === null ? 0 : 1;
  const loop = new Loop({
    mail: EventFd.of(start.mailFd),
    receiveMail: () => receiveMessageOnPort(start.mailPort)?.message as ToLoop | undefined,
    post,
    serverCounters: start.serverCounters,
    later,
    ring,
    ringSignal,
    now_ms,
    connectionLimit: Math.min(CONNECTION_LIMIT, Math.floor(descriptorLimit() * DESCRIPTORS_FOR_CLIENTS)),
    openVolume: (volumeId, opening, reactor) => {
      const built = builder.open(volumeId, opening, reactor);
      states.set(built, { told_ms: -Infinity, changed: built.mirror !== null, mirrorLeft_bytes: 0 });
      return built;
    },
    closedVolume: held => {
      const built = held as Built;
      states.delete(built);
      built.close();
    },
    changeLayers: (how, changes) =>
      changeLayers(how, changes as readonly { held: Built; base: LayersOpening }[]),
    allocate: new Arena(checksum).allocate,
    guests: (reactor, pool, guestBudget) =>
      new Guests({
        reactor,
        pool,
        budget: guestBudget,
        onFault: (listenerId, reason) => post({ type: 'guestFault', listenerId, reason }),
      }),
    timed: limits,
    isFinishing: layer => budget.finishing.has(layer),
    limitVolume: (held, opening) => (held as Built).limited.limit(opening),
    tick: now => {
      for (const [built, entry] of states) {
        built.tick(now);
        if (built.mirror !== null && built.mirror.left_bytes !== entry.mirrorLeft_bytes) entry.changed = true;
        tell(built, now);
      }
    },
  });
  post({
    type: 'ready',
    ioUring: ring !== null,
    ioUringReason: 'reason' in available ? available.reason : null,
  });
  loop.run();
  uring?.close();
}

/** RLIMIT_NOFILE, as it is now; proc(5). */
function descriptorLimit(): number {
  const limits = fs.readFileSync('/proc/self/limits', 'utf8');
  return Number(/^Max open files +(\d+)/m.exec(limits)?.[1] ?? Infinity);
}

function now_ms(): number {
  return performance.now();
}

main(workerData as DataThreadStart, message => parentPort!.postMessage(message));
