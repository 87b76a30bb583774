/** Snapshots, clones, rollback, jobs: asked by HTTP, with clients of qemu-io on the volumes. */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import t, { type Test } from 'tap';
import type { JobStatus, StorageStatus, VolumeStatus } from '../../storage/contract.js';
import { Plane, eventually } from './plane.js';

// Whole processes on a machine that may be busy.
t.setTimeout(600_000);

const MiB = 1024 * 1024;
const hasQemu = spawnSync('qemu-io', ['--version']).status === 0;
const skip = hasQemu ? false : 'qemu-io is not installed';

function io(plane: Plane, name: string, commands: string[], readOnly = false): string {
  const { stdout, stderr, status } = spawnSync(
    'qemu-io',
    [
      '-f',
      'raw',
      ...(readOnly ? ['-r'] : []),
      ...commands.flatMap(command => ['-c', command]),
      plane.uri(name),
    ],
    { encoding: 'utf8', timeout: 120_000 },
  );
  if (status !== 0) throw new Error(`qemu-io ${commands.join('; ')}: ${stdout}${stderr}`);
  return stdout;
}

const write = (plane: Plane, name: string, pattern: number, at: string, length: string): string =>
  io(plane, name, [`write -P ${pattern} ${at} ${length}`, 'flush']);
const holds = (
  plane: Plane,
  name: string,
  pattern: number,
  at: string,
  length: string,
  readOnly = false,
): string => io(plane, name, [`read -P ${pattern} ${at} ${length}`], readOnly);

async function ask<T>(plane: Plane, method: string, url: string, body?: unknown): Promise<T> {
  if (method !== 'GET') await plane.unused();
  const answer = await plane.ask(method, url, body);
  if (answer.status !== 200) throw new Error(`${method} ${url}: ${JSON.stringify(answer.body)}`);
  return answer.body as T;
}

const snapshot = (plane: Plane, name: string, ...volumes: string[]): Promise<unknown> =>
  ask(plane, 'POST', '/snapshots', { name, volumes: volumes.map(volume => ({ pool: 'p', volume })) });

async function volume(plane: Plane, name: string): Promise<VolumeStatus> {
  const { volumes } = await ask<{ volumes: VolumeStatus[] }>(plane, 'GET', '/pools/p/volumes');
  return volumes.find(one => one.name === name)!;
}

async function started(t: Test, ...names: string[]): Promise<Plane> {
  const plane = await Plane.start(t);
  await plane.configure(names.map(name => plane.unix(name)));
  for (const name of names) await plane.volume(name, 16 * MiB);
  return plane;
}

async function idle(plane: Plane): Promise<void> {
  await eventually('no job runs', async () => {
    const { jobs = [] } = (await plane.status()) as StorageStatus;
    return jobs.every(({ state }) => state !== 'running' && state !== 'waiting');
  });
}

async function run(plane: Plane, request: object): Promise<JobStatus> {
  const { id } = await ask<JobStatus>(plane, 'POST', '/jobs', request);
  let job: JobStatus | undefined;
  await eventually('the job ends', async () => {
    job = await ask<JobStatus>(plane, 'GET', `/jobs/${id}`);
    return job.endedAt_ms !== null;
  });
  return job!;
}

void t.test('snapshot, clone, rollback: what was written before and after', { skip }, async t => {
  const plane = await started(t, 'v', 'w');
  write(plane, 'v', 1, '0', '1M');
  write(plane, 'w', 11, '0', '1M');
  await snapshot(plane, 's1', 'v', 'w');
  write(plane, 'v', 2, '512k', '1M');
  await ask(plane, 'PUT', '/pools/p/volumes/c', {
    size_bytes: 16 * MiB,
    from: { volume: 'v', snapshot: 's1' },
  });
  await plane.configure([
    ...['v', 'w', 'c'].map(name => plane.unix(name)),
    plane.unix('old', { volume: 'v', snapshot: 's1' }),
  ]);
  holds(plane, 'v', 1, '0', '512k');
  holds(plane, 'v', 2, '512k', '1M');
  holds(plane, 'c', 1, '0', '1M');
  holds(plane, 'c', 0, '1M', '15M');
  holds(plane, 'old', 1, '0', '1M', true);
  holds(plane, 'w', 11, '0', '1M');
  write(plane, 'c', 3, '0', '64k');
  holds(plane, 'old', 1, '0', '1M', true);
  await ask(plane, 'POST', '/pools/p/volumes/v/rollback', { snapshot: 's1' });
  holds(plane, 'v', 1, '0', '1M');
  holds(plane, 'v', 0, '1M', '15M');
  const again = await plane.ask('POST', '/snapshots', {
    name: 's1',
    volumes: [{ pool: 'p', volume: 'v' }],
  });
  t.equal(again.status, 409);
  t.equal((await volume(plane, 'v')).snapshots!.length, 1);

  // All of it survives the process.
  plane.child.kill('SIGKILL');
  await plane.exit();
  await plane.launch();
  await plane.configure(['v', 'w', 'c'].map(name => plane.unix(name)));
  holds(plane, 'v', 1, '0', '1M');
  holds(plane, 'c', 3, '0', '64k');
  holds(plane, 'c', 1, '64k', '960k');
});

void t.test(
  'layers without a name are merged, under a volume in use; the content stays',
  { skip },
  async t => {
    const plane = await started(t, 'v');
    for (let i = 1; i <= 4; i++) {
      write(plane, 'v', i, `${i}M`, '2M');
      await snapshot(plane, `s${i}`, 'v');
    }
    t.equal((await volume(plane, 'v')).depth, 5);
    for (const name of ['s2', 's3']) await ask(plane, 'DELETE', `/pools/p/volumes/v/snapshots/${name}`);
    await eventually('merged', async () => (await volume(plane, 'v')).depth === 3);
    await idle(plane);
    await plane.configure([
      plane.unix('v'),
      plane.unix('first', { volume: 'v', snapshot: 's1' }),
      plane.unix('last', { volume: 'v', snapshot: 's4' }),
    ]);
    const check = (): void => {
      for (const name of ['v', 'last']) {
        for (let i = 1; i <= 4; i++) holds(plane, name, i, `${i}M`, '1M', name === 'last');
        holds(plane, name, 4, '5M', '1M', name === 'last');
        holds(plane, name, 0, '6M', '10M', name === 'last');
      }
      holds(plane, 'first', 1, '1M', '2M', true);
      holds(plane, 'first', 0, '3M', '13M', true);
    };
    check();
    plane.child.kill('SIGKILL');
    await plane.exit();
    await plane.launch();
    await plane.configure([
      plane.unix('v'),
      plane.unix('first', { volume: 'v', snapshot: 's1' }),
      plane.unix('last', { volume: 'v', snapshot: 's4' }),
    ]);
    check();
    t.equal(fs.readdirSync(`${plane.path('pool')}/layers`).length, 3);
  },
);

void t.test('flatten, scrub, backup and restore', { skip }, async t => {
  const plane = await started(t, 'v');
  write(plane, 'v', 7, '0', '4M');
  await snapshot(plane, 's', 'v');
  await ask(plane, 'PUT', '/pools/p/volumes/c', {
    size_bytes: 16 * MiB,
    from: { volume: 'v', snapshot: 's' },
  });
  await plane.configure(['v', 'c'].map(name => plane.unix(name)));
  write(plane, 'c', 8, '1M', '1M');
  t.match(await run(plane, { kind: 'flatten', pool: 'p', volume: 'c' }), { state: 'done' });
  holds(plane, 'c', 7, '0', '1M');
  holds(plane, 'c', 8, '1M', '1M');
  holds(plane, 'c', 7, '2M', '2M');
  t.match(await run(plane, { kind: 'scrub', pool: 'p' }), { state: 'done', findings: [] });

  const directory = plane.path('backups');
  fs.mkdirSync(directory);
  const target = { directory };
  t.match(await run(plane, { kind: 'backup', pool: 'p', volume: 'v', target }), { state: 'done' });
  write(plane, 'v', 9, '3M', '1M');
  t.match(await run(plane, { kind: 'backup', pool: 'p', volume: 'v', target }), { state: 'done' });
  t.match(await run(plane, { kind: 'verify', source: target }), { state: 'done' });
  const { backups } = await ask<{ backups: { kind: string }[] }>(
    plane,
    'GET',
    `/backups?directory=${encodeURIComponent(directory)}`,
  );
  t.same(backups.map(({ kind }) => kind).sort(), ['full', 'incremental']);
  await plane.volume('r', 16 * MiB);
  await plane.configure(['v', 'c', 'r'].map(name => plane.unix(name)));
  const restored = await run(plane, {
    kind: 'restore',
    pool: 'p',
    volume: 'r',
    source: target,
    sourceVolume: 'v',
  });
  t.match(restored, { state: 'done' }, restored.message ?? '');
  holds(plane, 'r', 7, '0', '3M');
  holds(plane, 'r', 9, '3M', '1M');
  holds(plane, 'r', 0, '4M', '12M');
});
