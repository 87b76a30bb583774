/**
 * File systems that share blocks between files: flattening a clone copies nothing there, and costs no space.
 *
 *   qemu-io ---unix socket--- weft-storage --- pool on btrfs or XFS on a loop device of 512 MiB
 */
import * as fs from 'node:fs';
import t from 'tap';
import { Lab } from './harness/lab.js';
import { missing } from './harness/needs.js';
import { eventually, run } from './harness/processes.js';
import { Storage } from './harness/weft.js';

const MIB = 1024 * 1024;

t.setTimeout(600_000);

for (const [kind, ...options] of [
  ['xfs', '-m', 'reflink=1'],
  ['btrfs', '-q'],
] as const) {
  const skip = missing({ root: true, programs: ['qemu-io', `mkfs.${kind}`], paths: ['/dev/loop-control'] });
  await t.test(`${kind}: what a clone shares is shared by its own layer, too`, { skip }, async t => {
    const lab = Lab.open();
    t.teardown(() => lab.close());
    const image = lab.path('image');
    fs.writeFileSync(image, '');
    fs.truncateSync(image, 512 * MIB);
    await run([`mkfs.${kind}`, ...options, image]);
    const point = lab.path('mounted');
    fs.mkdirSync(point);
    await run(['mount', '-o', 'loop', image, point]);
    const used = async (): Promise<number> => {
      await run(['sync', '-f', point]);
      const { blocks, bfree, bsize } = fs.statfsSync(point);
      return (blocks - bfree) * bsize;
    };

    const plane = await Storage.start(lab);
    const pools = [{ name: 'p', directory: `${point}/pool` }];
    const path = lab.path('nbd.sock');
    const exported = (volume: string) => ({
      name: volume,
      nbdName: volume,
      pool: 'p',
      volume,
      readOnly: false,
      listen: [{ kind: 'unix' as const, path }],
    });
    const io = (volume: string, ...commands: string[]) =>
      run([
        'qemu-io',
        '-f',
        'raw',
        ...commands.flatMap(command => ['-c', command]),
        `nbd+unix:///${volume}?socket=${path}`,
      ]);
    await plane.configure({ pools, exports: [] });
    await plane.makeVolume('p', 'v', 256 * MIB);
    await plane.configure({ pools, exports: [exported('v')] });
    await io('v', 'write -P 7 1M 96M', 'write -P 8 1000k 12k', 'flush');
    await plane.put('/pools/p/volumes/c', { size_bytes: 256 * MIB, from: { volume: 'v' } });
    await plane.configure({ pools, exports: [exported('v'), exported('c')] });
    await io('c', 'write -P 9 2M 64k', 'flush');
    const before = await used();
    const { id } = await plane.post<{ id: string }>('/jobs', { kind: 'flatten', pool: 'p', volume: 'c' });
    const job = await eventually('it to be flat', async () => {
      const found = (await plane.status()).jobs?.find(one => one.id === id);
      return (found?.endedAt_ms ?? null) === null ? null : found!;
    });
    t.match(job, { state: 'done', message: /^9[67]\.\d MiB were copied/, findings: [] });
    const grown = (await used()) - before;
    t.ok(grown < 16 * MIB, `${grown} bytes more are used`);
    await io('c', 'read -P 7 1M 1M', 'read -P 9 2M 64k', 'read -P 7 4M 90M', 'read -P 8 1000k 12k');
    await io('v', 'write -P 1 8M 1M', 'flush');
    await io('c', 'read -P 7 8M 1M');
  });
}
