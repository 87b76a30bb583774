/**
 * The loop against real sockets, with a clock wound by hand: the limits that take time, and what only the kernel
 * does (hang-ups, full sockets, many connections in one turn).
 */
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import t, { type Test } from 'tap';
import { EventFd } from '../../../host/eventfd.js';
import { mapAnonymous } from '../../../host/memory.js';
import { SHUT_WR, close, recv, send, shutdown } from '../../../host/raw.js';
import { connectUnix, listenUnix } from '../../../host/unix.js';
import { connectTcp, listenTcp } from '../../../host/inet.js';
import {
  AT_EXPORT,
  AT_SERVER,
  EXPORT_COUNTERS,
  SERVER_COUNTERS,
  newCounters,
  type ExportCounter,
  type ServerCounter,
} from '../../../storage/nbd/counters.js';
import { DRAIN_LIMIT_MS, HANDSHAKE_LIMIT_MS, LINGER_LIMIT_MS } from '../../../storage/nbd/limits.js';
import { Loop } from '../../../storage/nbd/loop.js';
import type { HeldVolume } from '../../../storage/nbd/mail.js';
import type { FromLoop, ToLoop } from '../../../storage/nbd/messages.js';
import { NO_RULES, type OfferRules } from '../../../storage/nbd/rules.js';
import * as wire from '../../../storage/nbd/wire.js';
import { FaultyVolume } from '../../../storage/volume/faulty.js';
import { Later } from '../../../storage/volume/later.js';
import { MemoryVolume } from '../../../storage/volume/memory.js';
import { flags, option, requestBytes } from './talk.js';

const SIZE = 16 * 1024 * 1024;
const CONNECTION_LIMIT = 400;
const EAGAIN = -11;
const memory = mapAnonymous(1024 * 1024);

class Rig {
  readonly mail = EventFd.create();
  readonly posted: FromLoop[] = [];
  readonly counters = newCounters(EXPORT_COUNTERS);
  readonly serverCounters = newCounters(SERVER_COUNTERS);
  readonly loop: Loop;
  readonly path: string;
  now_ms = 1000;
  #inbox: ToLoop[] = [];

  constructor(t: Test, delays = false) {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'weft-storage-loop-'));
    t.teardown(() => fs.rmSync(directory, { recursive: true }));
    this.path = path.join(directory, 's');
    const later = new Later();
    const below = new MemoryVolume(SIZE, later);
    const layered = delays
      ? new FaultyVolume(below, later, {
          seed: 1,
          again_ppm: 1_000_000,
          delay_ppm: 1_000_000,
          delayTurns: 40,
        })
      : below;
    const held: HeldVolume = {
      volume: layered,
      busy: false,
      grow: size => below.grow(size),
      shut: done => layered.flush({ completed: (_, result) => done(result) }, 0),
    };
    this.loop = new Loop({
      mail: this.mail,
      receiveMail: () => this.#inbox.shift(),
      post: message => void this.posted.push(message),
      serverCounters: this.serverCounters,
      later,
      ring: null,
      ringSignal: null,
      now_ms: () => this.now_ms,
      openVolume: () => held,
      closedVolume: () => undefined,
      changeLayers: () => ({ result: 0, over: () => true }),
      isFinishing: () => false,
      connectionLimit: CONNECTION_LIMIT,
      limitVolume: () => undefined,
      tick: () => undefined,
    });
    const base = { kind: 'file', fd: -1, size_bytes: SIZE, writable: true } as const;
    this.send({ type: 'openVolume', volumeId: 1, opening: { base, encryptionKey: null, limits: null } });
    this.send({ type: 'listen', listenerId: 2, fd: listenUnix(this.path, { backlog: 4096 }), tcp: false });
    this.offer(3, 'disk');
  }

  offer(exportId: number, nbdName: string, rules: OfferRules = NO_RULES, listenerIds = [2]): void {
    const { counters } = this;
    const readOnly = false;
    this.send({ type: 'offer', exportId, nbdName, volumeId: 1, readOnly, counters, rules, listenerIds });
  }

  send(message: ToLoop): void {
    this.#inbox.push(message);
    this.mail.signal();
  }

  /** Turns, each made short by a wake-up. */
  turns(count: number): void {
    for (let i = 0; i < count; i++) {
      this.mail.signal();
      this.loop.turn();
    }
  }

  connect(): number {
    const fd = connectUnix(this.path);
    this.turns(1);
    return fd;
  }

  /** A client past its handshake. */
  enter(name = 'disk'): number {
    const fd = this.connect();
    this.say(fd, Buffer.concat([flags(3), option(wire.NBD_OPT.GO, wire.emitGo(name, []))]));
    this.turns(2);
    this.hear(fd);
    return fd;
  }

  say(fd: number, bytes: Uint8Array): number {
    memory.bytes.set(bytes);
    return send(fd, memory.address, bytes.length, 0x4000);
  }

  /** What has come; null when the server has closed. */
  hear(fd: number): Buffer | null {
    const parts: Buffer[] = [];
    for (;;) {
      const n = recv(fd, memory.address, memory.length_bytes, 0);
      if (n === EAGAIN) return Buffer.concat(parts);
      if (n <= 0) return parts.length > 0 ? Buffer.concat(parts) : null;
      parts.push(Buffer.from(memory.bytes.slice(0, n)));
    }
  }

  server(name: ServerCounter): number {
    return this.serverCounters[AT_SERVER[name]]!;
  }
  export(name: ExportCounter): number {
    return this.counters[AT_EXPORT[name]]!;
  }
  isDone(reply: number): boolean {
    return this.posted.some(message => message.type === 'done' && message.reply === reply);
  }
}

void t.test('a handshake that takes too long is ended; one that is over in time is not', async t => {
  const rig = new Rig(t);
  const silent = rig.connect();
  const slow = rig.connect();
  const good = rig.enter();
  t.equal(rig.server('connections'), 3);
  rig.now_ms += HANDSHAKE_LIMIT_MS - 1;
  rig.say(slow, flags(3).subarray(0, 2));
  rig.turns(2);
  t.equal(rig.server('connections'), 3);
  rig.now_ms += 300;
  rig.turns(2);
  t.equal(rig.server('handshakeTimeouts'), 2);
  t.equal(rig.server('connections'), 1);
  t.equal(rig.hear(silent)?.length, 18, 'it had been greeted');
  t.equal(rig.hear(silent), null);
  rig.now_ms += 3_600_000;
  rig.turns(2);
  rig.say(good, requestBytes(wire.NBD_CMD_FLUSH, 1, 0, 0));
  rig.turns(3);
  t.equal(rig.hear(good)?.length, 16);
  for (const fd of [silent, slow, good]) close(fd);
});

void t.test('withdrawn: what is in flight is answered, then its clients are gone; others stay', async t => {
  const rig = new Rig(t, true);
  rig.offer(4, 'other');
  const one = rig.enter('disk');
  const two = rig.enter('other');
  rig.say(one, requestBytes(wire.NBD_CMD_READ, 1, 0, 4096));
  rig.turns(2);
  rig.send({ type: 'withdraw', exportId: 3, reply: 77 });
  rig.turns(1);
  t.notOk(rig.isDone(77));
  rig.turns(100);
  t.ok(rig.isDone(77));
  t.equal(rig.hear(one)?.length, 16 + 4096);
  t.equal(rig.hear(one), null);
  rig.say(two, requestBytes(wire.NBD_CMD_READ, 1, 0, 4096));
  rig.turns(100);
  t.equal(rig.hear(two)?.length, 16 + 4096);
  const late = rig.connect();
  rig.say(late, Buffer.concat([flags(3), option(wire.NBD_OPT.GO, wire.emitGo('disk', []))]));
  rig.turns(2);
  t.match(rig.hear(late)?.toString('latin1'), 'no such export');
  for (const fd of [one, two, late]) close(fd);
});

void t.test('a client that does not read holds up a withdrawal only so long', async t => {
  const rig = new Rig(t);
  const fd = rig.enter();
  for (let i = 0; i < 64; i++) rig.say(fd, requestBytes(wire.NBD_CMD_READ, i, 0, 262_144));
  rig.turns(20);
  t.ok(rig.export('stalls') > 0);
  rig.send({ type: 'withdraw', exportId: 3, reply: 78 });
  rig.turns(5);
  t.notOk(rig.isDone(78));
  rig.now_ms += DRAIN_LIMIT_MS + 300;
  rig.turns(5);
  t.ok(rig.isDone(78));
  t.equal(rig.server('drainTimeouts'), 1);
  close(fd);
});

void t.test('half-closed: replies still come, then the connection ends', async t => {
  const rig = new Rig(t, true);
  const fd = rig.enter();
  for (let i = 0; i < 8; i++) rig.say(fd, requestBytes(wire.NBD_CMD_READ, i, 0, 4096));
  shutdown(fd, SHUT_WR);
  rig.turns(100);
  t.equal(rig.hear(fd)?.length, 8 * (16 + 4096));
  t.equal(rig.hear(fd), null);
  t.equal(rig.server('connections'), 0);
  close(fd);
});

void t.test('a client that is killed with requests in flight: the loop goes on, and sleeps', async t => {
  const rig = new Rig(t, true);
  const survivor = rig.enter();
  for (let round = 0; round < 10; round++) {
    const fd = rig.enter();
    for (let i = 0; i < 50; i++) rig.say(fd, requestBytes(wire.NBD_CMD_READ, i, 0, 65_536));
    rig.turns(round);
    close(fd);
  }
  rig.turns(300);
  t.equal(rig.server('connections'), 1);
  t.equal(rig.export('connections'), 1);
  rig.say(survivor, requestBytes(wire.NBD_CMD_FLUSH, 1, 0, 0));
  rig.turns(100);
  t.equal(rig.hear(survivor)?.length, 16);
  // Nothing left that wakes it again and again: the next turn lasts until something comes.
  const before_ms = performance.now();
  rig.loop.turn();
  t.ok(performance.now() - before_ms > 100, 'the loop slept');
  close(survivor);
});

void t.test('a hang-up while the client is stalled does not keep the loop awake', async t => {
  const rig = new Rig(t);
  const fd = rig.enter();
  for (let i = 0; i < 200; i++) rig.say(fd, requestBytes(wire.NBD_CMD_READ, i, 0, 262_144));
  rig.turns(10);
  t.ok(rig.export('stalls') > 0);
  close(fd);
  rig.turns(10);
  t.equal(rig.server('connections'), 0);
});

void t.test('more connections than the limit are refused, and places come free', async t => {
  const rig = new Rig(t);
  const fds: number[] = [];
  for (let i = 0; i < CONNECTION_LIMIT + 10; i++) {
    fds.push(connectUnix(rig.path));
    if (i % 64 === 63) rig.turns(1);
  }
  rig.turns(80);
  t.equal(rig.server('connections'), CONNECTION_LIMIT);
  t.equal(rig.server('refusedConnections'), 10);
  for (const fd of fds) close(fd);
  rig.turns(80);
  t.equal(rig.server('connections'), 0);
  t.equal(rig.hear(rig.enter())?.length, 0);
});

void t.test('a TLS handshake has no more time than any other', async t => {
  const rig = new Rig(t);
  const address = path.join(path.dirname(rig.path), 'tls');
  const psk = new Map([['someone', '00'.repeat(32)]]);
  const none = { certificate: null, key: null, authority: null, pskIdentity: null, serverName: null };
  rig.send({
    type: 'listen',
    listenerId: 8,
    fd: listenUnix(address, { backlog: 64 }),
    tcp: false,
    tls: { ...none, psk },
  });
  rig.turns(1);
  const fds = [connectUnix(address), connectUnix(address)];
  rig.turns(1);
  for (const fd of fds) rig.say(fd, Buffer.concat([flags(3), option(wire.NBD_OPT.STARTTLS)]));
  rig.turns(3);
  for (const fd of fds) t.equal(rig.hear(fd)?.length, 18 + 20);
  // The beginning of a record that never ends, a byte at a time.
  const hello = Buffer.from('16030102000100', 'hex');
  for (let i = 0; i < hello.length; i++) {
    rig.now_ms += HANDSHAKE_LIMIT_MS / 20;
    rig.say(fds[0]!, hello.subarray(i, i + 1));
    rig.turns(2);
  }
  t.equal(rig.server('connections'), 2);
  rig.now_ms += HANDSHAKE_LIMIT_MS;
  rig.turns(2);
  t.equal(rig.server('connections'), 0);
  t.equal(rig.server('handshakeTimeouts'), 2);
  t.equal(rig.server('tlsHandshakes'), 0);
  for (const fd of fds) close(fd);
});

void t.test('an address may not take the places of all others', async t => {
  const rig = new Rig(t);
  // Below those that the kernel gives to whoever asks for any.
  const port = 20_000 + (process.pid % 10_000);
  rig.send({ type: 'listen', listenerId: 9, fd: listenTcp('127.0.0.1', port, 4096), tcp: true });
  rig.turns(1);
  const fds: number[] = [];
  for (let i = 0; i < CONNECTION_LIMIT + 10; i++) {
    fds.push(connectTcp('127.0.0.1', port));
    if (i % 64 === 63) rig.turns(1);
  }
  rig.turns(20);
  const share = (CONNECTION_LIMIT * 3) / 4;
  t.equal(rig.server('connections'), share);
  t.equal(rig.server('fullAddress'), CONNECTION_LIMIT + 10 - share);
  t.equal(rig.server('refusedConnections'), CONNECTION_LIMIT + 10 - share);
  t.equal(rig.hear(rig.enter())?.length, 0, 'a Unix socket is still served');
  for (const fd of fds) close(fd);
  rig.turns(20);
  fds.length = 0;
  for (let i = 0; i < share; i++) fds.push(connectTcp('127.0.0.1', port));
  rig.turns(20);
  t.equal(rig.server('connections'), share + 1, 'places come free');
  for (const fd of fds) close(fd);
});

void t.test('who dials again for a new size is hung up on when there is one, and nobody else', async t => {
  const rig = new Rig(t);
  rig.offer(4, 'guest', { ...NO_RULES, redialWhenGrown: true });
  const guest = rig.enter('guest');
  const other = rig.enter('disk');
  rig.send({ type: 'growVolume', volumeId: 1, size_bytes: SIZE * 2 });
  rig.turns(2);
  t.equal(rig.hear(guest), null);
  t.equal(rig.hear(other)?.length, 0);
  const again = rig.enter('guest');
  rig.say(again, requestBytes(wire.NBD_CMD_READ, 1, SIZE, 512));
  rig.turns(2);
  t.equal(rig.hear(again)?.length, 16 + 512, 'it may read beyond the old end');
  for (const fd of [guest, other, again]) close(fd);
});

void t.test('idleLimit: who neither asks nor reads goes, and nobody else', async t => {
  const rig = new Rig(t);
  rig.offer(4, 'short', { ...NO_RULES, idleLimit_ms: 5000 });
  const quiet = rig.enter('short');
  const busy = rig.enter('short');
  const forever = rig.enter('disk');
  const pass = (ms: number): void => {
    rig.now_ms += ms;
    rig.turns(2);
  };
  for (let i = 0; i < 4; i++) {
    pass(2000);
    rig.say(busy, requestBytes(wire.NBD_CMD_READ, i, 0, 512));
    rig.turns(2);
    t.equal(rig.hear(busy)?.length, 16 + 512);
  }
  t.equal(rig.hear(quiet), null, 'the quiet one is gone');
  t.equal(rig.export('idleDisconnects'), 1);
  t.equal(rig.hear(forever)?.length, 0);

  // It asks more than the socket takes, and reads nothing.
  const deaf = rig.enter('short');
  for (let i = 0; i < 64; i++) rig.say(deaf, requestBytes(wire.NBD_CMD_READ, i, 0, 1024 * 1024));
  rig.turns(20);
  t.ok(rig.export('stalls') > 0);
  for (let i = 0; i < 4; i++) {
    pass(2000);
    rig.say(busy, requestBytes(wire.NBD_CMD_READ, i, 0, 512));
    rig.turns(2);
    rig.hear(busy);
  }
  t.equal(rig.export('idleDisconnects'), 2);
  pass(LINGER_LIMIT_MS + 1);
  rig.turns(2);
  t.equal(rig.server('drainTimeouts'), 1, 'it did not read what was left for it either');
  t.equal(rig.server('connections'), 2);
  for (const fd of [quiet, busy, forever, deaf]) close(fd);
});

void t.test('unlisten closes the address and its clients; stop flushes and ends', async t => {
  const rig = new Rig(t);
  const fd = rig.enter();
  rig.send({ type: 'unlisten', listenerId: 2, reply: 5 });
  rig.turns(5);
  t.ok(rig.isDone(5));
  t.equal(rig.hear(fd), null);
  t.throws(() => connectUnix(rig.path), { code: 'ECONNREFUSED' });
  rig.send({ type: 'stop', reply: 6 });
  rig.loop.run();
  t.ok(rig.isDone(6));
  close(fd);
});
