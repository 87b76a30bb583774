/** The jobs thread dies in the middle of a backup, a merge, a flattening; and the queue. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import t from 'tap';
import type { JobRequestInput as JobRequest } from '../../../storage/contract.js';
import { BLOCK_BYTES } from '../../../storage/layers/map.js';
import { BLOCKS, make } from './bench.js';

const MiB = 1024 * 1024;
// Threads that start and end on a machine that may be busy.
t.setTimeout(600_000);

/** So slow that a job is still at it when a busy machine has seen it begin. */
const RATE_BYTES_PER_S = 4 * MiB;
/** A piece of a backup, which is 4 MiB, and a part of the next. */
const BEGUN_BYTES = 5 * MiB;

void t.test('a thread that dies leaves what was; what is asked again goes through', async t => {
  const { rig, jobs, run, backup, target } = make(t);
  rig.write('disk', 0, 3000, 7);
  await rig.snapshot('p', 'disk', 's');
  rig.write('disk', 2500, 3000, 9);
  const { layer } = rig.entry('s');
  const dying = async (request: JobRequest): Promise<void> => {
    const before = jobs.begin(request);
    while (jobs.get(before.id).done_bytes < BEGUN_BYTES)
      await new Promise(resolve => setTimeout(resolve, 20));
    await jobs.kill();
    while (jobs.get(before.id).endedAt_ms === null) await new Promise(resolve => setTimeout(resolve, 20));
    t.match(jobs.get(before.id), { state: 'failed', message: /jobs thread is gone/ });
    t.same(rig.faults(), []);
  };
  await dying(backup({ snapshot: 's', rate_bytes_per_s: RATE_BYTES_PER_S }));
  t.match(
    await jobs.backups(target),
    [{ name: 's', state: 'incomplete' }],
    'a backup is whole, or told to be none',
  );
  t.match(
    (
      await run({
        kind: 'restore',
        pool: 'p',
        volume: 'disk',
        source: { directory: target },
        overwrite: true,
      })
    ).state,
    'failed',
  );
  const resumed = await run(backup({ snapshot: 's' }));
  t.match(resumed.message, /^backup s: 11\.7 MiB \(full, .*, of which [48]\.0 MiB were there already\)$/);
  t.equal((await run({ kind: 'verify', source: { directory: target } })).findings.length, 0);
  t.same(fs.readdirSync(path.join(target, 'disk')), ['s'], 'what the first one left is gone');
  rig.snapshotList[0]!.status.labels = {};
  await rig.deleteSnapshot('p', 'disk', 's');
  await dying({ kind: 'merge', pool: 'p', layer, rate_bytes_per_s: RATE_BYTES_PER_S });
  jobs.look();
  t.notOk(
    jobs.list().some(({ state }) => state === 'running'),
    'what failed is not tried again at once',
  );
  t.equal((await run({ kind: 'merge', pool: 'p', layer })).state, 'done');
  t.same(rig.faults(), []);
  await rig.snapshot('p', 'disk', 'c');
  rig.cloneOf('c', 'copy');
  await dying({ kind: 'flatten', pool: 'p', volume: 'copy', rate_bytes_per_s: RATE_BYTES_PER_S });
  t.equal((await run({ kind: 'flatten', pool: 'p', volume: 'copy' })).state, 'done');
  t.same(rig.faults(), []);
  t.match((await run({ kind: 'flatten', pool: 'p', volume: 'disk' })).state, 'done');
});

void t.test('two at a time, one on a volume; cancelled ones end', async t => {
  const { rig, jobs, backup } = make(t);
  rig.write('disk', 0, 3000, 7);
  rig.addVolume('second', BLOCKS * BLOCK_BYTES);
  rig.write('second', 0, 3000, 7);
  rig.addVolume('third', BLOCKS * BLOCK_BYTES);
  const slow = { rate_bytes_per_s: MiB };
  const ids = [{}, {}, { volume: 'second' }, { volume: 'third' }].map(
    more => jobs.begin(backup({ ...slow, ...more })).id,
  );
  t.same(
    ids.map(id => jobs.get(id).state),
    ['running', 'waiting', 'running', 'waiting'],
  );
  t.throws(() => jobs.get('nothing'), { code: 'JOB_UNKNOWN' });
  for (const id of [...ids].reverse()) jobs.cancel(id);
  while (ids.some(id => jobs.get(id).endedAt_ms === null))
    await new Promise(resolve => setTimeout(resolve, 20));
  t.ok(ids.every(id => jobs.get(id).state === 'cancelled'));
  t.same(rig.snapshotList, [], 'what was made for them is gone');
});

void t.test('a stop keeps what can be gone on with; a cancel does not', async t => {
  const { rig, jobs, run, backup, target } = make(t);
  rig.write('disk', 0, 5000, 7);
  const begun = async (): Promise<string> => {
    const { id } = jobs.begin(backup({ rate_bytes_per_s: RATE_BYTES_PER_S }));
    while (jobs.get(id).done_bytes < BEGUN_BYTES) await new Promise(resolve => setTimeout(resolve, 10));
    return id;
  };
  jobs.cancel(await begun());
  t.match(await run(backup({ volume: 'nothing' })), { state: 'failed' });
  while (jobs.list().some(({ endedAt_ms }) => endedAt_ms === null)) await new Promise(r => setTimeout(r, 10));
  t.same(rig.snapshotList, []);
  t.same(await jobs.backups(target), []);
  const id = await begun();
  await jobs.stop();
  t.match(jobs.get(id), { state: 'cancelled', message: /was stopped/ });
  t.equal(rig.snapshotList.length, 1);
  t.equal(fs.readdirSync(path.join(target, 'disk')).length, 1);
});
