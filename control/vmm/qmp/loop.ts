/**
 * One connection to one of QEMU's two monitors. QEMU serves one client per monitor: a second one connects,
 * but is not greeted; what happens while nobody is connected is not told later.
 *
 * Every call has a deadline. A call whose deadline has passed is given up by its caller, but its answer is
 * still recognised when it comes (`onLate`): that is how a guest that was silent shows that it is back.
 * Out-of-band execution must be negotiated in the first command, so the spare monitor asks for it at once:
 * when QEMU's main loop stands still it is too late.
 */
import { connect, type Socket } from 'node:net';
import { emitCommand, LineCutter, parseMessage, type QmpMessage } from './codec.js';

/** For a sound QEMU even a slow one is far below; a silent one must not hold up its caller for longer. */
export const CALL_DEADLINE_ms = 5000;
/** Calls without an answer yet, late ones included. QEMU itself takes 8 at a time. */
export const MAX_OUTSTANDING_CALLS = 64;

export type QmpErrorCode =
  /** No answer in time. */
  | 'QMP_DEADLINE'
  /** The connection has ended. */
  | 'QMP_CLOSED'
  /** QEMU said no. */
  | 'QMP_REFUSED'
  /** Too many calls are waiting. */
  | 'QMP_BUSY'
  /** Nobody listens there, or it is not QMP. */
  | 'QMP_CONNECT';

export class QmpError extends Error {
  override readonly name = 'QmpError';
  readonly code: QmpErrorCode;
  constructor(code: QmpErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

export interface MonitorEvents {
  onEvent(event: string, data: Readonly<Record<string, unknown>>): void;
  /** Exactly once, also after `close()`. */
  onClose(): void;
  /** An answer came after its call had been given up. */
  onLate(): void;
}

interface Waiting {
  resolve(value: unknown): void;
  reject(error: QmpError): void;
  timer: NodeJS.Timeout;
  execute: string;
}

export class Monitor {
  readonly version: string;
  readonly oob: boolean;
  readonly counters = { calls: 0, events: 0, lateReplies: 0, invalidLines: 0 };
  #socket: Socket;
  #events: MonitorEvents;
  #waiting = new Map<number, Waiting>();
  /** Given up by their callers, not yet answered. */
  #late = new Set<number>();
  #nextId = 1;
  #closed = false;

  private constructor(socket: Socket, version: string, oob: boolean, events: MonitorEvents) {
    this.#socket = socket;
    this.#events = events;
    this.version = version;
    this.oob = oob;
  }

  /** Resolves when QEMU has greeted and the capabilities are agreed on. */
  static async connect(
    path: string,
    events: MonitorEvents,
    options: { oob?: boolean; deadline_ms?: number } = {},
  ): Promise<Monitor> {
    const deadline_ms = options.deadline_ms ?? CALL_DEADLINE_ms;
    const socket = connect(path);
    const cutter = new LineCutter();
    // Lines that come in the same chunk as the greeting wait here until there is a monitor to take them.
    const early: string[] = [];
    const made: { monitor: Monitor | undefined; greeted: boolean } = { monitor: undefined, greeted: false };
    const greeting = await new Promise<Extract<QmpMessage, { kind: 'greeting' }>>((resolve, reject) => {
      const fail = (words: string, cause?: unknown): void => {
        clearTimeout(timer);
        socket.destroy();
        reject(new QmpError('QMP_CONNECT', `${path}: ${words}`, { cause }));
      };
      const timer = setTimeout(
        () => fail(`QEMU did not greet within ${deadline_ms} ms; is another client connected?`),
        deadline_ms,
      );
      socket.on('error', error => fail(error.message, error));
      socket.on('close', () => fail('QEMU closed the monitor'));
      socket.on('data', chunk => {
        const lines = cutter.push(chunk);
        if (made.monitor !== undefined) {
          made.monitor.#take(lines, cutter.overflowed);
          return;
        }
        const first = made.greeted ? undefined : lines.shift();
        early.push(...lines);
        if (first === undefined) return;
        made.greeted = true;
        const message = parseMessage(first);
        if (message.kind !== 'greeting') {
          fail('what listens there does not speak QMP');
          return;
        }
        clearTimeout(timer);
        resolve(message);
      });
    });
    socket.removeAllListeners('error');
    socket.removeAllListeners('close');
    const oob = options.oob === true && greeting.capabilities.includes('oob');
    const monitor = new Monitor(socket, greeting.version, oob, events);
    made.monitor = monitor;
    socket.on('error', () => socket.destroy());
    socket.on('close', () => monitor.#end());
    socket.unref();
    monitor.#take(early, cutter.overflowed);
    // It may have gone between the greeting and the new listeners.
    if (socket.destroyed) monitor.#end();
    try {
      await monitor.call('qmp_capabilities', oob ? { enable: ['oob'] } : {}, { deadline_ms });
    } catch (error) {
      monitor.close();
      throw error;
    }
    return monitor;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Calls that were given up and have not been answered since. */
  get lateCount(): number {
    return this.#late.size;
  }

  call(
    execute: string,
    args?: Readonly<Record<string, unknown>>,
    options: { deadline_ms?: number; oob?: boolean } = {},
  ): Promise<unknown> {
    const deadline_ms = options.deadline_ms ?? CALL_DEADLINE_ms;
    if (this.#closed) return Promise.reject(new QmpError('QMP_CLOSED', `${execute}: QEMU is gone`));
    if (this.#waiting.size + this.#late.size >= MAX_OUTSTANDING_CALLS)
      return Promise.reject(
        new QmpError('QMP_BUSY', `${execute}: ${MAX_OUTSTANDING_CALLS} earlier calls are unanswered`),
      );
    const id = this.#nextId++;
    this.counters.calls += 1;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        this.#late.add(id);
        reject(new QmpError('QMP_DEADLINE', `${execute}: QEMU did not answer within ${deadline_ms} ms`));
      }, deadline_ms);
      this.#waiting.set(id, { resolve, reject, timer, execute });
      this.#socket.write(
        emitCommand({
          execute,
          id,
          ...(args === undefined ? {} : { arguments: args }),
          oob: options.oob === true && this.oob,
        }),
      );
    });
  }

  close(): void {
    this.#socket.destroy();
    this.#end();
  }

  #take(lines: readonly string[], overflowed: boolean): void {
    for (const line of lines) {
      if (this.#closed) return;
      this.#dispatch(parseMessage(line));
    }
    if (overflowed) this.close();
  }

  #dispatch(message: QmpMessage): void {
    if (message.kind === 'event') {
      this.counters.events += 1;
      this.#events.onEvent(message.event, message.data);
      return;
    }
    if (message.kind !== 'return' && message.kind !== 'error') {
      this.counters.invalidLines += 1;
      return;
    }
    if (message.id === null) {
      this.counters.invalidLines += 1;
      return;
    }
    if (this.#late.delete(message.id)) {
      this.counters.lateReplies += 1;
      this.#events.onLate();
      return;
    }
    const waiting = this.#waiting.get(message.id);
    if (waiting === undefined) return;
    this.#waiting.delete(message.id);
    clearTimeout(waiting.timer);
    if (message.kind === 'return') waiting.resolve(message.value);
    else waiting.reject(new QmpError('QMP_REFUSED', `${waiting.execute}: ${message.desc}`));
  }

  #end(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const waiting of this.#waiting.values()) {
      clearTimeout(waiting.timer);
      waiting.reject(new QmpError('QMP_CLOSED', `${waiting.execute}: QEMU is gone`));
    }
    this.#waiting.clear();
    this.#late.clear();
    this.#events.onClose();
  }
}
