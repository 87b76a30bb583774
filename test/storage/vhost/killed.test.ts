/** weft-storage as a process, killed with requests of a guest under way: none is lost, none is answered twice. */
import * as fs from 'node:fs';
import t from 'tap';
import { connectUnix } from '../../../host/unix.js';
import { S, T } from '../../../storage/vhost/virtioBlk.js';
import { Plane } from '../plane.js';
import { Driver } from './driver.js';

const REQUESTS = 60;
const BLOCK = 4096;

await t.test('kill -9 under way', async t => {
  const plane = await Plane.start(t);
  const pool = `${plane.directory}/pool`;
  const socket = `${plane.directory}/disk.sock`;
  const config = {
    generation: 1,
    pools: [{ name: 'main', directory: pool }],
    exports: [],
  };
  await plane.ask('PUT', '/config', config);
  await plane.ask('PUT', '/pools/main/volumes/v', { size_bytes: 1 << 24 });
  const exports = [
    {
      name: 'disk',
      nbdName: 'disk',
      pool: 'main',
      volume: 'v',
      readOnly: false,
      listen: [{ kind: 'vhost-user', path: socket, serial: 'killed' }],
    },
  ];
  // So slow that most wait when it is killed.
  const volumes = [{ pool: 'main', name: 'v', limits: { writeOperations: { rate_per_s: 200, burst: 1 } } }];
  const serve = async (): Promise<void> => {
    const { status, body } = await plane.ask('PUT', '/config', {
      ...config,
      generation: 2,
      volumes,
      exports,
    });
    t.equal(status, 200);
    t.match(body, { problems: [] });
  };
  await serve();
  t.equal(fs.statSync(socket).mode & 0o777, 0o600);

  const idle = new Int32Array(new SharedArrayBuffer(4));
  const driver = new Driver({
    num: 256,
    turn: () => void Atomics.wait(idle, 0, 0, 1),
  });
  t.teardown(() => driver.close());
  driver.begin(connectUnix(socket));
  for (let i = 0; i < REQUESTS; i++) {
    driver.layHeader(0, i, T.OUT, i * 8);
    driver.bytes.fill(i + 1, driver.dataAt + i * BLOCK, driver.dataAt + (i + 1) * BLOCK);
    driver.chain(0, i * 3, [
      { at: driver.headerAt(0, i), length: 16, write: false },
      { at: driver.dataAt + i * BLOCK, length: BLOCK, write: false },
      { at: driver.statusAt(0, i), length: 1, write: true },
    ]);
  }
  driver.kick(0);
  const answered: number[] = [];
  const take = (): void => {
    answered.push(driver.take(0) / 3);
  };
  while (answered.length < 10) {
    if (driver.wait(0) < 0) throw new Error('no answer');
    driver.used[0]!--;
    take();
  }
  plane.child.kill('SIGKILL');
  await plane.exit();
  driver.hangUp();
  while (driver.ready(0) > 0) take();
  const before = answered.length;
  t.ok(before < REQUESTS, `${before} of ${REQUESTS} were answered`);

  await plane.launch();
  await serve();
  driver.begin(connectUnix(socket));
  while (answered.length < REQUESTS) {
    if (driver.wait(0) < 0) break;
    driver.used[0]!--;
    take();
  }
  t.same(
    answered.toSorted((a, b) => a - b),
    Array.from({ length: REQUESTS }, (_, i) => i),
    'each once',
  );
  t.equal(driver.wait(0, 50), -1, 'and no more');
  const { body } = await plane.ask('GET', '/status');
  t.match(body, { exports: [{ name: 'disk', state: 'listening', connectionCount: 1 }] });
  const { counters } = (body as { exports: { counters: Record<string, number> }[] }).exports[0]!;
  t.equal(counters['resubmitted'], REQUESTS - before, 'what was under way was done again');
  for (let i = 0; i < REQUESTS; i++) {
    t.equal(driver.do(T.IN, i * 8, driver.dataAt, BLOCK), S.OK);
    t.ok(driver.bytes.subarray(driver.dataAt, driver.dataAt + BLOCK).every(byte => byte === i + 1));
  }
});
