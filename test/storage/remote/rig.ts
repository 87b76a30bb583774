/**
 * The remote volume with a server of others as a process: sockets and epoll are the real ones, and time is the wall's. Everything
 * blocks, as in the data thread: JavaScript's own event loop does not run meanwhile.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { Epoll } from '../../../host/epoll.js';
import type { AlignedVolume } from '../../../storage/remote/aligned.js';
import { openRemote } from '../../../storage/remote/loop.js';
import { Later } from '../../../storage/volume/later.js';
import type { RemoteOpening, TlsOpening } from '../../../storage/volume/opening.js';
import type { Reactor, Settler, Watcher } from '../../../storage/volume/reactor.js';
import { EXAM_BYTES, type Examined } from '../volume/suite.js';
import { isListening } from '../../listening.js';

/** A loop with nothing but sockets. */
class TestLoop implements Reactor {
  readonly later = new Later();
  readonly addresses = new Map<string, readonly string[]>();
  readonly remoteTls = new Map<string, TlsOpening>();
  readonly now_ms = (): number => performance.now();
  #epoll = new Epoll(16);
  #watchers = new Map<number, Watcher>();
  #settlers: Settler[] = [];

  watch(fd: number, events: number, watcher: Watcher): void {
    if (this.#watchers.has(fd)) this.#epoll.modify(fd, events, fd);
    else this.#epoll.add(fd, events, fd);
    this.#watchers.set(fd, watcher);
  }
  unwatch(fd: number): void {
    this.#watchers.delete(fd);
    this.#epoll.remove(fd);
  }
  touch(settler: Settler): void {
    this.#settlers.push(settler);
  }
  turn(wait_ms: number): void {
    const sleep_ms = this.later.pending > 0 || this.#settlers.length > 0 ? 0 : wait_ms;
    const count = this.#epoll.wait(sleep_ms);
    for (let i = 0; i < count; i++) this.#watchers.get(this.#epoll.tokens[i]!)?.ready(this.#epoll.events[i]!);
    this.later.turn();
    for (let i = 0; i < this.#settlers.length; i++) this.#settlers[i]!.settle();
    this.#settlers.length = 0;
  }
  close(): void {
    this.#epoll.close();
  }
}

export type Command = (file: string, socket: string) => string[];

export class Server {
  readonly room = fs.mkdtempSync(path.join(os.tmpdir(), 'weft-remote-'));
  readonly file = path.join(this.room, 'disk');
  readonly socket = path.join(this.room, 'sock');
  #command: Command;
  #child: ChildProcess | null = null;

  constructor(command: Command, size_bytes = EXAM_BYTES) {
    this.#command = command;
    fs.writeFileSync(this.file, '');
    fs.truncateSync(this.file, size_bytes);
  }
  /** Returns when it listens, or when the file stands there in which it says so. */
  start(): this {
    fs.rmSync(this.socket, { force: true });
    const [program, ...args] = this.#command(this.file, this.socket);
    this.#child = spawn(program!, args, { stdio: 'ignore' });
    const isReady = (): boolean =>
      isListening(this.socket) || fs.statSync(this.socket, { throwIfNoEntry: false })?.isFile() === true;
    for (let i = 0; !isReady(); i++) {
      if (i > 6000) throw new Error(`${program} does not start`);
      sleep(10);
    }
    return this;
  }
  kill(): void {
    if (this.#child?.pid === undefined) return;
    process.kill(this.#child.pid, 'SIGKILL');
    // The event loop does not run here, so the child stays a zombie; its sockets are gone when it is one.
    while (!/^State:\s+[ZX]/m.test(statusOf(this.#child.pid))) sleep(1);
    this.#child = null;
  }
  close(): void {
    this.kill();
    fs.rmSync(this.room, { recursive: true });
  }
}

function statusOf(pid: number): string {
  try {
    return fs.readFileSync(`/proc/${pid}/status`, 'utf8');
  } catch {
    return 'State: X';
  }
}

function sleep(time_ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, time_ms);
}

export interface RealExamined extends Examined {
  server: Server;
  volume: AlignedVolume;
  /** Of hosts' names. */
  addresses: Map<string, readonly string[]>;
  /** Told since it was opened, by name of the pool. */
  remoteTls: Map<string, TlsOpening>;
  /** How often its state was told. */
  toldCount: number;
}

export function make(command: Command, more: Partial<RemoteOpening> = {}): RealExamined {
  const server = new Server(command).start();
  const loop = new TestLoop();
  const volume = openRemote(
    {
      kind: 'remote',
      server: { kind: 'unix', path: server.socket },
      exportName: '',
      size_bytes: EXAM_BYTES,
      connections: 1,
      patience_ms: 20_000,
      tls: null,
      pool: 'far',
      ...more,
    },
    loop,
    () => void examined.toldCount++,
  );
  let next_ms = 0;
  const examined: RealExamined = {
    server,
    volume,
    addresses: loop.addresses,
    remoteTls: loop.remoteTls,
    toldCount: 0,
    vagueExtents: true,
    turn: () => {
      loop.turn(1);
      if (loop.now_ms() < next_ms) return;
      next_ms = loop.now_ms() + 20;
      volume.tick(loop.now_ms());
    },
    grow: size_bytes => {
      server.kill();
      fs.truncateSync(server.file, size_bytes);
      server.start();
      volume.grow(size_bytes);
    },
    close: () => {
      volume.close();
      loop.close();
      server.close();
    },
  };
  return examined;
}
