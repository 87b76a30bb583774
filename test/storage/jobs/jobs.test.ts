/**
 * Jobs with their real thread, on layers on real files and a desk with a catalogue in memory: backups and what becomes of them,
 * scrubs that find what was flipped, a thread that dies in the middle, the queue.
 */
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import t from 'tap';
import type { JobRequestInput as JobRequest } from '../../../storage/contract.js';
import { BLOCK_BYTES, GROUP_BLOCKS, checksumPageAt, statePageAt } from '../../../storage/layers/map.js';
import { BLOCKS, make } from './bench.js';
import { isListening } from '../../listening.js';

const MiB = 1024 * 1024;

const flip = (file: string, offset: number): void => {
  const fd = fs.openSync(file, 'r+');
  const byte = Buffer.alloc(1);
  fs.readSync(fd, byte, 0, 1, offset);
  byte[0]! ^= 0x10;
  fs.writeSync(fd, byte, 0, 1, offset);
  fs.closeSync(fd);
};

void t.test('a chain of backups: each one brings back what was', async t => {
  const { rig, jobs, run, backup, restore, target } = make(t);
  const kept: { name: string; model: Uint32Array }[] = [];
  for (let round = 1; round <= 4; round++) {
    rig.write('disk', round * 900, 300, round * 10_000);
    rig.write('disk', round * 900 - 50, 20, 0);
    rig.write('disk', GROUP_BLOCKS - 2 + round, 4, round);
    const status = await run(backup());
    t.equal(status.state, 'done', status.message ?? '');
    t.match(status.message, round === 1 ? /full, as it is the first/ : /what changed since/);
    if (round === 3) rig.write('disk', 0, 1, 5);
    const { backups } = { backups: await jobs.backups(target) };
    kept.push({ name: backups.at(-1)!.name, model: rig.snapshotList.at(-1)!.model });
    t.equal(rig.snapshots('p', 'disk').length, 1, 'the snapshot that the next one needs, and no other');
  }
  const entries = await jobs.backups(target);
  t.same(
    entries.map(({ kind }) => kind),
    ['full', 'incremental', 'incremental', 'incremental'],
  );
  t.ok(entries[3]!.stored_bytes < 400 * BLOCK_BYTES, 'only what changed');
  t.ok(fs.statSync(path.join(target, 'disk', kept[3]!.name, 'data')).blocks * 512 < 2 * MiB, 'sparse');

  rig.addVolume('other', BLOCKS * BLOCK_BYTES);
  for (const { name, model } of kept) {
    const status = await run(restore(name, 'other'));
    t.equal(status.state, 'done', status.message ?? '');
    rig.volumes.get('other')!.model = model;
    t.same(rig.faults(), [], `as in ${name}`);
  }
  t.match((await run(restore())).message, new RegExp(`as in backup ${kept[3]!.name}`), 'the newest by chain');
  rig.used = true;
  t.match((await run(restore())).state, 'failed', 'not while it is in use');

  const verified = await run({ kind: 'verify', source: { directory: target } });
  t.match(verified.message, /^nothing is wrong; .* in 4 backups/);
});

void t.test('what is damaged is found, and never restored', async t => {
  const { rig, jobs, run, backup, restore, target } = make(t);
  rig.write('disk', 100, 2000, 7);
  await run(backup());
  rig.write('disk', 500, 10, 3);
  await run(backup());
  const [full, increment] = (await jobs.backups(target)).map(({ name }) => path.join(target, 'disk', name));
  const { model } = rig.volumes.get('disk')!;
  flip(path.join(full!, 'data'), 1500 * BLOCK_BYTES);
  const verified = await run({ kind: 'verify', source: { directory: target } });
  t.match(verified.message, /^1 faults/);
  t.match(verified.findings[0]!.what, /does not match its SHA-256/);
  const failed = await run(restore());
  t.equal(failed.state, 'failed');
  t.match(failed.message, /the piece at \d+ .* does not match/);
  t.same(rig.volumes.get('disk')!.model, model);
  t.same(rig.faults(), [], 'nothing was switched');

  flip(path.join(increment!, 'manifest.json'), 200);
  t.equal((await jobs.backups(target)).length, 1);
  t.match((await run(restore(path.basename(increment!)))).message, /manifest\.json/);
  t.match((await run(backup())).message, /full, as the snapshot of backup .* is no more|what changed/);
  fs.rmSync(full!, { recursive: true });
  fs.writeFileSync(path.join(target, 'disk', 'a file of somebody'), 'x');
  fs.mkdirSync(path.join(target, 'disk', 'foreign'));
  t.match(
    (await run({ kind: 'verify', source: { directory: target } })).findings.map(f => f.what).join(),
    /foreign/,
  );
  for (const name of ['../x', 'a\0b', 'x'.repeat(4096)])
    t.match((await run({ ...restore(), sourceVolume: name } as JobRequest)).state, 'failed');
  t.match(
    (await run(backup({ target: { directory: '/proc/nothing/here' } }))).message,
    /is no directory: is what backups are kept on mounted/,
  );
});

void t.test('a scrub finds what was flipped, wherever', async t => {
  const { rig, run } = make(t);
  rig.write('disk', 100, 2000, 7);
  await rig.snapshot('p', 'disk', 's');
  rig.write('disk', 150, 10, 8);
  const scrub = () => run({ kind: 'scrub', pool: 'p', volume: 'disk' });
  t.match((await scrub()).message, /^nothing is wrong; 7\.9 MiB verified in 2 layers$/);
  const file = (name: string) => path.join(rig.directory, 'layers', rig.entry('s').layer, name);
  const faultsOf = async () => (await scrub()).findings.map(({ what }) => what.replace(/^.*\): /, ''));

  flip(file('data'), 1000 * BLOCK_BYTES + 9);
  const [finding] = (await scrub()).findings;
  t.match(finding!.what, /^layer .* \(of disk\): a block does not match its checksum$/);
  t.equal(finding!.offset_bytes, 1000 * BLOCK_BYTES);
  flip(file('data'), 1000 * BLOCK_BYTES + 9);
  t.same(await faultsOf(), []);

  flip(file('map'), statePageAt(0, 1) + 2100);
  t.same(await faultsOf(), ['one of two pages of its map is damaged; the other one serves']);
  t.same(rig.faults(), []);
  flip(file('map'), statePageAt(0, 0) + 2100);
  t.same(await faultsOf(), ['both pages of its map are damaged: what was there is lost']);
  flip(file('map'), statePageAt(0, 0) + 2100);
  flip(file('map'), statePageAt(0, 1) + 2100);
  flip(file('map'), checksumPageAt(1) + 40);
  t.same(await faultsOf(), ['a page of its checksums is damaged']);
  flip(file('map'), checksumPageAt(1) + 40);

  // A merge does not launder a bad block.
  const { top } = rig.volumes.get('disk')!;
  flip(path.join(rig.directory, 'layers', top, 'data'), 155 * BLOCK_BYTES);
  flip(file('data'), 1000 * BLOCK_BYTES);
  await rig.deleteSnapshot('p', 'disk', 's');
  const merged = await run({ kind: 'merge', pool: 'p', layer: rig.mergeable()[0]!.layer });
  t.equal(merged.state, 'done', merged.message ?? '');
  const wrong = (await scrub()).findings.map(({ offset_bytes }) => offset_bytes! / BLOCK_BYTES);
  t.same(wrong, [155, 1000], 'the one that was copied is as wrong as the one that stayed');
});

const hasQemu = fs.existsSync('/usr/bin/qemu-nbd');
void t.test(
  'a backup over NBD: all of it, then what changed',
  { skip: hasQemu ? false : 'qemu-nbd is not installed' },
  async t => {
    const { rig, run, backup } = make(t);
    const file = path.join(rig.directory, 'target');
    // What was there must not be left where the volume has nothing.
    fs.writeFileSync(file, Buffer.alloc(BLOCKS * BLOCK_BYTES, 0xa5));
    const socket = path.join(rig.directory, 'nbd');
    const server = spawn('qemu-nbd', ['-t', '-f', 'raw', '-k', socket, file], { stdio: 'ignore' });
    t.teardown(() => server.kill());
    while (!isListening(socket)) await new Promise(resolve => setTimeout(resolve, 20));
    const target = { server: { kind: 'unix', path: socket }, exportName: '' };
    const check = (): void => {
      const is = fs.readFileSync(file);
      const { model } = rig.volumes.get('disk')!;
      let wrong = 0;
      for (let i = 0; i < BLOCKS; i++) if (is.readUInt32LE(i * BLOCK_BYTES + 8) !== model[i]) wrong++;
      t.equal(wrong, 0);
    };
    rig.write('disk', 100, 2000, 7);
    const first = await run(backup({ target }));
    t.match(first.message, /7\.8 MiB written .*all of it/);
    check();
    rig.write('disk', 150, 10, 0);
    rig.write('disk', 5000, 3, 4);
    t.match((await run(backup({ target }))).message, /12\.0 KiB written .*what changed since/);
    check();
    t.equal(rig.snapshotList.length, 1);
    rig.snapshotList[0]!.status.labels = Object.fromEntries(
      Object.entries(rig.snapshotList[0]!.status.labels).map(([k, v]) => [k, v === 'held' ? 'writing' : v]),
    );
    t.match((await run(backup({ target }))).message, /all of it, as the last backup was cut short/);
    t.equal(rig.snapshotList.length, 1);
    check();
  },
);
