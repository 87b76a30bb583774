/**
 * The data thread's wiring: the loop, the volumes it serves, and io_uring where it can be had. Started as a worker
 * by nbd/server.ts; its mail comes by a MessagePort, with an eventfd that wakes the loop.
 */
import { parentPort, receiveMessageOnPort, workerData, type MessagePort } from 'node:worker_threads';
import { EventFd } from '../../host/eventfd.js';
import { IoUring } from '../../host/ioUring.js';
import { setThreadName } from '../../host/process.js';
import { AT_SERVER } from '../nbd/counters.js';
import { Loop } from '../nbd/loop.js';
import type { FromLoop, ToLoop } from '../nbd/messages.js';
import { BlockingIo } from '../pool/file.js';
import { FileVolume } from '../pool/fileVolume.js';
import { Later } from '../volume/later.js';
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

  const states = new Map<FileVolume, { volumeId: number; told_ms: number; changed: boolean }>();
  const tell = (volume: FileVolume, now_ms: number): void => {
    const entry = states.get(volume);
    if (entry === undefined || !entry.changed || now_ms < entry.told_ms + STATE_INTERVAL_MS) return;
    entry.changed = false;
    entry.told_ms = now_ms;
    post({ type: 'volumeState', volumeId: entry.volumeId, state: volume.state, reason: volume.reason });
  };
  const onState = (volume: FileVolume): void => {
    const entry = states.get(volume);
    if (entry === undefined) return;
    entry.changed = true;
    tell(volume, now_ms());
  };

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
    openVolume: (volumeId, { base }) => {
      if (base.kind !== 'file') throw new Error(`a volume of ${base.kind} cannot be opened yet`);
      const { fd, size_bytes } = base;
      const volume = new FileVolume({ fd, size_bytes, slow, later, now_ms, onState });
      states.set(volume, { volumeId, told_ms: -Infinity, changed: false });
      return volume;
    },
    closedVolume: volume => states.delete(volume as FileVolume),
    tick: now => {
      for (const volume of states.keys()) tell(volume, now);
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

function now_ms(): number {
  return performance.now();
}

main(workerData as DataThreadStart, message => parentPort!.postMessage(message));
