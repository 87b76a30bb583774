/**
 * A client that does hardly anything, so that what is measured is the server: requests that were made beforehand, as many in one
 * send as replies came in one receive, and of each reply only its magic and error are looked at. fio has a core's work
 * with some 200,000 of them in a second, which holds up the faster of two servers and not the slower one.
 *
 *   node leanClient.js SOCKET EXPORT READ-OR-WRITE DEPTH SECONDS SIZE      prints {"seconds": s, "count": n}
 *
 * Blocks of 4 KiB at random, simple replies (the protocol without any option), one connection over a Unix socket.
 */
import { fileURLToPath } from 'node:url';
import { EPOLLIN, Epoll } from '../../../host/epoll.js';
import { mapAnonymous, type Mapping } from '../../../host/memory.js';
import { MSG_NOSIGNAL, close, recv, send } from '../../../host/raw.js';
import { connectUnix } from '../../../host/unix.js';
import {
  NBD_CMD_DISC,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
  NBD_FLAG_C_FIXED_NEWSTYLE,
  NBD_FLAG_C_NO_ZEROES,
  NBD_OPT,
  NBD_SIMPLE_REPLY_MAGIC,
  REQUEST_BYTES,
  SIMPLE_REPLY_BYTES,
  emitRequest,
} from '../../../storage/nbd/wire.js';

const BLOCK_BYTES = 4096;
/** Made once and sent again and again; more than the processor's nearest cache could remember of the blocks they name. */
const REQUESTS_COUNT = 32_768;
const WRITES_COUNT = 2048;
const ROOM_BYTES = 1024 * 1024;
const GREETING_BYTES = 18;
/** Size and transmission flags, without the zeroes behind them. */
const ENTRY_BYTES = 10;
const EAGAIN = -11;
const NOTHING = { flags: 0, cookieHigh: 0, cookieLow: 0, offset: 0n, length: 0 };

export interface LeanLoad {
  readonly socket: string;
  readonly nbdName: string;
  readonly writes: boolean;
  readonly depth: number;
  readonly seconds: number;
  readonly size_bytes: number;
}

/** The command that puts this load on a server. */
export function leanClient(load: LeanLoad): string[] {
  const { socket, nbdName, writes, depth, seconds, size_bytes } = load;
  const how = [socket, nbdName, writes ? 'write' : 'read', depth, seconds, size_bytes].map(String);
  return [process.execPath, fileURLToPath(import.meta.url), ...how];
}

class Line {
  #fd: number;
  #epoll = new Epoll(1);

  constructor(path: string) {
    this.#fd = connectUnix(path);
    this.#epoll.add(this.#fd, EPOLLIN, 0);
  }

  send(address: number, length_bytes: number): void {
    for (let sent = 0; sent < length_bytes;) {
      const n = send(this.#fd, address + sent, length_bytes - sent, MSG_NOSIGNAL);
      if (n < 0 && n !== EAGAIN) throw new Error(`send: errno ${-n}`);
      // Full: a server that reads will make room.
      sent += Math.max(0, n);
    }
  }

  /** What is there, or comes. */
  receive(address: number, length_bytes: number): number {
    for (;;) {
      const n = recv(this.#fd, address, length_bytes, 0);
      if (n > 0) return n;
      if (n !== EAGAIN) throw new Error(n === 0 ? 'the server hung up' : `recv: errno ${-n}`);
      this.#epoll.wait(5000);
    }
  }

  receiveAll(memory: Mapping, length_bytes: number): void {
    for (let have = 0; have < length_bytes;) have += this.receive(memory.address + have, length_bytes - have);
  }

  close(): void {
    this.#epoll.close();
    close(this.#fd);
  }
}

function enter(line: Line, memory: Mapping, nbdName: string): void {
  line.receiveAll(memory, GREETING_BYTES);
  const name = Buffer.from(nbdName);
  memory.view.setUint32(0, NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES);
  memory.bytes.set(Buffer.from('IHAVEOPT'), 4);
  memory.view.setUint32(12, NBD_OPT.EXPORT_NAME);
  memory.view.setUint32(16, name.length);
  memory.bytes.set(name, 20);
  line.send(memory.address, 20 + name.length);
  line.receiveAll(memory, ENTRY_BYTES);
}

function prepare({ writes, size_bytes }: LeanLoad): { requests: Mapping; step: number; count: number } {
  const step = REQUEST_BYTES + (writes ? BLOCK_BYTES : 0);
  const count = writes ? WRITES_COUNT : REQUESTS_COUNT;
  const requests = mapAnonymous(Math.ceil((count * step) / BLOCK_BYTES) * BLOCK_BYTES);
  for (let i = 0; i < count; i++) {
    const block = Math.floor((Math.random() * size_bytes) / BLOCK_BYTES);
    requests.bytes.fill(i, i * step, (i + 1) * step);
    emitRequest(requests.view, i * step, {
      flags: 0,
      type: writes ? NBD_CMD_WRITE : NBD_CMD_READ,
      cookieHigh: 0,
      cookieLow: i,
      offset: BigInt(block) * BigInt(BLOCK_BYTES),
      length: BLOCK_BYTES,
    });
  }
  return { requests, step, count };
}

function load(how: LeanLoad): { seconds: number; count: number } {
  const { requests, step, count } = prepare(how);
  const memory = mapAnonymous(ROOM_BYTES);
  const line = new Line(how.socket);
  enter(line, memory, how.nbdName);
  const reply = SIMPLE_REPLY_BYTES + (how.writes ? 0 : BLOCK_BYTES);
  let next = 0;
  const ask = (wanted: number): void => {
    while (wanted > 0) {
      const now = Math.min(wanted, count - next);
      line.send(requests.address + next * step, now * step);
      next = (next + now) % count;
      wanted -= now;
    }
  };
  let done = 0;
  let have = 0;
  const takeSome = (): number => {
    have += line.receive(memory.address + have, ROOM_BYTES - have);
    let at = 0;
    for (; have - at >= reply; at += reply) {
      if (memory.view.getUint32(at) !== NBD_SIMPLE_REPLY_MAGIC || memory.view.getUint32(at + 4) !== 0)
        throw new Error(`no simple reply without an error: ${memory.view.getUint32(at + 4)}`);
    }
    memory.bytes.copyWithin(0, at, have);
    have -= at;
    return at / reply;
  };
  const began_ms = performance.now();
  const until_ms = began_ms + how.seconds * 1000;
  ask(how.depth);
  while (performance.now() < until_ms) {
    const took = takeSome();
    done += took;
    ask(took);
  }
  const seconds = (performance.now() - began_ms) / 1000;
  for (let left = how.depth; left > 0;) left -= takeSome();
  emitRequest(memory.view, 0, { ...NOTHING, type: NBD_CMD_DISC });
  line.send(memory.address, REQUEST_BYTES);
  line.close();
  return { seconds, count: done };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [socket = '', nbdName = '', what, depth, seconds, size_bytes] = process.argv.slice(2);
  const how = { depth: Number(depth), seconds: Number(seconds), size_bytes: Number(size_bytes) };
  process.stdout.write(JSON.stringify(load({ socket, nbdName, writes: what === 'write', ...how })));
}
