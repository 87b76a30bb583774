/**
 * Group "memory": what a server's memory grows by, when a client has written one block in each of many places all over a thin
 * volume, so that what is kept for each region (4 MiB) is kept for as many.
 *
 *   memory-SIZE   MB more than before; as many places as SIZE has regions, but 65536 at most (32768 when it is to be quick)
 *
 * Ours has a bound for all volumes together (storage/layers/regions.ts), which this reaches. The peer is qemu-nbd on a qcow2 file,
 * whose tables have a bound of their own.
 */
import { missing } from '../../lab/harness/needs.js';
import { cpuTimeOfAll_s, eventually, run } from '../../lab/harness/processes.js';
import { existsSync } from 'node:fs';
import { OURS, group, meter } from '../bench.js';
import type { Case, ContenderSource, Group } from '../bench.js';
import { fio } from '../nbd/load.js';
import { GIB, Place, TIB, resident_bytes } from './plane.js';

interface MemoryCase extends Case {
  readonly size_bytes: number;
}

const one = (name: string, size_bytes: number): MemoryCase => ({
  name: `memory-${name}`,
  unit: 'MB',
  better: 'lower',
  size_bytes,
});

const REGION_BYTES = 4 * 2 ** 20;

interface Up {
  readonly pid: number;
  /** Of its volume. */
  readonly uri: string;
  stop(): Promise<unknown>;
}

type Begin = (name: string, size_bytes: number) => Promise<Up>;

function source(
  name: string,
  programs: readonly string[],
  begin: (lab: Parameters<ContenderSource<MemoryCase>['start']>[0]) => Begin,
): ContenderSource<MemoryCase> {
  return {
    name,
    missing: () => missing({ programs: ['fio', ...programs] }),
    start: async (lab, { quick }) => {
      const up = begin(lab);
      let runs = 0;
      return {
        name,
        measure: async ({ size_bytes }) => {
          const server = await up(`${name}${runs++}`, size_bytes);
          const { pid, uri } = server;
          const sample = await meter(
            () => cpuTimeOfAll_s(pid),
            async () => {
              const before_bytes = resident_bytes(pid);
              const from_ms = performance.now();
              const places = Math.min(Math.ceil(size_bytes / REGION_BYTES), quick ? 32_768 : 65_536);
              const how = {
                rw: `write:${size_bytes / places - 4096}`,
                bs: '4k',
                iodepth: 16,
                io_size: places * 4096,
              };
              await run(fio(uri, size_bytes, how), { timeout_ms: 1_200_000 });
              const value = (resident_bytes(pid) - before_bytes) / 1e6;
              return { value, seconds: (performance.now() - from_ms) / 1000 };
            },
          );
          await server.stop();
          return sample;
        },
      };
    },
  };
}

const weft = source(OURS, [], lab => async (name, size_bytes) => {
  const place = await Place.start(lab, name);
  await place.serve([]);
  await place.make('v', size_bytes);
  await place.serve(['v']);
  return {
    pid: place.pid,
    uri: `nbd+unix:///v?socket=${place.socket}`,
    stop: async () => {
      await place.stop();
      // Extents all over a file take their time to go.
      await run(['rm', '-r', lab.path(name)], { timeout_ms: 600_000 });
    },
  };
});

const qemuNbd = source('qemu-nbd-qcow2', ['qemu-nbd', 'qemu-img'], lab => async (name, size_bytes) => {
  const [file, socket] = [lab.path(`${name}.qcow2`), lab.path(`${name}.sock`)];
  await run(['qemu-img', 'create', '-q', '-f', 'qcow2', file, String(size_bytes)]);
  const how = ['--persistent', '--format=qcow2', '--cache=writeback', `--socket=${socket}`];
  const program = lab.start(['qemu-nbd', ...how, file]);
  await eventually('qemu-nbd to listen', () => (existsSync(socket) ? true : null));
  return {
    pid: program.pid,
    uri: `nbd+unix:///?socket=${socket}`,
    stop: async () => {
      await program.stop();
      await run(['rm', file], { timeout_ms: 600_000 });
    },
  };
});

export const memoryGroup: Group = group({
  name: 'memory',
  cases: [one('1g', GIB), one('1t', TIB), one('10t', 10 * TIB)],
  contenders: [weft, qemuNbd],
});
