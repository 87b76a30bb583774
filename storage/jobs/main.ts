/**
 * The jobs thread: runs what server.ts asks of it (messages.ts), several tasks in turns. Each gives way after every slice; all of
 * them to the threads that serve clients, as this one is nice. It holds nothing: when it dies, nothing is lost but work.
 */
import * as os from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parentPort } from 'node:worker_threads';
import { setThreadName } from '../../host/process.js';
import { Checksum } from '../checksum/checksum.js';
import { connect } from '../remote/session.js';
import { StorageError } from '../volume/errors.js';
import type { LayerOpening } from '../volume/opening.js';
import { beginMaking, freeName, listBackups, manifestsOf, openPlace } from './backupPlace.js';
import { writeBackup, writeRemote } from './backupTask.js';
import { copyChain, mergeLayers } from './copyTask.js';
import { JobError } from './errors.js';
import { LayerFile } from './layerFile.js';
import { newestOf } from './manifest.js';
import type { FromJobs, TaskKind, Tasks, ToJobs } from './messages.js';
import { Pace } from './pace.js';
import { findChain, restoreChain, verifyBackups } from './restoreTask.js';
import { scrubLayers } from './scrubTask.js';
import { SLICE_BYTES, type Slices } from './slices.js';

const NICE = 19;
const PROGRESS_MS = 250;
/** Of a task; the sum of what has no end is told in words at the end. */
const FINDINGS_LIMIT = 1000;
/** Without a rate, so much may pass before others get their turn. */
const TURN_MS = 10;
/** Tasks at a time: those of server.ts, and its short questions. */
const BUFFERS = 4;

const port = parentPort!;
const post = (message: FromJobs): void => port.postMessage(message);
const checksum = new Checksum((BUFFERS + 1) * SLICE_BYTES);
const freeBuffers: Uint8Array[] = [];
for (let i = 0; i < BUFFERS; i++) freeBuffers.push(checksum.take(SLICE_BYTES)!);

class TaskSlices implements Slices {
  #task: number;
  #pace: Pace;
  #cancelling = new AbortController();
  #done_bytes = 0;
  #total_bytes: number | null = null;
  #told_ms = 0;
  #began_ms = performance.now();
  #moved_bytes = 0;
  #findings = 0;

  constructor(task: number, rate_bytes_per_s: number | null) {
    this.#task = task;
    this.#pace = new Pace(rate_bytes_per_s, performance.now());
  }

  cancel(): void {
    this.#cancelling.abort();
  }

  async moved(bytes: number): Promise<void> {
    this.#done_bytes += bytes;
    this.#moved_bytes += bytes;
    const now_ms = performance.now();
    if (now_ms - this.#told_ms >= PROGRESS_MS) this.tell(now_ms);
    if (this.#moved_bytes < SLICE_BYTES && now_ms - this.#began_ms < TURN_MS) return this.#check();
    const rest_ms = this.#pace.after(this.#moved_bytes, this.#began_ms, now_ms);
    await sleep(rest_ms, undefined, { signal: this.#cancelling.signal }).catch(() => undefined);
    this.#moved_bytes = 0;
    this.#began_ms = performance.now();
    this.#check();
  }

  expect(total_bytes: number): void {
    this.#total_bytes = total_bytes;
    this.#done_bytes = 0;
    this.tell(performance.now());
  }

  found(what: string, offset_bytes?: number, length_bytes?: number): void {
    if (++this.#findings > FINDINGS_LIMIT) return;
    const finding = { what, offset_bytes: offset_bytes ?? null, length_bytes: length_bytes ?? null };
    post({ type: 'found', task: this.#task, finding });
  }

  tell(now_ms: number): void {
    this.#told_ms = now_ms;
    post({
      type: 'progress',
      task: this.#task,
      done_bytes: this.#done_bytes,
      total_bytes: this.#total_bytes,
    });
  }

  #check(): void {
    if (this.#cancelling.signal.aborted) throw new JobError('JOB_CANCELLED', 'cancelled');
  }
}

type Body<K extends TaskKind> = (
  ask: Tasks[K]['ask'],
  slices: Slices,
  buffer: Uint8Array,
) => Tasks[K]['answer'] | Promise<Tasks[K]['answer']>;

const layerOf = (opening: LayerOpening): LayerFile => new LayerFile(opening, checksum);

const BODIES: { readonly [K in TaskKind]: Body<K> } = {
  merge: ({ lower, upper, lowest }, slices, buffer) =>
    mergeLayers(layerOf(lower), layerOf(upper), lowest, buffer, slices),
  flatten: async ({ shared, reach_bytes, into }, slices, buffer) => ({
    copied_bytes: await copyChain(shared.map(layerOf), reach_bytes, layerOf(into), buffer, slices),
  }),
  scrub: ({ layers }, slices, buffer) => scrubLayers(layers, checksum, buffer, slices),
  place: ({ directory, volume, volumeUuid }) => {
    const placeUuid = openPlace(directory);
    const { manifests, problems } = manifestsOf(directory, volume);
    const last = newestOf(manifests.filter(one => one.uuid === volumeUuid));
    return {
      placeUuid,
      last:
        last === null
          ? null
          : {
              name: last.name,
              snapshotUuid: last.snapshot.uuid,
              sequence: last.sequence,
              manifestSha256: last.sha256,
            },
      lastSequence: newestOf(manifests)?.sequence ?? 0,
      problems,
    };
  },
  backup: async (ask, slices, buffer) => {
    const { chain, from, directory, volume, snapshot, sequence, base, createdAt_ms } = ask;
    const making = beginMaking(directory, volume.name);
    try {
      const name = freeName(directory, volume.name, ask.name);
      const { uuid, size_bytes } = volume;
      const head = { uuid, volume: volume.name, name, size_bytes, sequence, snapshot, base, createdAt_ms };
      const layers = chain.map(layerOf);
      const older = from?.map(layerOf) ?? null;
      const manifest = await writeBackup(layers, older, head, making, buffer, slices);
      making.publish(name);
      return { name, data_bytes: manifest.data_bytes, zero_bytes: manifest.zero_bytes };
    } finally {
      making.close();
    }
  },
  remoteBackup: async ({ chain, from, target }, slices, buffer) => {
    const session = await connect(target.address, target.exportName, target.tls);
    try {
      const older = from?.map(layerOf) ?? null;
      return { data_bytes: await writeRemote(chain.map(layerOf), older, session, buffer, slices) };
    } finally {
      await session.close();
    }
  },
  findBackup: ({ directory, volume, backup }) => {
    const chain = findChain(directory, volume, backup);
    const { name, size_bytes } = chain.at(-1)!;
    return { name, size_bytes, count: chain.length };
  },
  restore: async ({ directory, volume, backup, into }, slices, buffer) => {
    const chain = findChain(directory, volume, backup);
    await restoreChain(directory, chain, layerOf(into), buffer, slices);
    return { count: chain.length };
  },
  verify: ({ directory, volume, backup }, slices, buffer) =>
    verifyBackups(directory, volume, backup, buffer, slices),
  list: ({ directory }) => listBackups(directory),
};

const running = new Map<number, TaskSlices>();

async function run(message: Extract<ToJobs, { type: 'run' }>): Promise<void> {
  const { task, rate_bytes_per_s } = message;
  const slices = new TaskSlices(task, rate_bytes_per_s);
  running.set(task, slices);
  const buffer = freeBuffers.pop() ?? new Uint8Array(SLICE_BYTES);
  try {
    // Kind and ask belong together in each message, which the compiler cannot see through the table.
    const body = BODIES[message.kind] as Body<TaskKind>;
    const answer = await body(message.ask, slices, buffer);
    slices.tell(performance.now());
    post({ type: 'done', task, answer });
  } catch (error) {
    const known = error instanceof JobError || error instanceof StorageError;
    const text = error instanceof Error ? (known ? error.message : String(error.stack)) : String(error);
    post({ type: 'failed', task, code: known ? error.code : 'JOB_IO', message: text });
  } finally {
    running.delete(task);
    // Those that were made for more tasks at once than are usual go.
    if (buffer.buffer === checksum.bytes.buffer) freeBuffers.push(buffer);
  }
}

setThreadName('weft-jobs');
try {
  // Of this thread only: that is what Linux means by 0 here.
  os.setPriority(0, NICE);
} catch {
  // Not allowed to be nice, so not nice.
}
port.on('message', (message: ToJobs) => {
  if (message.type === 'run') return void run(message);
  if (message.type === 'cancel') return running.get(message.task)?.cancel();
  for (const slices of running.values()) slices.cancel();
  port.close();
});
