/**
 * Benchmark "volume": what can be done with volumes, and what many of them cost. Each group says what its cases mean:
 * snapshots.ts, memory.ts, pools.ts. A real weft-storage is asked over its socket, and written to by NBD.
 */
import { DISK_HOME } from '../../lab/harness/lab.js';
import type { Bench } from '../bench.js';
import { memoryGroup } from './memory.js';
import { poolsGroup } from './pools.js';
import { snapshotGroups } from './snapshots.js';

export const volumeBench: Bench = {
  name: 'volume',
  about: 'snapshots, clones, merges, memory, many volumes; peers: qemu-img, cp --reflink, qemu-nbd (qcow2)',
  groups: [...snapshotGroups, memoryGroup, poolsGroup],
  defaults: { full: { rounds: 3, seconds: 2 }, quick: { rounds: 1, seconds: 0.5 } },
  home: DISK_HOME,
};
