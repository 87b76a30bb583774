/**
 * Ten thousand clients at once, and a thousand that ask and never read: weft-storage serves the others, its memory stays
 * within what storage/README.md says, and all of it is given back.
 *
 *   this process, many sockets ---Unix--- weft-storage --- pool
 */
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { CONNECTION_LIMIT, IN_FLIGHT_BUDGET_BYTES } from '../../storage/nbd/limits.js';
import { eventually } from './harness/processes.js';
import { House, MIB } from './harness/volumes.js';

t.setTimeout(600_000);

const KIB = 1024;
const CLIENTS = 10_000;
const DEAF = 1_000;
/** Beside the clients: files, pipes, epoll. */
const OTHER_FILES = 500;
/** An idle connection holds no buffer: an object, its counters, what the kernel's table needs. */
const IDLE_BYTES = 16 * 1024;
const BASE_BYTES = 160 * MIB;

const openFiles = Number(
  /^Max open files\s+\S+\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1] ??
    Number.POSITIVE_INFINITY,
);
const skip =
  openFiles < CLIENTS + OTHER_FILES
    ? `needs ${CLIENTS + OTHER_FILES} open files, and may have ${openFiles}: ulimit -Hn`
    : false;

/** NBD_FLAG_C_FIXED_NEWSTYLE and NBD_FLAG_C_NO_ZEROES, then NBD_OPT_GO without information requests. */
function hello(name: string): Buffer {
  const bytes = Buffer.alloc(4 + 16 + 4 + name.length + 2);
  bytes.writeUInt32BE(3, 0);
  bytes.write('IHAVEOPT', 4);
  bytes.writeUInt32BE(7, 12);
  bytes.writeUInt32BE(4 + name.length + 2, 16);
  bytes.writeUInt32BE(name.length, 20);
  bytes.write(name, 24);
  return bytes;
}

function readRequest(offset_bytes: number, length_bytes: number): Buffer {
  const bytes = Buffer.alloc(28);
  bytes.writeUInt32BE(0x25609513, 0);
  bytes.writeUInt32BE(length_bytes, 24);
  bytes.writeBigUInt64BE(BigInt(offset_bytes), 16);
  return bytes;
}

/** A client whose handshake is done; null when it was not let in. */
function enter(path: string, name: string): Promise<Socket | null> {
  return new Promise(resolve => {
    const socket = connect(path);
    const texts: Buffer[] = [];
    let asked = false;
    const over = (result: Socket | null): void => {
      socket.removeAllListeners();
      // What becomes of it later is the test's own doing.
      socket.on('error', () => {});
      resolve(result);
    };
    socket.on('error', () => over(null));
    socket.on('close', () => over(null));
    socket.on('data', chunk => {
      texts.push(chunk);
      const text = Buffer.concat(texts);
      if (!asked && text.length >= 18) {
        asked = true;
        socket.write(hello(name));
      }
      // The last reply of GO: NBD_REP_ACK, which has no data.
      if (asked && text.length >= 38 && text.readUInt32BE(text.length - 8) === 1) over(socket);
    });
  });
}

async function enterMany(path: string, name: string, count: number): Promise<Socket[]> {
  const inside: Socket[] = [];
  // Fewer at a time than a Unix socket's backlog takes.
  for (let at = 0; at < count; at += 100) {
    const some = await Promise.all(
      Array.from({ length: Math.min(100, count - at) }, () => enter(path, name)),
    );
    inside.push(...some.filter(socket => socket !== null));
  }
  return inside;
}

/** One read of a client that does read. */
function ask(socket: Socket, length_bytes: number): Promise<number> {
  return new Promise((resolve, reject) => {
    let received = 0;
    const timer = setTimeout(() => reject(new Error('no answer within 120 s')), 120_000);
    const take = (chunk: Buffer): void => {
      received += chunk.length;
      // A simple reply's header has 16 bytes.
      if (received < 16 + length_bytes) return;
      clearTimeout(timer);
      socket.off('data', take);
      resolve(received - 16);
    };
    socket.on('data', take);
    socket.resume();
    socket.write(readRequest(0, length_bytes));
  });
}

function memory_bytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0) * 1024;
}

async function served(t: Test) {
  const house = await House.open(t);
  const uri = await house.export('v');
  const name = /\/\/\/(\w+)\?/.exec(uri)?.[1] ?? '';
  const path = /socket=(.*)$/.exec(uri)?.[1] ?? '';
  const connections = async (): Promise<Record<string, number>> => (await house.plane.status()).server;
  return { house, name, path, connections };
}

await t.test(`${CLIENTS} clients`, { skip }, async t => {
  const { house, name, path, connections } = await served(t);
  const before = memory_bytes(house.plane.pid);
  const inside = await enterMany(path, name, CLIENTS);
  t.teardown(() => inside.forEach(socket => socket.destroy()));
  const expected = Math.min(CLIENTS, CONNECTION_LIMIT);
  t.equal(
    inside.length,
    expected,
    `${inside.length} are in; the others were told so by the end of their connection`,
  );
  const during = memory_bytes(house.plane.pid);
  t.comment(`${before >> 20} MiB before, ${during >> 20} MiB with ${inside.length} clients`);
  t.ok(during - before < inside.length * IDLE_BYTES + BASE_BYTES, `${during - before} bytes for them`);
  const counted = await connections();
  t.equal(counted['connections'], inside.length);
  t.equal(counted['refusedConnections'], CLIENTS - inside.length);
  for (const at of [0, inside.length >> 1, inside.length - 1])
    t.equal(await ask(inside[at]!, MIB), MIB, `client ${at} is served`);
  for (const socket of inside) socket.destroy();
  await eventually('all of them to be gone', async () =>
    (await connections())['connections'] === 0 ? true : null,
  );
  const again = await enter(path, name);
  t.ok(again !== null && (await ask(again, 4096)) === 4096, 'and another comes in');
  again?.destroy();
});

await t.test(`${DEAF} clients that ask and never read`, { skip }, async t => {
  const { house, name, path, connections } = await served(t);
  const deaf = await enterMany(path, name, DEAF);
  t.teardown(() => deaf.forEach(socket => socket.destroy()));
  t.equal(deaf.length, DEAF);
  const well = await enter(path, name);
  t.ok(well);
  const before = memory_bytes(house.plane.pid);
  for (const socket of deaf) {
    socket.pause();
    for (let at = 0; at < 64; at++) socket.write(readRequest(0, 4 * MIB));
  }
  let worst = 0;
  for (let round = 0; round < 20; round++) {
    t.equal(await ask(well!, 256 * KIB), 256 * KIB, 'who reads is served');
    worst = Math.max(worst, memory_bytes(house.plane.pid));
  }
  t.comment(`${before >> 20} MiB before, ${worst >> 20} MiB at most`);
  const bound = before + IN_FLIGHT_BUDGET_BYTES + DEAF * 4 * 260 * 1024;
  t.ok(worst < bound, `${worst} bytes of ${bound}`);
  const status = await house.plane.status();
  t.ok((status.exports[0]?.counters['stalls'] ?? 0) > 0, 'they are waited for, and that is counted');
  for (const socket of deaf) socket.destroy();
  await eventually('them to be gone', async () => ((await connections())['connections'] === 1 ? true : null));
  t.equal(await ask(well!, MIB), MIB);
  await eventually('their memory to be given back', async () => {
    const counted = await connections();
    return (counted['bufferBytes'] ?? 0) <= 64 * MIB ? true : null;
  });
  well?.destroy();
});
