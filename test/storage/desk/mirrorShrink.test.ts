/** A mirrored volume of the plane is made smaller, also with kill -9 in between; and a side that was used by itself is made anew. */
import t from 'tap';
import type { VolumeStatus } from '../../../storage/contract.js';
import { NetClient } from '../nbd/netClient.js';
import { Plane, eventually } from '../plane.js';

t.setTimeout(120_000);

const MiB = 1024 * 1024;
const SIZE = 16 * MiB;
const SHORT = 6 * MiB;

void t.test('a mirror is made smaller, and larger again', async t => {
  const plane = await Plane.start(t);
  let generation = 0;
  const configure = async (mirrored: boolean): Promise<void> => {
    const answer = await plane.ask('PUT', '/config', {
      generation: ++generation,
      pools: ['p', 'q'].map(name => ({ name, directory: plane.path(name) })),
      volumes: mirrored ? [{ pool: 'p', name: 'v', mirror: { pool: 'q', volume: 'w' } }] : [],
      exports: mirrored ? [plane.unix('v')] : [plane.unix('v'), plane.unix('w', { pool: 'q' })],
    });
    t.equal(answer.status, 200, JSON.stringify(answer.body));
  };
  const seen = async (volume: string): Promise<VolumeStatus | undefined> =>
    (await plane.status()).volumes.find(({ name }) => name === volume);
  const sizes = async (): Promise<(number | undefined)[]> => [
    (await seen('v'))?.size_bytes,
    (await seen('w'))?.size_bytes,
  ];
  const inSync = (): Promise<void> =>
    eventually('in sync', async () => {
      const mirror = (await seen('v'))?.mirror;
      return mirror?.state === 'in-sync' && mirror.left_bytes === 0;
    });
  const withClient = async (name: string, act: (one: NetClient) => Promise<void>): Promise<void> => {
    const one = await NetClient.connect({ path: plane.path('nbd.sock') }, name);
    await act(one);
    await one.disconnect();
    await eventually('nobody is connected', async () =>
      (await plane.status()).exports.every(({ connectionCount }) => connectionCount === 0),
    );
  };
  const write = (name: string, at: number, byte: number): Promise<void> =>
    withClient(name, async one => {
      t.equal(await one.write(at, Buffer.alloc(100_000, byte)), 0);
      t.equal(await one.flush(), 0);
    });
  const holds = (name: string, at: number, byte: number): Promise<void> =>
    withClient(name, async one => {
      t.ok((await one.read(at, 100_000)).equals(Buffer.alloc(100_000, byte)), `${name} has ${byte} at ${at}`);
    });
  const resize = async (pool: string, name: string, size_bytes: number): Promise<void> => {
    const answer = await plane.ask('PUT', `/pools/${pool}/volumes/${name}`, { size_bytes, shrink: true });
    t.equal(answer.status, 200, JSON.stringify(answer.body));
  };

  await configure(true);
  await plane.volume('w', SIZE, 'q');
  await plane.volume('v', SIZE);
  await configure(true);
  await inSync();
  await write('v', 5 * MiB, 1);
  await write('v', 12 * MiB, 2);

  for (const [method, url, body] of [
    ['PUT', '/pools/q/volumes/w', { size_bytes: SHORT, shrink: true }],
    ['DELETE', '/pools/q/volumes/w', undefined],
    ['POST', '/pools/q/volumes/w/rename', { to: 'x' }],
  ] as const)
    t.match((await plane.ask(method, url, body)).body, { error: { message: /is the second side of p\/v/ } });
  t.match((await plane.ask('PUT', '/pools/p/volumes/v', { size_bytes: SHORT })).body, {
    error: { code: 'VOLUME_SHRINK' },
  });

  await resize('p', 'v', SHORT);
  t.same(await sizes(), [SHORT, SHORT]);
  await inSync();
  await holds('v', 5 * MiB, 1);
  await resize('p', 'v', SIZE);
  await resize('q', 'w', SIZE);
  await inSync();
  await holds('v', 12 * MiB, 0);
  await write('v', 13 * MiB, 3);

  // Killed at some moment of it: the size is one of the two, and asked for again it is that of both.
  for (const delay_ms of [0, 5, 20]) {
    const asked = plane.ask('PUT', '/pools/p/volumes/v', { size_bytes: SHORT, shrink: true });
    asked.catch(() => undefined);
    await new Promise(resolve => setTimeout(resolve, delay_ms));
    plane.child.kill('SIGKILL');
    await asked.catch(() => undefined);
    await plane.exit();
    await plane.launch();
    await configure(true);
    await inSync();
    const [size] = await sizes();
    t.ok(size === SIZE || size === SHORT, `${size}`);
    await holds('v', 5 * MiB, 1);
    if (size === SIZE) await holds('v', 13 * MiB, 3);
    await resize('p', 'v', SHORT);
    t.same(await sizes(), [SHORT, SHORT]);
    await resize('p', 'v', SIZE);
    await resize('q', 'w', SIZE);
    await inSync();
    await holds('v', 13 * MiB, 0);
    await write('v', 13 * MiB, 3);
  }

  // Each by itself for a while: what the journal told of them is not true any more.
  await configure(false);
  for (const name of ['v', 'w']) {
    await holds(name, 5 * MiB, 1);
    await holds(name, 13 * MiB, 3);
  }
  await write('w', 5 * MiB, 7);
  await configure(true);
  await inSync();
  await configure(false);
  await holds('w', 5 * MiB, 1);
  await write('v', 5 * MiB, 8);
  await configure(true);
  await inSync();
  await configure(false);
  await holds('w', 5 * MiB, 8);
});
