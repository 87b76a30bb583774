/** The whole process, over its two doors: HTTP for what is to be, NBD for what is served. */
import * as fs from 'node:fs';
import * as net from 'node:net';
import t from 'tap';
import { Health, StorageStatus, VolumeStatus } from '../../storage/contract.js';
import { NBD_ESHUTDOWN } from '../../storage/nbd/wire.js';
import { NetClient } from './nbd/netClient.js';
import { Plane, eventually } from './plane.js';

// Whole processes on a machine that may be busy.
t.setTimeout(600_000);

const MiB = 1024 * 1024;
const isRoot = process.getuid?.() === 0;

const at = (plane: Plane, socket = 'nbd.sock'): net.NetConnectOpts => ({ path: plane.path(socket) });
const byte = (value: number, length = 4096): Buffer => Buffer.alloc(length, value);

async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await new Promise(resolve => server.once('listening', resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise(resolve => server.close(resolve));
  return port;
}

void t.test('from nothing to a served volume, and out again', async t => {
  const plane = await Plane.start(t);
  const events = plane.events();
  const health = Health.parse((await plane.ask('GET', '/health')).body);
  t.match(health, { name: 'weft-storage', pid: plane.child.pid, generation: -1 });
  t.equal(fs.statSync(plane.socket).mode & 0o777, 0o600);

  // The export is wanted before its volume is there: a problem, until it is.
  const applied = await plane.configure([plane.unix('v')]);
  t.match(applied, { generation: 1, problems: [{ export: 'v', reason: /no volume v/ }] });
  const made = VolumeStatus.parse((await plane.volume('v', 64 * MiB)).body);
  t.match(made, { pool: 'p', name: 'v', size_bytes: 64 * MiB, state: 'ok', reason: null });
  t.same((await plane.volume('v', 64 * MiB)).body, made, 'the same again changes nothing');
  await events.until(event => event.type === 'export' && event.state === 'listening');
  t.same((await plane.configure([plane.unix('v')])).problems, []);
  t.equal(fs.statSync(plane.path('nbd.sock')).mode & 0o777, 0o600);

  const client = await NetClient.connect(at(plane), 'v');
  t.equal(client.size_bytes, 64 * MiB);
  t.equal(await client.write(4096, byte(7, 8192)), 0);
  t.equal(await client.write(0, byte(9), true), 0);
  t.equal(await client.flush(), 0);
  t.ok((await client.read(0, 16_384)).equals(Buffer.concat([byte(9), byte(7, 8192), byte(0)])));

  const status = StorageStatus.parse((await plane.ask('GET', '/status')).body);
  t.match(status.exports, [
    {
      name: 'v',
      state: 'listening',
      connectionCount: 1,
      counters: { writes: 2, fuaWrites: 1, flushes: 1, reads: 1 },
    },
  ]);
  t.match(status.pools, [
    { name: 'p', state: 'open', reason: null, provisioned_bytes: 64 * MiB, volumeCount: 1 },
  ]);
  t.ok(status.volumes[0]!.allocated_bytes >= 12_288);
  t.match((await plane.ask('GET', '/pools/p/volumes')).body, { volumes: [{ name: 'v' }] });

  t.match(await plane.ask('DELETE', '/pools/p/volumes/v'), {
    status: 409,
    body: { error: { code: 'VOLUME_EXPORTED' } },
  });
  await plane.configure([]);
  await client.closed;
  t.notOk(fs.existsSync(plane.path('nbd.sock')), 'its socket is gone');
  t.match(await plane.ask('DELETE', '/pools/p/volumes/v'), { status: 200, body: { deleted: true } });
  t.match(await plane.ask('DELETE', '/pools/p/volumes/v'), {
    status: 404,
    body: { error: { code: 'VOLUME_UNKNOWN' } },
  });

  plane.child.kill('SIGTERM');
  t.equal(await plane.exit(), 0);
  await events.ended;
  t.notOk(fs.existsSync(plane.socket));
});

void t.test('requests that are wrong are answered in words, and change nothing', async t => {
  const plane = await Plane.start(t);
  await plane.configure([]);
  const cases: [string, string, unknown, number, string, RegExp][] = [
    ['PUT', '/config', '{', 400, 'BAD_REQUEST', /no JSON/],
    ['PUT', '/config', { generation: 2, pools: [], exports: [], extra: 1 }, 400, 'BAD_REQUEST', /extra/],
    [
      'PUT',
      '/config',
      {
        generation: 2,
        pools: [
          { name: 'p', directory: '/x' },
          { name: 'p', directory: '/y' },
        ],
        exports: [],
      },
      400,
      'BAD_REQUEST',
      /named twice: pool p/,
    ],
    ['PUT', '/pools/p/volumes/v', { size_bytes: 4097 }, 400, 'VOLUME_TOO_LARGE', /4096/],
    ['PUT', '/pools/p/volumes/v', { size_bytes: 2 ** 50 }, 400, 'BAD_REQUEST', /size_bytes/],
    ['PUT', '/pools/p/volumes/%2e%2e', { size_bytes: 4096 }, 404, 'NOT_FOUND', /nothing/],
    ['PUT', '/pools/p/volumes/a%2fb', { size_bytes: 4096 }, 400, 'VOLUME_NAME_INVALID', /cannot name/],
    ['PUT', '/pools/no/volumes/v', { size_bytes: 4096 }, 404, 'POOL_UNKNOWN', /no pool no/],
    ['PUT', '/pools/p/volumes/%zz', { size_bytes: 4096 }, 400, 'BAD_REQUEST', /encoded/],
    ['POST', '/config', {}, 405, 'METHOD_NOT_ALLOWED', /PUT/],
    ['GET', '/nothing', undefined, 404, 'NOT_FOUND', /nothing/],
    ['GET', '/pools/p', undefined, 404, 'NOT_FOUND', /nothing/],
  ];
  for (const [method, url, body, status, code, words] of cases)
    t.match(
      await plane.ask(method, url, body),
      { status, body: { error: { code, message: words } } },
      `${method} ${url}`,
    );
  t.match((await plane.ask('GET', '/health')).body, { generation: 1 });
});

void t.test('a volume grows under its clients; shrinking is refused', async t => {
  const plane = await Plane.start(t);
  await plane.configure([plane.unix('v')]);
  await plane.volume('v', 1 * MiB);
  const before = await NetClient.connect(at(plane), 'v');
  t.equal(await before.write(1 * MiB, byte(1)), 28, 'beyond the end');
  t.match((await plane.volume('v', 4 * MiB)).body, { size_bytes: 4 * MiB });
  t.equal(await before.write(1 * MiB, byte(1)), 0, 'the connection of before has the new end');
  const after = await NetClient.connect(at(plane), 'v');
  t.equal(after.size_bytes, 4 * MiB);
  t.ok((await after.read(1 * MiB, 4096)).equals(byte(1)));
  t.match(await plane.volume('v', 1 * MiB), { status: 409, body: { error: { code: 'VOLUME_SHRINK' } } });
  await before.disconnect();
  await after.disconnect();
});

void t.test('what a new configuration leaves as it is does not notice', async t => {
  const plane = await Plane.start(t);
  await plane.configure([]);
  for (const name of ['a', 'b', 'c']) await plane.volume(name, 1 * MiB);
  const own = (name: string): ReturnType<Plane['unix']> =>
    plane.unix(name, { listen: [{ kind: 'unix', path: plane.path(`${name}.sock`) }] });
  await plane.configure([plane.unix('a'), plane.unix('b'), own('c')]);
  const a = await NetClient.connect(at(plane), 'a');
  const b = await NetClient.connect(at(plane), 'b');
  const c = await NetClient.connect(at(plane, 'c.sock'), 'c');

  // b goes, c becomes read-only, a gets a second address.
  const listen = [...plane.unix('a').listen, { kind: 'unix' as const, path: plane.path('a2.sock') }];
  t.same(
    (await plane.configure([plane.unix('a', { listen }), { ...own('c'), readOnly: true }])).problems,
    [],
  );
  await b.closed;
  await c.closed;
  t.equal(await a.write(0, byte(5)), 0, 'a was not disturbed');
  const a2 = await NetClient.connect(at(plane, 'a2.sock'), 'a');
  t.ok((await a2.read(0, 4096)).equals(byte(5)));
  const c2 = await NetClient.connect(at(plane, 'c.sock'), 'c');
  t.equal(await c2.write(0, byte(5)), 1, 'EPERM');
  await t.rejects(NetClient.connect(at(plane), 'b'), /no such export/);
  await t.rejects(NetClient.connect(at(plane, 'a2.sock'), 'c'), /no such export/, 'not offered there');

  // An address goes: its clients go, those of the other stay.
  t.same((await plane.configure([plane.unix('a'), { ...own('c'), readOnly: true }])).problems, []);
  await a2.closed;
  t.equal(await a.flush(), 0);
  t.match((await plane.status()).exports, [{ name: 'a', connectionCount: 1 }, { name: 'c' }]);
});

void t.test('a configuration that contradicts itself: the first is served, the other told', async t => {
  const plane = await Plane.start(t);
  await plane.configure([]);
  for (const name of ['a', 'b']) await plane.volume(name, 1 * MiB);
  const pools = [
    { name: 'p', directory: plane.path('pool') },
    { name: 'q', directory: plane.path('pool') },
  ];
  const applied = await plane.configure([plane.unix('a'), plane.unix('b', { nbdName: 'a' })], pools);
  t.match(applied.problems, [
    { pool: 'q', reason: /directory of pool p/ },
    { export: 'b', reason: /export a has the NBD name "a"/ },
  ]);
  const client = await NetClient.connect(at(plane), 'a');
  t.equal(await client.flush(), 0);
  t.match((await plane.status()).exports, [
    { name: 'a', state: 'listening' },
    { name: 'b', state: 'error' },
  ]);
});

void t.test('TCP: a port that is taken is told, tried again, and had when it is free', async t => {
  const plane = await Plane.start(t);
  const events = plane.events();
  await plane.configure([]);
  await plane.volume('v', 1 * MiB);
  const port = await freePort();
  const squatter = net.createServer().listen(port, '127.0.0.1');
  await new Promise(resolve => squatter.once('listening', resolve));
  const tcp = plane.unix('v', {
    listen: [{ kind: 'tcp', host: '127.0.0.1', port }, ...plane.unix('v').listen],
  });
  const applied = await plane.configure([tcp]);
  t.match(applied.problems, [{ export: 'v', reason: new RegExp(`127.0.0.1:${port}.*tried again`) }]);
  const unix = await NetClient.connect(at(plane), 'v');
  t.equal(await unix.flush(), 0, 'its other address is served meanwhile');
  await new Promise(resolve => squatter.close(resolve));
  await events.until(event => event.type === 'export' && event.state === 'listening');
  const client = await NetClient.connect({ host: '127.0.0.1', port }, 'v');
  t.equal(await client.write(0, byte(3, 300_000)), 0);
  t.ok((await client.read(0, 300_000)).equals(byte(3, 300_000)));
  await client.disconnect();
  t.match((await plane.status()).exports, [{ state: 'listening', reason: null, connectionCount: 1 }]);
});

void t.test('a socket is given to its owner', { skip: isRoot ? false : 'needs root' }, async t => {
  const plane = await Plane.start(t);
  await plane.configure([]);
  await plane.volume('v', 1 * MiB);
  const listen = [
    { kind: 'unix' as const, path: plane.path('nbd.sock'), owner: { uid: 12_345, gid: 54_321 } },
  ];
  t.same((await plane.configure([plane.unix('v', { listen })])).problems, []);
  t.match(fs.statSync(plane.path('nbd.sock')), { uid: 12_345, gid: 54_321 });
  t.equal(fs.statSync(plane.path('nbd.sock')).mode & 0o777, 0o600);
});

void t.test('a second process on the same socket or pool is refused; a stale socket is not', async t => {
  const plane = await Plane.start(t);
  await plane.configure([plane.unix('v')]);
  const other = await Plane.start(t);
  const applied = await other.configure([], [{ name: 'p', directory: plane.path('pool') }]);
  t.match(applied.problems, [{ pool: 'p', reason: new RegExp(`open already.*${plane.child.pid}`) }]);

  const { child } = plane;
  await t.rejects(plane.launch(), /another process serves it/);
  plane.child = child;
  child.kill('SIGKILL');
  t.equal(await plane.exit(), 'SIGKILL');
  t.ok(fs.existsSync(plane.socket), 'left behind');
  await plane.launch();
  // The pool that the other waits for is free for as long as nobody has it: it gets it by itself.
  await eventually('the other opens the pool', async () => (await other.status()).pools[0]?.state === 'open');
});

void t.test(
  'kill -9 while clients write: what was acknowledged and flushed is there after a restart',
  async t => {
    const plane = await Plane.start(t);
    await plane.configure([plane.unix('v')]);
    const BLOCKS = 4096;
    await plane.volume('v', BLOCKS * 4096);
    /** Highest stamp acknowledged, and highest given, by block. */
    const acknowledged = new Int32Array(BLOCKS);
    const issued = new Int32Array(BLOCKS);
    let stamp = 0;
    for (let round = 0; round < 4; round++) {
      const clients = await Promise.all(Array.from({ length: 4 }, () => NetClient.connect(at(plane), 'v')));
      let writes = 0;
      const work = clients.map(async (client, lane) => {
        try {
          for (;;) {
            // Each lane has blocks of its own, so that the order of writes to a block is known.
            const block = lane + 4 * Math.floor(Math.random() * (BLOCKS / 4));
            const mine = ++stamp;
            issued[block] = mine;
            const payload = Buffer.alloc(4096);
            for (let i = 0; i < 4096; i += 4) payload.writeInt32LE(mine, i);
            if ((await client.write(block * 4096, payload, mine % 64 === 0)) !== 0)
              throw new Error('a write failed');
            acknowledged[block] = mine;
            if (++writes % 500 === 0) await client.flush();
          }
        } catch {
          // the server was killed
        }
      });
      await eventually('writes are going on', () => writes > 1000);
      plane.child.kill('SIGKILL');
      await Promise.all(work);
      await plane.exit();
      await plane.launch();
      t.same((await plane.configure([plane.unix('v')])).problems, []);
      const reader = await NetClient.connect(at(plane), 'v');
      let lost = 0;
      let torn = 0;
      for (let block = 0; block < BLOCKS; block++) {
        const bytes = await reader.read(block * 4096, 4096);
        const found = bytes.readInt32LE(0);
        for (let i = 0; i < 4096; i += 4) if (bytes.readInt32LE(i) !== found) torn++;
        if (found < acknowledged[block]! || found > issued[block]!) lost++;
        // What is there now is what counts from here on.
        acknowledged[block] = found;
        issued[block] = found;
      }
      t.equal(lost, 0, `round ${round}: ${writes} writes, none lost`);
      t.equal(torn, 0);
      await reader.disconnect();
    }
  },
);

void t.test('SIGTERM: what is in flight is answered, and it ends with 0', async t => {
  const plane = await Plane.start(t);
  await plane.configure([plane.unix('v')]);
  await plane.volume('v', 64 * MiB);
  const client = await NetClient.connect(at(plane), 'v');
  const idle = await NetClient.connect(at(plane), 'v');
  await client.write(0, byte(1));
  const answers = Array.from({ length: 16 }, (_, i) =>
    client.write(i * MiB, byte(i, MiB)).then(
      error => error,
      () => 'gone' as const,
    ),
  );
  plane.child.kill('SIGTERM');
  t.equal(await plane.exit(), 0);
  await client.closed;
  await idle.closed;
  const told = await Promise.all(answers);
  t.ok(
    // What is read only after the signal is refused by the standard's word for it.
    told.every(answer => answer === 0 || answer === NBD_ESHUTDOWN || answer === 'gone'),
    `answered, refused since it shuts down, or cut off: ${told.join()}`,
  );
  await plane.launch();
  await plane.configure([plane.unix('v')]);
  const again = await NetClient.connect(at(plane), 'v');
  for (const [i, answer] of told.entries())
    if (answer === 0)
      t.ok((await again.read(i * MiB, MiB)).equals(byte(i, MiB)), `acknowledged write ${i} is there`);
});

void t.test('1,000 connections, all of them served', async t => {
  const plane = await Plane.start(t);
  await plane.configure([plane.unix('v')]);
  await plane.volume('v', 64 * MiB);
  const clients: NetClient[] = [];
  for (let i = 0; i < 1000; i += 50)
    clients.push(...(await Promise.all(Array.from({ length: 50 }, () => NetClient.connect(at(plane), 'v')))));
  t.equal((await plane.status()).exports[0]?.connectionCount, 1000);
  const errors = await Promise.all(clients.map((client, i) => client.write(i * 4096, byte(i & 0xff))));
  t.ok(errors.every(error => error === 0));
  const reads = await Promise.all(clients.map((client, i) => client.read(((i + 500) % 1000) * 4096, 4096)));
  t.ok(
    reads.every((data, i) => data.equals(byte(((i + 500) % 1000) & 0xff))),
    'each sees what another wrote',
  );
  const { server } = await plane.status();
  t.ok(server['bufferBytes']! < 64 * MiB, `${server['bufferBytes']} bytes of buffers`);
  for (const client of clients) client.socket.destroy();
  await eventually('they are gone', async () => (await plane.status()).exports[0]?.connectionCount === 0);
});

void t.test('without io_uring it serves the same', async t => {
  const plane = await Plane.start(t, ['--no-io-uring']);
  await plane.configure([plane.unix('v')]);
  await plane.volume('v', 64 * MiB);
  const client = await NetClient.connect(at(plane), 'v');
  t.equal(await client.write(0, byte(1, MiB), true), 0);
  t.ok((await client.read(MiB / 2, MiB)).equals(Buffer.concat([byte(1, MiB / 2), byte(0, MiB / 2)])));
  t.equal(await client.flush(), 0);
  t.equal((await plane.status()).server['ioUring'], 0);
  t.match(plane.log, 'io_uring is not used');
});

void t.test('command line: what is missing is told', async t => {
  await t.rejects(Plane.start(t, ['--nonsense']), /nonsense/);
});

void t.test('a socket file that someone removed comes back with the next configuration', async t => {
  const plane = await Plane.start(t);
  await plane.configure([]);
  for (const name of ['a', 'b']) await plane.volume(name, 1 * MiB);
  await plane.configure([plane.unix('a'), plane.unix('b')]);
  fs.rmSync(plane.path('nbd.sock'));
  t.same((await plane.configure([plane.unix('a'), plane.unix('b')])).problems, []);
  for (const name of ['a', 'b']) {
    const client = await NetClient.connect(at(plane), name);
    t.equal(await client.flush(), 0);
    await client.disconnect();
  }
});

void t.test('200 exports, each with a socket of its own, and their volumes afterwards', async t => {
  const plane = await Plane.start(t);
  const names = Array.from({ length: 200 }, (_, i) => `v${i}`);
  const exports = names.map(name =>
    plane.unix(name, {
      listen: [{ kind: 'unix', path: plane.path(`${name}.sock`) }, ...plane.unix(name).listen],
    }),
  );
  t.equal((await plane.configure(exports)).problems.length, 200, 'no volume is there yet');
  for (const name of names) await plane.volume(name, 1 * MiB);
  t.same((await plane.configure(exports)).problems, []);
  for (const name of ['v0', 'v100', 'v199']) {
    await (await NetClient.connect(at(plane, `${name}.sock`), name)).disconnect();
    await (await NetClient.connect(at(plane), name)).disconnect();
  }
});
