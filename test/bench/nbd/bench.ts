/**
 * Benchmark "nbd": a volume of 1 GiB over a Unix socket, by fio's nbd engine.
 *
 *   fio (one connection) ====unix socket==== server ---- file on the same file system, in the page cache
 *
 * Every byte is written before the first run, through the server itself, so that no run measures the first
 * allocation; and what is dirty goes to the disk between runs, not during them. Contenders are in
 * contenders.ts.
 */
import { DISK_HOME } from '../../lab/harness/lab.js';
import { group } from '../bench.js';
import type { Bench } from '../bench.js';
import { nbdContenders } from './contenders.js';
import type { NbdCase } from './load.js';

const CASES: readonly NbdCase[] = [
  { name: 'randread-4k-qd1', unit: 'kIOPS', better: 'higher', rw: 'randread', block: '4k', depth: 1 },
  { name: 'randread-4k-qd32', unit: 'kIOPS', better: 'higher', rw: 'randread', block: '4k', depth: 32 },
  { name: 'randwrite-4k-qd32', unit: 'kIOPS', better: 'higher', rw: 'randwrite', block: '4k', depth: 32 },
  { name: 'read-256k-qd8', unit: 'MB/s', better: 'higher', rw: 'read', block: '256k', depth: 8 },
  { name: 'write-256k-qd8', unit: 'MB/s', better: 'higher', rw: 'write', block: '256k', depth: 8 },
];

export const nbdBench: Bench = {
  name: 'nbd',
  about: 'a volume over a Unix socket by fio; peers: nbdkit (file), qemu-nbd (raw, writeback)',
  groups: [group({ name: 'volume', cases: CASES, contenders: nbdContenders })],
  defaults: { full: { rounds: 3, seconds: 3 }, quick: { rounds: 2, seconds: 0.5 } },
  home: DISK_HOME,
};
