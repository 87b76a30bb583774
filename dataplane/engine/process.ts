/** The engine as the HTTP thread sees it: starts the thread, sends commands, passes on what it tells. */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { EventFd } from '../../host/eventfd.js';
import type { Answers, Command, Notice, Refusal, Request } from './messages.js';

export class EngineRefused extends Error {
  readonly code: string;
  constructor({ code, message }: Refusal) {
    super(message);
    this.code = code;
  }
}

interface Waiting {
  resolve(answer: unknown): void;
  reject(error: Error): void;
}

export class Engine {
  readonly counters: Float64Array<SharedArrayBuffer>;
  readonly #worker: Worker;
  readonly #signal: EventFd;
  readonly #waiting = new Map<number, Waiting>();
  #nextId = 1;
  #isStopped = false;

  private constructor(worker: Worker, signal: EventFd, counters: Float64Array<SharedArrayBuffer>) {
    this.#worker = worker;
    this.#signal = signal;
    this.counters = counters;
  }

  /** `onEnd` is called when the thread ended without being told to; `error` is why. */
  static async start(onNotice: (notice: Notice) => void, onEnd: (error: Error) => void): Promise<Engine> {
    const signal = EventFd.create();
    const worker = new Worker(new URL('./main.js', import.meta.url), {
      workerData: { eventFd: signal.fd },
      name: 'weft-engine',
    });
    const [first] = (await once(worker, 'message')) as [Notice];
    if (first.type !== 'ready') throw new Error(`the engine began with ${first.type}`);
    const engine = new Engine(worker, signal, first.counters);
    worker.on('message', (notice: Notice) => {
      if (notice.type === 'answer' || notice.type === 'refusal') engine.#answered(notice);
      else onNotice(notice);
    });
    worker.on('error', error => engine.#ended(error, onEnd));
    worker.on('exit', () => engine.#ended(new Error('the engine thread has ended'), onEnd));
    return engine;
  }

  async ask<C extends Command>(command: C): Promise<Answers[C['op']]> {
    if (this.#isStopped) throw new EngineRefused({ code: 'STOPPING', message: 'the plane is being stopped' });
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve: resolve as (answer: unknown) => void, reject });
      const request: Request = { id, command };
      this.#worker.postMessage(request);
      this.#signal.signal();
    });
  }

  async stop(): Promise<void> {
    if (this.#isStopped) return;
    const exit = once(this.#worker, 'exit');
    const stopped = this.ask({ op: 'stop' });
    this.#isStopped = true;
    await stopped;
    await exit;
    this.#signal.close();
  }

  #answered(notice: Extract<Notice, { type: 'answer' | 'refusal' }>): void {
    const waiting = this.#waiting.get(notice.id);
    this.#waiting.delete(notice.id);
    if (notice.type === 'answer') waiting?.resolve(notice.answer);
    else waiting?.reject(new EngineRefused(notice.refusal));
  }

  #ended(error: Error, onEnd: (error: Error) => void): void {
    for (const waiting of this.#waiting.values()) waiting.reject(error);
    this.#waiting.clear();
    if (this.#isStopped) return;
    this.#isStopped = true;
    onEnd(error);
  }
}
