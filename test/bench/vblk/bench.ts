/**
 * Benchmark "vblk": a volume of 1 GiB by vhost-user-blk, as a guest on this machine has it, by a driver that polls (client.ts).
 *
 *   client ==== rings and buffers in shared memory ==== server ---- file on the same file system, in the page cache
 *
 * The peer is QEMU's own server of that protocol, qemu-storage-daemon, with a raw file. Ours is a volume made without any option:
 * thin, with checksums; `weft-nosum` has none, `weft-device` is a raw file as the peer's is.
 */
import { statSync } from 'node:fs';
import { DISK_HOME, type Lab } from '../../lab/harness/lab.js';
import { missing } from '../../lab/harness/needs.js';
import { cpuTimeOfAll_s, eventually, run } from '../../lab/harness/processes.js';
import { Storage } from '../../lab/harness/weft.js';
import { OURS, group, meter, type Bench, type Case, type ContenderSource } from '../bench.js';
import { vblkClient, type VblkLoad } from './client.js';

const VOLUME_BYTES = 2 ** 30;

interface VblkCase extends Case {
  readonly mode: VblkLoad['mode'];
  readonly block_bytes: number;
  readonly depth: number;
}

const random = (mode: 'randread' | 'randwrite', depth: number): VblkCase => ({
  name: `${mode}-4k-qd${depth}`,
  unit: 'kIOPS',
  better: 'higher',
  per: 'million',
  cpuOf: 'process',
  mode,
  block_bytes: 4096,
  depth,
});
const sequential = (mode: 'read' | 'write'): VblkCase => ({
  name: `${mode}-256k-qd8`,
  unit: 'MB/s',
  better: 'higher',
  per: 'GB',
  cpuOf: 'process',
  mode,
  block_bytes: 262_144,
  depth: 8,
});

type Serve = (lab: Lab, directory: string, socket: string) => Promise<{ pid: number; stderr?: string }>;

function source(name: string, programs: readonly string[], serve: Serve): ContenderSource<VblkCase> {
  return {
    name,
    missing: () => missing({ programs }),
    start: async lab => {
      const directory = lab.path(name);
      await run(['mkdir', directory]);
      const socket = lab.path(`${name}.sock`);
      const { pid, stderr = '' } = await serve(lab, directory, socket);
      await eventually(`${name} to listen; it says: ${stderr}`, () =>
        statSync(socket, { throwIfNoEntry: false }) === undefined ? null : true,
      );
      const put = async (
        how: Omit<VblkLoad, 'socket' | 'size_bytes'>,
      ): Promise<{ seconds: number; count: number }> => {
        const { stdout } = await run(vblkClient({ ...how, socket, size_bytes: VOLUME_BYTES }), {
          timeout_ms: 120_000,
        });
        return JSON.parse(stdout) as { seconds: number; count: number };
      };
      await put({ mode: 'fill', block_bytes: 262_144, depth: 4, seconds: 0 });
      return {
        name,
        measure: async ({ mode, block_bytes, depth }, seconds) => {
          await run(['sync', '--file-system', directory]);
          return meter(
            () => cpuTimeOfAll_s(pid),
            async () => {
              const did = await put({ mode, block_bytes, depth, seconds });
              const bytes = did.count * block_bytes;
              return block_bytes === 4096
                ? { value: did.count / did.seconds / 1e3, seconds: did.seconds, work: did.count / 1e6 }
                : { value: bytes / did.seconds / 1e6, seconds: did.seconds, work: bytes / 1e9 };
            },
          );
        },
      };
    },
  };
}

const weft =
  (kind: 'volume' | 'nosum' | 'device'): Serve =>
  async (lab, directory, socket) => {
    const plane = await Storage.start(lab, { socket: `${directory}.http` });
    const raw = `${directory}/volume.raw`;
    if (kind === 'device') await run(['truncate', '--size', String(VOLUME_BYTES), raw]);
    const pools = [kind === 'device' ? { name: 'bench', device: raw } : { name: 'bench', directory }];
    await plane.configure({ pools, exports: [] });
    if (kind !== 'device')
      await plane.put('/pools/bench/volumes/volume', {
        size_bytes: VOLUME_BYTES,
        ...(kind === 'nosum' ? { checksums: false } : {}),
      });
    const listen = { kind: 'vhost-user' as const, path: socket, queues: 1, serial: '' };
    const exported = { name: 'bench', nbdName: 'bench', pool: 'bench', volume: 'volume', readOnly: false };
    await plane.configure({ pools, exports: [{ ...exported, listen: [listen] }] });
    return plane.program;
  };

const storageDaemon: Serve = async (lab, directory, socket) => {
  const file = `${directory}/volume.raw`;
  await run(['truncate', '--size', String(VOLUME_BYTES), file]);
  return lab.start([
    'qemu-storage-daemon',
    '--blockdev',
    `driver=file,filename=${file},node-name=disk`,
    '--export',
    `type=vhost-user-blk,id=disk,node-name=disk,addr.type=unix,addr.path=${socket},writable=on,num-queues=1`,
  ]);
};

export const vblkBench: Bench = {
  name: 'vblk',
  about: 'a volume by vhost-user-blk and a driver that polls; peer: qemu-storage-daemon (raw file)',
  groups: [
    group({
      name: 'vblk',
      cases: [
        random('randread', 1),
        random('randread', 32),
        random('randwrite', 32),
        sequential('read'),
        sequential('write'),
      ],
      contenders: [
        source(OURS, [], weft('volume')),
        source(`${OURS}-nosum`, [], weft('nosum')),
        source(`${OURS}-device`, [], weft('device')),
        source('qemu-storage-daemon', ['qemu-storage-daemon'], storageDaemon),
      ],
    }),
  ],
  defaults: { full: { rounds: 3, seconds: 3 }, quick: { rounds: 2, seconds: 0.5 } },
  home: DISK_HOME,
};
