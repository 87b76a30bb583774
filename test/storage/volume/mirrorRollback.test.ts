/** A mirrored volume of the plane is rolled back: the other side gets the content of the snapshot, also after kill -9 in between. */
import t from 'tap';
import type { VolumeStatus } from '../../../storage/contract.js';
import { NetClient } from '../nbd/netClient.js';
import { Plane, eventually } from '../plane.js';

const MiB = 1024 * 1024;
const SIZE = 16 * MiB;

void t.test('rollback of a mirror', async t => {
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
  const mirror = async (): Promise<VolumeStatus['mirror']> =>
    (await plane.status()).volumes.find(({ name }) => name === 'v')?.mirror;
  const inSync = (): Promise<void> =>
    eventually(
      'in sync',
      async () => (await mirror())?.state === 'in-sync' && (await mirror())?.left_bytes === 0,
    );
  const client = (name: string): Promise<NetClient> =>
    NetClient.connect({ path: plane.path('nbd.sock') }, name);
  const write = async (byte: number): Promise<void> => {
    const one = await client('v');
    t.equal(await one.write(5 * MiB, Buffer.alloc(200_000, byte)), 0);
    t.equal(await one.flush(), 0);
    await one.disconnect();
  };

  await configure(true);
  await plane.volume('w', SIZE, 'q');
  await plane.volume('v', SIZE);
  await configure(true);
  await inSync();
  await write(1);
  await plane.ask('POST', '/snapshots', { name: 's', volumes: [{ pool: 'p', volume: 'v' }] });
  await write(2);
  await eventually(
    'nobody is connected',
    async () => (await plane.status()).exports[0]?.connectionCount === 0,
  );
  const rolled = await plane.ask('POST', '/pools/p/volumes/v/rollback', { snapshot: 's' });
  t.equal(rolled.status, 200, JSON.stringify(rolled.body));
  plane.child.kill('SIGKILL');
  await plane.exit();
  await plane.launch();
  await configure(true);
  await inSync();
  await configure(false);
  for (const name of ['v', 'w']) {
    const one = await client(name);
    t.ok((await one.read(5 * MiB, 200_000)).equals(Buffer.alloc(200_000, 1)), `${name} is as the snapshot`);
    await one.disconnect();
  }
});
