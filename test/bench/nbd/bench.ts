/**
 * Benchmark "nbd": a volume of 1 GiB over a socket, by fio's nbd engine.
 *
 *   fio (one connection, or four) ====socket==== server ---- file on the same file system, in the page cache
 *   or leanClient.ts (one)
 *
 * Every byte is written before the first run, through the server itself, so that no run measures the first
 * allocation; and what is dirty goes to the disk between runs, not during them. Contenders are in
 * contenders.ts.
 *
 * A case's name is what fio does, and a suffix that says what is different from a volume made without any option, over a
 * Unix socket, by one client. Each suffix is a group with servers of its own.
 */
import { DISK_HOME } from '../../lab/harness/lab.js';
import { group, type Bench, type Group } from '../bench.js';
import { contendersOf, oursOf, type Variant } from './contenders.js';
import type { NbdCase } from './load.js';

const cost = { cpuOf: 'process' } as const;

const random = (rw: 'randread' | 'randwrite' | 'randrw', depth: number): NbdCase => ({
  name: `${rw}-4k-qd${depth}`,
  unit: 'kIOPS',
  better: 'higher',
  per: 'million',
  ...cost,
  rw,
  block: '4k',
  depth,
});
const sequential = (rw: 'read' | 'write', depth: number): NbdCase => ({
  name: `${rw}-256k-qd${depth}`,
  unit: 'MB/s',
  better: 'higher',
  per: 'GB',
  ...cost,
  rw,
  block: '256k',
  depth,
});

const CASES: readonly NbdCase[] = [
  random('randread', 1),
  random('randread', 32),
  random('randwrite', 32),
  sequential('read', 8),
  sequential('write', 8),
];

const DEPTHS: readonly NbdCase[] = [
  random('randread', 8),
  random('randread', 128),
  random('randwrite', 1),
  random('randwrite', 8),
  random('randwrite', 128),
  random('randrw', 1),
  random('randrw', 32),
];

/** Servers of their own, and cases with a suffix that says so. */
function variant(name: string, how: Variant, cases: readonly NbdCase[], more: Partial<NbdCase> = {}): Group {
  return group({
    name,
    byName: true,
    cases: cases.map(one => ({ ...one, ...more, name: `${one.name}-${name}` })),
    contenders: contendersOf(how),
  });
}

const RANDOM = CASES.filter(({ block }) => block === '4k');
const READS = CASES.filter(({ rw }) => rw.endsWith('read'));

export const nbdBench: Bench = {
  name: 'nbd',
  about: 'a volume by fio; peers: nbdkit (file), qemu-nbd (raw, writeback), nbd-server',
  groups: [
    group({ name: 'volume', cases: CASES, contenders: contendersOf({}) }),
    group({ name: 'depths', byName: true, cases: DEPTHS, contenders: contendersOf({}) }),
    variant('tcp', { tcp: true }, CASES),
    variant('tls', { tcp: true, tls: true }, CASES),
    variant('c4', {}, CASES, { jobs: 4 }),
    variant('lean', {}, RANDOM, { lean: true }),
    // From here on the peers do what they always do; they show what else the machine did meanwhile.
    variant('cold', {}, READS, { cold: true }),
    variant('raw', { volume: 'device' }, CASES),
    variant('nosum', { volume: 'nosum' }, CASES),
    variant('clone1', { volume: 'clone1' }, CASES),
    variant('clone10', { volume: 'clone10' }, CASES),
    // What a volume made without any option costs against simpler ones, and layers against none: ours alone, in turn.
    group({
      name: 'kinds',
      byName: true,
      cases: CASES.map(one => ({ ...one, name: `${one.name}-kinds` })),
      contenders: oursOf(['device', 'nosum', 'clone1', 'clone10']),
    }),
  ],
  defaults: { full: { rounds: 3, seconds: 3 }, quick: { rounds: 2, seconds: 0.5 } },
  home: DISK_HOME,
};
