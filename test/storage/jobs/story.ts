/**
 * A small volume whose layers are joined, copied, backed up and brought back, in this thread: each step is a job as server.ts
 * would run it, on files that a recorder watches. Rigs are in memory (/dev/shm), as thousands are made.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { JobRequest } from '../../../storage/contract.js';
import { listBackups } from '../../../storage/jobs/backupPlace.js';
import { runJob } from '../../../storage/jobs/bodies.js';
import { kernelCalls, useCalls } from '../../../storage/jobs/calls.js';
import { MapFile } from '../../../storage/jobs/mapFile.js';
import type { TaskKind, Tasks } from '../../../storage/jobs/messages.js';
import { findChain } from '../../../storage/jobs/restoreTask.js';
import { newTasks, type Task } from '../../../storage/jobs/tasks.js';
import { BLOCK_BYTES, GROUP_BLOCKS, REGION_BYTES } from '../../../storage/layers/map.js';
import type { LayerOpening } from '../../../storage/volume/opening.js';
import { Recorder } from './recorder.js';
import { Rig, TestSlices, buffer, checksum, type Model } from './rig.js';

export const BLOCKS = GROUP_BLOCKS + 1100;
export const POOL = 'p';
/** A clock that stands still must disturb nothing. */
const NOW_MS = 1_800_000_000_000;

const tasks = newTasks(checksum);

export function newDirectory(): string {
  return fs.mkdtempSync('/dev/shm/weft-jobs-');
}

/** Resolves to its message; rejects where it fails. */
export async function run(rig: Rig, request: object, slices = new TestSlices()): Promise<string> {
  return runJob(JobRequest.parse(request), {
    desk: rig,
    now_ms: () => NOW_MS,
    isWanted: () => false,
    ask: async <K extends TaskKind>(kind: K, ask: Tasks[K]['ask']) =>
      (tasks[kind] as Task<K>)(ask, slices, buffer),
  });
}

export const target = (rig: Rig): string => path.join(rig.directory, 'backups');
export const backup = (rig: Rig, more: object = {}): object => ({
  kind: 'backup',
  pool: POOL,
  volume: 'disk',
  target: { directory: target(rig) },
  ...more,
});
export const restore = (rig: Rig, volume: string, more: object = {}): object => ({
  kind: 'restore',
  pool: POOL,
  volume,
  source: { directory: target(rig) },
  sourceVolume: 'disk',
  overwrite: true,
  ...more,
});

/** What each backup must bring back, by the uuid of its snapshot. */
export type Kept = Map<string, Model>;

export interface Story {
  readonly name: string;
  readonly plain?: boolean;
  readonly checksums?: boolean;
  /** What is there before. */
  readonly before: (rig: Rig) => Promise<void>;
  readonly job: (rig: Rig) => object;
  /** Backups that are there when it is done, whole. */
  readonly backups?: number;
}

/** Two snapshots and a clone; the middle one is deleted, so there is something to merge. */
async function layered(rig: Rig): Promise<void> {
  rig.write('disk', 1000, 30, 100);
  rig.write('disk', GROUP_BLOCKS - 4, 8, 300);
  await rig.snapshot(POOL, 'disk', 'a');
  rig.write('disk', 1010, 6, 500);
  rig.write('disk', GROUP_BLOCKS - 2, 3, 0);
  await rig.snapshot(POOL, 'disk', 'b');
  rig.write('disk', 1002, 3, 700);
  await rig.snapshot(POOL, 'disk', 'c');
  rig.cloneOf('c', 'copy');
  rig.write('copy', 1020, 2, 900);
}

async function backedUp(rig: Rig): Promise<void> {
  rig.write('disk', 1000, 30, 100);
  await run(rig, backup(rig));
  rig.write('disk', 1010, 6, 500);
  rig.write('disk', 1015, 2, 0);
}

export const merge = (rig: Rig): object => ({ kind: 'merge', ...rig.mergeable()[0]! });

export const STORIES: readonly Story[] = [
  {
    name: 'a merge up',
    before: async rig => {
      await layered(rig);
      rig.write('disk', 1000, 20, 40);
      await rig.snapshot(POOL, 'disk', 'd');
      await rig.deleteSnapshot(POOL, 'disk', 'b');
    },
    job: merge,
  },
  {
    name: 'a merge down, without anything below',
    before: async rig => {
      await layered(rig);
      await rig.deleteSnapshot(POOL, 'disk', 'a');
    },
    job: merge,
  },
  {
    name: 'a merge down into a plain layer',
    plain: true,
    checksums: false,
    before: async rig => {
      await layered(rig);
      await rig.deleteSnapshot(POOL, 'disk', 'a');
    },
    job: merge,
  },
  {
    name: 'a merge down into a layer that was shorter, and cuts off',
    before: async rig => {
      rig.write('disk', 1000, 60, 100);
      await rig.snapshot(POOL, 'disk', 'a');
      rig.resize('disk', 1010 * BLOCK_BYTES);
      rig.write('disk', 1001, 2, 7);
      await rig.snapshot(POOL, 'disk', 'b');
      rig.resize('disk', (BLOCKS + 2000) * BLOCK_BYTES);
      rig.write('disk', BLOCKS + 1000, 2, 7);
      await rig.snapshot(POOL, 'disk', 'c');
      await rig.deleteSnapshot(POOL, 'disk', 'a');
    },
    job: merge,
  },
  {
    name: 'a merge up into a layer that was made longer',
    before: async rig => {
      rig.write('disk', 1000, 6, 100);
      await rig.snapshot(POOL, 'disk', 'a');
      rig.write('disk', 1002, 6, 300);
      await rig.snapshot(POOL, 'disk', 'b');
      rig.resize('disk', (BLOCKS + 2000) * BLOCK_BYTES);
      rig.write('disk', 1005, 60, 700);
      rig.write('disk', BLOCKS + 1000, 2, 7);
      await rig.snapshot(POOL, 'disk', 'c');
      await rig.deleteSnapshot(POOL, 'disk', 'b');
    },
    job: merge,
  },
  { name: 'a flatten', before: layered, job: () => ({ kind: 'flatten', pool: POOL, volume: 'copy' }) },
  { name: 'the first backup', before: layered, job: backup, backups: 1 },
  { name: 'a further backup', before: backedUp, job: backup, backups: 2 },
  {
    name: 'a restore',
    before: async rig => {
      await backedUp(rig);
      await run(rig, backup(rig));
      rig.addVolume('other', BLOCKS * BLOCK_BYTES);
      rig.write('other', 5, 5, 5);
      rig.content = rig.snapshotList.at(-1)!.model;
    },
    job: rig => restore(rig, 'other'),
  },
  {
    name: 'a prune',
    before: async rig => {
      await backedUp(rig);
      await run(rig, backup(rig));
      rig.write('disk', 7, 6, 500);
      await run(rig, backup(rig, { full: true }));
    },
    job: rig => ({ kind: 'prune', source: { directory: target(rig) }, keep: { last: 1 } }),
    backups: 1,
  },
  {
    name: 'a scrub',
    before: layered,
    job: () => ({ kind: 'scrub', pool: POOL }),
  },
];

export interface Told {
  readonly rig: Rig;
  readonly recorder: Recorder;
  readonly kept: Kept;
  readonly before: Rig['volumes'];
  /** What the job failed with; null: it is done. */
  readonly error: Error | null;
}

/** All merges that there are: those that were done are not done again, and two that could not be synced are not touched. */
async function work(rig: Rig, { job }: Story): Promise<void> {
  if (job !== merge) await run(rig, job(rig));
  else while (rig.mergeable().length > 0) await run(rig, job(rig));
}

/** The story, with its job under the recorder. */
export async function tell(story: Story, fail: Recorder['fail'] = () => null): Promise<Told> {
  const { plain = false, checksums = true } = story;
  const rig = new Rig(newDirectory());
  rig.addVolume('disk', BLOCKS * BLOCK_BYTES, { plain, checksums });
  const kept: Kept = new Map();
  const keep = (): void => {
    for (const { status, model } of rig.snapshotList) kept.set(status.uuid, model);
  };
  const recorder = new Recorder(rig);
  useCalls(recorder.calls);
  try {
    rig.onSnapshot = keep;
    await story.before(rig);
    recorder.begin();
    recorder.fail = fail;
    const error = await work(rig, story).then(
      () => null,
      (error: unknown) => error as Error,
    );
    recorder.end();
    return { rig, recorder, kept, before: rig.volumes, error };
  } finally {
    useCalls(kernelCalls);
  }
}

/** What it says of all its groups is so. */
function isTrue({ mapFd, uuid, size_bytes }: LayerOpening): boolean {
  if (mapFd < 0) return true;
  const map = new MapFile(mapFd, uuid, checksum.pageSum);
  if (!map.group(0).state.clean) return true;
  for (let region = 0; region * REGION_BYTES < size_bytes; region++) if (map.isOpen(region)) return false;
  return true;
}

/** What is wrong with what a crash or an error left; null: nothing. */
export async function judge(rig: Rig, kept: Kept): Promise<string | null> {
  try {
    const faults = rig.faults();
    if (faults.length > 0) return faults.join('; ');
    for (const { opening } of rig.layers.values())
      if (!isTrue(opening)) return `layer ${opening.uuid} says that it is clean, and has open regions`;
    const slices = new TestSlices();
    await run(rig, { kind: 'scrub', pool: POOL }, slices);
    // A page that was being written when the power went; the other one is whole.
    const found = slices.findings.filter(({ what }) => !what.includes('the other one serves'));
    if (found.length > 0) return `scrub: ${found[0]!.what}`;
    if (!fs.existsSync(path.join(target(rig), 'disk'))) return null;
    const { backups, problems } = listBackups(target(rig));
    if (problems.length > 0) return problems.join('; ');
    const whole = backups.filter(({ state }) => state === 'whole');
    if (whole.length === 0) return null;
    const verifying = new TestSlices();
    await run(rig, { kind: 'verify', source: { directory: target(rig) } }, verifying);
    if (verifying.findings.length > 0) return `verify: ${verifying.findings[0]!.what}`;
    // The last one, which builds upon the others.
    const { name } = whole.at(-1)!;
    const tip = findChain(target(rig), 'disk', name).at(-1)!;
    rig.addVolume('looked-at', tip.size_bytes);
    await run(rig, restore(rig, 'looked-at', { backup: name }));
    rig.volumes.get('looked-at')!.model = kept.get(tip.snapshot.uuid)!;
    const wrong = rig.faults();
    rig.volumes.delete('looked-at');
    if (wrong.length > 0) return `backup ${name}: ${wrong.join('; ')}`;
    return null;
  } catch (error) {
    return (error as Error).stack ?? String(error);
  }
}

/** The job is asked for again, and all is as it should be then. */
export async function again(rig: Rig, story: Story, kept: Kept): Promise<string | null> {
  try {
    rig.onSnapshot = () => {
      for (const { status, model } of rig.snapshotList) kept.set(status.uuid, model);
    };
    await work(rig, story);
    const wrong = (await judge(rig, kept)) ?? missing(rig, story);
    return wrong === null ? null : `when it was done again: ${wrong}`;
  } catch (error) {
    return `cannot be done again: ${(error as Error).stack}`;
  }
}

/** A job that said that it was done has left what it was to leave. */
export function missing(rig: Rig, { backups = 0 }: Story): string | null {
  if (backups === 0) return null;
  const whole = listBackups(target(rig)).backups.filter(({ state }) => state === 'whole');
  return whole.length >= backups ? null : `there are ${whole.length} backups, not ${backups}`;
}
