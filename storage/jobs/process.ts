/**
 * The jobs thread as the main thread sees it: questions with answers. A thread that ends is started again by the next question;
 * what it was asked is rejected with JOB_THREAD_GONE.
 */
import { Worker } from 'node:worker_threads';
import { JobError, type JobErrorCode } from './errors.js';
import type { FromJobs, TaskKind, Tasks, ToJobs } from './messages.js';
import type { Finding } from './slices.js';

export interface TaskWatcher {
  progress(done_bytes: number, total_bytes: number | null): void;
  found(finding: Finding): void;
}

interface Asked {
  readonly resolve: (answer: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly watcher: TaskWatcher | null;
}

export interface Asking<A> {
  readonly answer: Promise<A>;
  /** `stopping`: what goes on some other time is kept. */
  readonly cancel: (stopping: boolean) => void;
}

export class JobsThread {
  #worker: Worker | null = null;
  #asked = new Map<number, Asked>();
  #nextTask = 1;

  ask<K extends TaskKind>(
    kind: K,
    ask: Tasks[K]['ask'],
    options: { rate_bytes_per_s?: number | undefined; watcher?: TaskWatcher } = {},
  ): Asking<Tasks[K]['answer']> {
    const task = this.#nextTask++;
    const answer = new Promise<Tasks[K]['answer']>((resolve, reject) => {
      this.#asked.set(task, {
        resolve: resolve as (answer: unknown) => void,
        reject,
        watcher: options.watcher ?? null,
      });
    });
    const rate_bytes_per_s = options.rate_bytes_per_s ?? null;
    this.#post({ type: 'run', task, kind, ask, rate_bytes_per_s } as ToJobs);
    const cancel = (stopping: boolean): void =>
      this.#worker?.postMessage({ type: 'cancel', task, stopping } satisfies ToJobs);
    return { answer, cancel };
  }

  /** What runs is cancelled at its next slice. */
  async stop(): Promise<void> {
    const worker = this.#worker;
    if (worker === null) return;
    const ended = new Promise<void>(resolve => worker.once('exit', () => resolve()));
    worker.postMessage({ type: 'stop' } satisfies ToJobs);
    await ended;
  }

  /** For tests: as if it had crashed. */
  async kill(): Promise<void> {
    await this.#worker?.terminate();
  }

  #post(message: ToJobs): void {
    this.#worker ??= this.#start();
    this.#worker.postMessage(message);
  }

  #start(): Worker {
    const worker = new Worker(new URL('./main.js', import.meta.url));
    worker.on('message', (message: FromJobs) => this.#receive(message));
    worker.on('error', error => this.#gone(worker, error instanceof Error ? error.message : String(error)));
    worker.on('exit', () => this.#gone(worker, 'it ended'));
    return worker;
  }

  #receive(message: FromJobs): void {
    const asked = this.#asked.get(message.task);
    if (asked === undefined) return;
    if (message.type === 'progress') asked.watcher?.progress(message.done_bytes, message.total_bytes);
    else if (message.type === 'found') asked.watcher?.found(message.finding);
    else {
      this.#asked.delete(message.task);
      if (message.type === 'done') asked.resolve(message.answer);
      else asked.reject(new JobError(message.code as JobErrorCode, message.message));
    }
  }

  #gone(worker: Worker, why: string): void {
    if (this.#worker !== worker) return;
    this.#worker = null;
    const all = [...this.#asked.values()];
    this.#asked.clear();
    for (const { reject } of all)
      reject(new JobError('JOB_THREAD_GONE', `the jobs thread is gone (${why}): begin again`));
  }
}
