/**
 * The jobs thread: runs what server.ts asks of it (messages.ts), several tasks in turns. Each gives way after every slice; all of
 * them to the threads that serve clients, as this one is nice. It holds nothing: when it dies, nothing is lost but work.
 */
import * as os from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parentPort } from 'node:worker_threads';
import { setThreadName } from '../../host/process.js';
import { Checksum } from '../checksum/checksum.js';
import { StorageError } from '../volume/errors.js';
import { JobError } from './errors.js';
import type { FromJobs, TaskKind, ToJobs } from './messages.js';
import { Pace } from './pace.js';
import { SLICE_BYTES, type Slices } from './slices.js';
import { newTasks, type Task } from './tasks.js';

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
const tasks = newTasks(checksum);
const freeBuffers: Uint8Array[] = [];
for (let i = 0; i < BUFFERS; i++) freeBuffers.push(checksum.take(SLICE_BYTES)!);

class TaskSlices implements Slices {
  #task: number;
  #pace: Pace;
  #cancelling = new AbortController();
  #stopping = false;
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

  cancel(stopping: boolean): void {
    this.#stopping ||= stopping;
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
    if (!this.#cancelling.signal.aborted) return;
    throw this.#stopping
      ? new JobError('JOB_STOPPED', 'weft-storage was stopped: begin again')
      : new JobError('JOB_CANCELLED', 'cancelled');
  }
}

const running = new Map<number, TaskSlices>();

async function run(message: Extract<ToJobs, { type: 'run' }>): Promise<void> {
  const { task, rate_bytes_per_s } = message;
  const slices = new TaskSlices(task, rate_bytes_per_s);
  running.set(task, slices);
  const buffer = freeBuffers.pop() ?? new Uint8Array(SLICE_BYTES);
  try {
    // Kind and ask belong together in each message, which the compiler cannot see through the table.
    const body = tasks[message.kind] as Task<TaskKind>;
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
  if (message.type === 'cancel') return running.get(message.task)?.cancel(message.stopping);
  for (const slices of running.values()) slices.cancel(true);
  port.close();
});
