/**
 * Groups "snapshots" and "merge": how long one request takes, from its being asked to its answer, which is durable.
 *
 *   snapshot-SIZE        of a volume that is exported and at rest
 *   snapshot-SIZE-busy   while a client writes 2000 random blocks a second to it
 *   stall-SIZE           the longest that one of those writes took, while snapshots are taken; `weft-alone`: while none are
 *   clone-SIZE           a new volume of a snapshot
 *   merge-64m            a snapshot is deleted after which 64 MiB were written: until its layer has gone into the next
 *   merge-0-1t           one is deleted after which nothing was written, of the 1 TiB volume, whose layers are in order
 *
 * A 1 GiB volume has every block written, a 1 TiB volume is thin and has one in many places all over. Peers do with files what comes
 * nearest: a qcow2 file on top of another; a snapshot within a qcow2 file; a copy that shares its blocks, where the file
 * system has that. Theirs has the start of a program in it (about 20 ms), is of a disk that nobody uses, and is not synced.
 */
import { spawnSync } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { DISK_HOME, type Lab } from '../../lab/harness/lab.js';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { missing } from '../../lab/harness/needs.js';
import { cpuTimeOfAll_s, eventually, run, type Ended } from '../../lab/harness/processes.js';
import { OURS, group, median, meter } from '../bench.js';
import type { Case, Contender, ContenderSource, Group, RunOptions } from '../bench.js';
import { fill, parseFio } from '../nbd/load.js';
import { GIB, Place, TIB, timed_ms } from './plane.js';

type Kind = 'snapshot' | 'busy' | 'stall' | 'clone' | 'merge';

interface SnapshotCase extends Case {
  readonly kind: Kind;
  readonly disk: '1g' | '1t';
}

const one = (name: string, kind: Kind, disk: '1g' | '1t'): SnapshotCase => ({
  name,
  kind,
  disk,
  unit: 'ms',
  better: 'lower',
});

const SIZES = { '1g': GIB, '1t': TIB } as const;
const WRITES_PER_S = 2000;
const MERGED_BYTES = 64 * 2 ** 20;
/** Of a run; more say little more, and each is a layer. */
const REPEATS_MAX = 40;
const REPEATS_MIN = 3;

const touches = ({ quick }: RunOptions): number => (quick ? 8192 : 65_536);
const pause = async (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms));

/** So often as there is time for; the median of them. */
async function repeat(seconds: number, work: (index: number) => Promise<number>): Promise<number> {
  const times_ms: number[] = [];
  const until_ms = performance.now() + seconds * 1000;
  while (times_ms.length < REPEATS_MIN || (performance.now() < until_ms && times_ms.length < REPEATS_MAX))
    times_ms.push(await work(times_ms.length));
  return median(times_ms);
}

class Ours implements Contender<SnapshotCase> {
  readonly name: string;
  #place: Place;
  #takes: boolean;
  #options: RunOptions;
  /** Disks that are there, each from when it was first asked for. */
  #made = new Set<'1g' | '1t'>();

  constructor(name: string, place: Place, takes: boolean, options: RunOptions) {
    this.name = name;
    this.#place = place;
    this.#takes = takes;
    this.#options = options;
  }

  static async start(lab: Lab, name: string, takes: boolean, options: RunOptions): Promise<Ours> {
    const place = await Place.start(lab, name);
    await place.serve([]);
    return new Ours(name, place, takes, options);
  }

  async measure({ kind, disk }: SnapshotCase, seconds: number) {
    if (!this.#made.has(disk)) await this.#make(disk);
    return meter(
      () => cpuTimeOfAll_s(this.#place.pid),
      async () => {
        const from_ms = performance.now();
        const value = await this.#value(kind, disk, seconds);
        return { value, seconds: (performance.now() - from_ms) / 1000 };
      },
    );
  }

  async #make(disk: '1g' | '1t'): Promise<void> {
    const place = this.#place;
    await place.make(disk, SIZES[disk]);
    this.#made.add(disk);
    await place.serve([...this.#made]);
    if (disk === '1g') await fill(`nbd+unix:///1g?socket=${place.socket}`);
    else await place.touch('1t', TIB, touches(this.#options));
  }

  async #value(kind: Kind, disk: '1g' | '1t', seconds: number): Promise<number> {
    switch (kind) {
      case 'snapshot':
        return this.#snapshots(disk, seconds);
      case 'clone':
        return this.#clones(disk, seconds);
      case 'merge':
        return disk === '1g' ? this.#merge(disk) : this.#mergeEmpty(disk);
      case 'busy':
      case 'stall': {
        const writing = this.#write(disk, Math.max(seconds, 1));
        await pause(300);
        const taking_ms = this.#takes ? await this.#snapshots(disk, Math.max(seconds, 1) - 0.5) : 0;
        const { stdout } = await writing;
        return kind === 'busy' ? taking_ms : (parseFio(stdout).jobs[0]?.write.lat_ns.max ?? NaN) / 1e6;
      }
    }
  }

  async #snapshots(disk: '1g' | '1t', seconds: number): Promise<number> {
    let count = 0;
    const value = await repeat(seconds, index => {
      count = index + 1;
      return timed_ms(() => this.#place.snapshot(disk, `s${index}`));
    });
    for (let index = 0; index < count; index++) await this.#place.deleteSnapshot(disk, `s${index}`);
    await this.#place.settled(this.#options.quick ? 3000 : 30_000);
    return value;
  }

  async #clones(disk: '1g' | '1t', seconds: number): Promise<number> {
    await this.#place.snapshot(disk, 'base');
    let count = 0;
    const from = { volume: disk, snapshot: 'base' };
    const value = await repeat(seconds, index => {
      count = index + 1;
      return timed_ms(() => this.#place.make(`clone${index}`, SIZES[disk], from));
    });
    for (let index = 0; index < count; index++) await this.#place.destroy(`clone${index}`);
    await this.#place.deleteSnapshot(disk, 'base');
    await this.#place.settled(this.#options.quick ? 3000 : 30_000);
    return value;
  }

  async #merge(disk: '1g' | '1t'): Promise<number> {
    await this.#place.snapshot(disk, 'm');
    const how = { rw: 'randwrite', bs: '4k', iodepth: 32, io_size: MERGED_BYTES, end_fsync: 1 };
    await run(this.#place.fio(disk, SIZES[disk], how));
    // What is written to stays as it is; so what is to be merged is frozen.
    await this.#place.snapshot(disk, 'n');
    const took_ms = await this.#deleteAndMerge(disk, 'm');
    await this.#place.deleteSnapshot(disk, 'n');
    await this.#place.settled(this.#options.quick ? 3000 : 30_000);
    return took_ms;
  }

  async #mergeEmpty(disk: '1g' | '1t'): Promise<number> {
    for (const name of ['m', 'n', 'o']) await this.#place.snapshot(disk, name);
    // That of the first waits until its layer is in order, which costs what was written to it.
    await this.#deleteAndMerge(disk, 'm');
    const took_ms = await this.#deleteAndMerge(disk, 'n');
    await this.#place.deleteSnapshot(disk, 'o');
    return took_ms;
  }

  /** Until its layer has gone. */
  async #deleteAndMerge(disk: '1g' | '1t', snapshot: string): Promise<number> {
    const before = await this.#place.depth(disk);
    return timed_ms(async () => {
      await this.#place.deleteSnapshot(disk, snapshot);
      await eventually(
        'the layer to go',
        async () => ((await this.#place.depth(disk)) < before ? true : null),
        { timeout_ms: 300_000, every_ms: 5 },
      );
    });
  }

  async #write(disk: '1g' | '1t', seconds: number): Promise<Ended> {
    const runtime = `${Math.round((seconds + 0.3) * 1000)}ms`;
    const how = {
      rw: 'randwrite',
      bs: '4k',
      iodepth: 4,
      norandommap: 1,
      randrepeat: 0,
      time_based: 1,
      runtime,
    };
    const argv = this.#place.fio(disk, SIZES[disk], { ...how, rate_iops: WRITES_PER_S });
    return run(argv, { timeout_ms: (seconds + 60) * 1000 });
  }
}

function ours(name: string, takes: boolean, kinds: readonly Kind[]): ContenderSource<SnapshotCase> {
  return {
    name,
    missing: () => missing({ programs: ['fio'] }),
    takes: ({ kind }) => kinds.includes(kind),
    start: (lab, options) => Ours.start(lab, name, takes, options),
  };
}

/** What a peer does to a disk image, and undoes afterwards. */
interface Trick {
  readonly format: 'raw' | 'qcow2';
  readonly kinds: readonly Kind[];
  readonly missing?: () => string | false;
  prepare?(image: string): Promise<unknown>;
  act(image: string, index: number): readonly string[];
  undo(image: string, index: number): Promise<unknown>;
}

/** Blocks all over the image, a queue's depth at a time. */
async function stride(image: string, format: string, size_bytes: number, count: number): Promise<void> {
  const step_bytes = Math.floor(size_bytes / count / 4096) * 4096;
  const how = [
    '-w',
    '-t',
    'writeback',
    '-c',
    String(count),
    '-s',
    '4096',
    '-S',
    String(step_bytes),
    '-f',
    format,
  ];
  await run(['qemu-img', 'bench', ...how, image], { timeout_ms: 120_000 });
}

function files(name: string, trick: Trick): ContenderSource<SnapshotCase> {
  return {
    name,
    missing: () => missing({ programs: ['qemu-img'] }) || (trick.missing?.() ?? false),
    takes: ({ name: of, kind }) => trick.kinds.includes(kind) && of !== 'merge-0-1t',
    start: async (lab, options) => {
      await run(['mkdir', lab.path(name)]);
      const image = (disk: string): string => lab.path(name, `${disk}.${trick.format}`);
      const made = new Set<string>();
      const make = async (disk: '1g' | '1t'): Promise<void> => {
        const size_bytes = SIZES[disk];
        await run(['qemu-img', 'create', '-q', '-f', trick.format, image(disk), String(size_bytes)]);
        await stride(image(disk), trick.format, size_bytes, disk === '1g' ? 16_384 : touches(options));
        made.add(disk);
      };
      return {
        name,
        measure: async ({ disk }, seconds) => {
          if (!made.has(disk)) await make(disk);
          return meter(null, async () => {
            const from_ms = performance.now();
            const value = await repeat(seconds, async index => {
              await trick.prepare?.(image(disk));
              const took_ms = await timed_ms(() => run(trick.act(image(disk), index)));
              await trick.undo(image(disk), index);
              return took_ms;
            });
            return { value, seconds: (performance.now() - from_ms) / 1000 };
          });
        },
      };
    },
  };
}

const overlay = (image: string): string => `${image}.overlay`;
const create = (image: string): string[] => [
  'qemu-img',
  'create',
  '-q',
  '-f',
  'qcow2',
  '-b',
  image,
  '-F',
  'raw',
  overlay(image),
];

function noReflink(): string | false {
  const directory = mkdtempSync(join(DISK_HOME, 'reflink-'));
  try {
    spawnSync('truncate', ['--size=1M', `${directory}/a`]);
    const { status } = spawnSync('cp', ['--reflink=always', `${directory}/a`, `${directory}/b`]);
    return status === 0
      ? false
      : `needs a file system in ${DISK_HOME} whose files can share blocks (XFS, btrfs)`;
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const PEERS: readonly ContenderSource<SnapshotCase>[] = [
  files('qemu-img-overlay', {
    format: 'raw',
    kinds: ['snapshot', 'clone'],
    act: create,
    undo: image => rm(overlay(image)),
  }),
  files('qemu-img-snapshot', {
    format: 'qcow2',
    kinds: ['snapshot'],
    act: (image, index) => ['qemu-img', 'snapshot', '-c', `s${index}`, image],
    undo: (image, index) => run(['qemu-img', 'snapshot', '-d', `s${index}`, image]),
  }),
  files('cp-reflink', {
    format: 'raw',
    kinds: ['snapshot', 'clone'],
    missing: noReflink,
    act: image => ['cp', '--reflink=always', image, overlay(image)],
    undo: image => rm(overlay(image)),
  }),
];

const COMMIT = files('qemu-img-commit', {
  format: 'raw',
  kinds: ['merge'],
  prepare: async image => {
    await run(create(image));
    await stride(overlay(image), 'qcow2', GIB, MERGED_BYTES / 4096);
  },
  act: image => ['qemu-img', 'commit', '-q', '-d', overlay(image)],
  undo: image => rm(overlay(image)),
});

/** Said aloud, so that nobody looks for them. */
const KERNELS: ContenderSource<SnapshotCase> = {
  name: 'lvm-thin',
  missing: () => 'not measured, as neither btrfs nor zfs: needs block devices and modules of the kernel',
  start: () => Promise.reject(new Error('not measured')),
};

export const snapshotGroups: readonly Group[] = [
  group({
    name: 'snapshots',
    cases: [
      one('snapshot-1g', 'snapshot', '1g'),
      one('snapshot-1t', 'snapshot', '1t'),
      one('snapshot-1g-busy', 'busy', '1g'),
      one('snapshot-1t-busy', 'busy', '1t'),
      one('stall-1g', 'stall', '1g'),
      one('stall-1t', 'stall', '1t'),
      one('clone-1g', 'clone', '1g'),
      one('clone-1t', 'clone', '1t'),
    ],
    contenders: [
      ours(OURS, true, ['snapshot', 'busy', 'stall', 'clone']),
      ours(`${OURS}-alone`, false, ['stall']),
      ...PEERS,
      KERNELS,
    ],
  }),
  group({
    name: 'merge',
    cases: [one('merge-64m', 'merge', '1g'), one('merge-0-1t', 'merge', '1t')],
    contenders: [ours(OURS, true, ['merge']), COMMIT],
  }),
];
