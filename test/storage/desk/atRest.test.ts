/** Whether a mirror that is closed has the same on both sides, as whoever takes one side for the volume asks. */
import t from 'tap';
import { MirrorAtRest } from '../../../storage/contract.js';
import { Plane, eventually } from '../plane.js';

const MiB = 1024 * 1024;

await t.test('asked before, while and after it is open, and after a side was used by itself', async t => {
  const plane = await Plane.start(t);
  const pools = ['a', 'b'].map(name => ({ name, directory: plane.path(name) }));
  const mirror = [{ pool: 'a', name: 'v', mirror: { pool: 'b', volume: 'v' } }];
  let generation = 0;
  const configure = async (volumes: object[], exports: object[]): Promise<void> => {
    const answer = await plane.ask('PUT', '/config', { generation: ++generation, pools, volumes, exports });
    t.equal(answer.status, 200, JSON.stringify(answer.body));
  };
  const asked = async (): Promise<MirrorAtRest> =>
    MirrorAtRest.parse((await plane.ask('GET', '/pools/a/volumes/v/mirror?pool=b')).body);
  await configure([], []);
  t.equal((await plane.ask('GET', '/pools/a/volumes/v/mirror?pool=b')).status, 404);
  for (const pool of ['a', 'b']) await plane.ask('PUT', `/pools/${pool}/volumes/v`, { size_bytes: MiB });
  t.match(await asked(), { inSync: false, reason: /not mirrored yet/, snapshotCount: 0 });

  await configure(mirror, [plane.unix('v', { pool: 'a' })]);
  t.match(await asked(), { inSync: false, reason: /in use/ });
  const isSame = async (): Promise<boolean> => {
    const { body } = await plane.ask('GET', '/status');
    const { volumes } = body as { volumes: { pool: string; mirror?: { state: string } | null }[] };
    return volumes.find(({ pool }) => pool === 'a')?.mirror?.state === 'in-sync';
  };
  await eventually('both sides to be the same', isSame);
  await configure(mirror, []);
  t.same(await asked(), { inSync: true, reason: null, snapshotCount: 0 });

  await configure(mirror, [plane.unix('v', { pool: 'a' })]);
  await eventually('it to say so again', isSame);
  await configure([], [plane.unix('v', { pool: 'b' })]);
  await configure([], []);
  t.match(await asked(), { inSync: false, reason: /used by itself/ });
});
