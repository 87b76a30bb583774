/**
 * Backups in the places where things go wrong: cut short and gone on with, two targets, encrypted volumes, old ones that go. In this
 * thread, with the calls of jobs/calls.ts in the test's hand.
 */
import * as crypto from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import t from 'tap';
import { keyCheck } from '../../../storage/cipher/key.js';
import { listBackups, manifestsOf } from '../../../storage/jobs/backupPlace.js';
import { BlockCipher } from '../../../storage/jobs/blockCipher.js';
import { kernelCalls, useCalls } from '../../../storage/jobs/calls.js';
import { JobError } from '../../../storage/jobs/errors.js';
import { sealManifest, unkept, type Encryption, type Manifest } from '../../../storage/jobs/manifest.js';
import { parseProgress, progressLine } from '../../../storage/jobs/progress.js';
import { BLOCK_BYTES } from '../../../storage/layers/map.js';
import { Rig, TestSlices } from './rig.js';
import { BLOCKS, backup, newDirectory, restore, run, target } from './story.js';

const MiB = 1024 * 1024;
const full = (): Error => Object.assign(new Error('no space left'), { code: 'ENOSPC' });

function place(t: { teardown(done: () => void): void }): Rig {
  const rig = new Rig(newDirectory());
  t.teardown(() => {
    useCalls(kernelCalls);
    rig.close();
  });
  rig.addVolume('disk', BLOCKS * BLOCK_BYTES);
  return rig;
}

/** Bytes that jobs write to what is longer than a page, until `left` are used up: then the disk is full. */
function count(left = Infinity): { written: number } {
  const counted = { written: 0 };
  useCalls({
    ...kernelCalls,
    write: (fd, bytes, at, offset) => {
      if (bytes.length > BLOCK_BYTES) {
        if (counted.written + bytes.length > left) throw full();
        counted.written += bytes.length;
      }
      return kernelCalls.write(fd, bytes, at, offset);
    },
  });
  return counted;
}

async function bringsBack(
  t: { same(found: unknown, wanted: unknown): unknown },
  rig: Rig,
  model: Uint32Array,
  name?: string,
): Promise<void> {
  rig.addVolume('other', BLOCKS * BLOCK_BYTES);
  await run(rig, restore(rig, 'other', name === undefined ? {} : { backup: name }));
  rig.volumes.get('other')!.model = model;
  t.same(rig.faults(), []);
  rig.volumes.delete('other');
}

void t.test('a full disk: the next one goes on, and makes its own', async t => {
  const rig = place(t);
  rig.write('disk', 0, 5000, 7);
  count(10 * MiB);
  await t.rejects(run(rig, backup(rig)), { code: 'JOB_IO', message: /the file system is full/ });
  t.match(listBackups(target(rig)).backups, [{ state: 'incomplete', stored_bytes: 8 * MiB, kind: 'full' }]);
  t.equal(rig.snapshotList.length, 1, 'its snapshot is kept');
  await t.rejects(run(rig, restore(rig, 'disk')), { code: 'BACKUP_UNKNOWN' });
  await t.rejects(run(rig, { kind: 'verify', source: { directory: target(rig) } }), {
    code: 'BACKUP_UNKNOWN',
  });

  const { model } = rig.snapshotList[0]!;
  rig.write('disk', 10, 3, 99);
  const counted = count();
  const said = await run(rig, backup(rig));
  t.match(
    said,
    /^backup \S+: 19\.5 MiB \(.*, of which 8\.0 MiB were there already\); backup \S+-2: 12\.0 KiB \(what/,
  );
  t.equal(counted.written, 5000 * BLOCK_BYTES - 8 * MiB + 3 * BLOCK_BYTES, 'nothing was copied twice');
  const { backups } = listBackups(target(rig));
  t.match(backups, [
    { state: 'whole', kind: 'full' },
    { state: 'whole', kind: 'incremental' },
  ]);
  t.equal(rig.snapshotList.length, 1, 'and one snapshot is left');
  await bringsBack(t, rig, model, backups[0]!.name);
  await bringsBack(t, rig, rig.volumes.get('disk')!.model);
});

void t.test('what the target has lost of one that was cut short is copied again', async t => {
  const rig = place(t);
  rig.write('disk', 0, 5000, 7);
  count(10 * MiB);
  await t.rejects(run(rig, backup(rig, { snapshot: undefined })));
  const room = path.join(target(rig), 'disk', fs.readdirSync(path.join(target(rig), 'disk'))[0]!);
  const fd = fs.openSync(path.join(room, 'data'), 'r+');
  fs.writeSync(fd, Buffer.alloc(100), 0, 100, 5 * MiB);
  fs.closeSync(fd);
  // And its last line was being written.
  fs.appendFileSync(path.join(room, 'progress'), '[8388608,41943');
  const counted = count();
  t.match(await run(rig, backup(rig)), /of which 4\.0 MiB were there already/);
  t.equal(counted.written, 5000 * BLOCK_BYTES - 4 * MiB);
  await bringsBack(t, rig, rig.volumes.get('disk')!.model);
});

void t.test('a target that goes away in the middle, and comes back', async t => {
  const rig = place(t);
  rig.write('disk', 0, 3000, 7);
  await run(rig, backup(rig));
  rig.write('disk', 0, 3000, 70);
  const away = `${target(rig)}-away`;
  useCalls({
    ...kernelCalls,
    rename: (from, to) => {
      fs.renameSync(target(rig), away);
      kernelCalls.rename(from, to);
    },
  });
  await t.rejects(run(rig, backup(rig)), { code: 'JOB_IO' });
  useCalls(kernelCalls);
  await t.rejects(run(rig, backup(rig, { target: { directory: `${away}-/x` } })), { code: 'BACKUP_PLACE' });
  fs.renameSync(away, target(rig));
  t.equal(listBackups(target(rig)).backups.length, 1);
  const said = await run(rig, backup(rig));
  t.match(said, /what changed since/);
  await bringsBack(t, rig, rig.volumes.get('disk')!.model);
});

void t.test('a cancelled one leaves nothing, one whose snapshot is gone begins anew', async t => {
  const rig = place(t);
  rig.write('disk', 0, 5000, 7);
  class Cancelled extends TestSlices {
    override async moved(): Promise<void> {
      if (++this.moves > 9) throw new JobError('JOB_CANCELLED', 'cancelled');
    }
  }
  await t.rejects(run(rig, backup(rig), new Cancelled()), { code: 'JOB_CANCELLED' });
  t.same(rig.snapshotList, []);
  t.same(fs.readdirSync(path.join(target(rig), 'disk')), []);
  count(10 * MiB);
  await t.rejects(run(rig, backup(rig)), { code: 'JOB_IO' });
  count();
  await t.rejects(run(rig, backup(rig), new Cancelled()), { code: 'JOB_CANCELLED' });
  t.same(rig.snapshotList, [], 'also what it was to go on with');
  t.same(fs.readdirSync(path.join(target(rig), 'disk')), []);
  count(10 * MiB);
  await t.rejects(run(rig, backup(rig)));
  rig.snapshotList.length = 0;
  useCalls(kernelCalls);
  t.match(await run(rig, backup(rig)), /^backup \S+: 19\.5 MiB \(full, as it is the first there\)$/);
  count(10 * MiB);
  rig.write('disk', 0, 5000, 8);
  await t.rejects(run(rig, backup(rig)));
  count();
  t.match(await run(rig, backup(rig, { full: true })), /^backup \S+: 19\.5 MiB \(full, as asked for\)$/);
  t.same(
    fs.readdirSync(path.join(target(rig), 'disk')).filter(name => name.startsWith('.')),
    [],
  );
  t.equal(rig.snapshotList.length, 1);
});

void t.test('two targets: each has its own snapshot, and a snapshot that is waited for stays', async t => {
  const rig = place(t);
  const second = { target: { directory: path.join(rig.directory, 'second') } };
  rig.write('disk', 0, 100, 7);
  await run(rig, backup(rig));
  rig.write('disk', 0, 10, 70);
  await run(rig, backup(rig, second));
  t.equal(rig.snapshotList.length, 2);
  rig.write('disk', 50, 10, 700);
  t.match(await run(rig, backup(rig)), /80\.0 KiB \(what changed/);
  t.match(await run(rig, backup(rig, second)), /40\.0 KiB \(what changed/);
  t.equal(rig.snapshotList.length, 2);
  // As the command line makes one for several volumes, before it asks for backups of them.
  const made = { 'weft.backup': 'made' };
  await rig.snapshot('p', 'disk', 'wanted', made);
  await rig.snapshot('p', 'disk', 'forgotten', made);
  rig.snapshotList.at(-2)!.status.createdAt_ms = 1_800_000_000_000 - 1000;
  await run(rig, backup(rig));
  t.same(
    rig.snapshotList.map(({ status }) => status.name).filter(name => !name.startsWith('backup')),
    ['wanted'],
  );
});

/** Writes to `disk` what `disk` would have below its cipher. */
function encrypt(rig: Rig): Encryption {
  const encryption: Encryption = {
    cipher: 'aes-256-xts',
    keyUuid: crypto.randomUUID(),
    keyCheck: keyCheck(rig.key),
  };
  rig.volumes.get('disk')!.encryption = encryption;
  return encryption;
}

void t.test(
  'an encrypted volume: what is on disk is what the backup has, with the check of its key',
  async t => {
    const rig = place(t);
    rig.write('disk', 1000, 30, 7);
    const encryption = encrypt(rig);
    await run(rig, backup(rig));
    const { manifests } = manifestsOf(target(rig), 'disk');
    t.same(manifests[0]!.encryption, encryption);
    const text = fs.readFileSync(path.join(target(rig), 'disk', manifests[0]!.name, 'manifest.json'), 'utf8');
    t.notMatch(text, Buffer.from(rig.key).toString('hex').slice(0, 16));
    t.match(listBackups(target(rig)).backups, [{ encrypted: true }]);
    await run(rig, { kind: 'verify', source: { directory: target(rig) } });
    await bringsBack(t, rig, rig.volumes.get('disk')!.model);
    t.same(rig.volumes.get('disk')!.encryption, encryption);
    rig.addVolume('other', BLOCKS * BLOCK_BYTES);
    await run(rig, restore(rig, 'other'));
    t.same(rig.volumes.get('other')!.encryption, encryption, 'it has the same key now');
    const { top } = rig.volumes.get('other')!;
    rig.key[0]! ^= 1;
    await t.rejects(run(rig, restore(rig, 'other')), { code: 'VOLUME_KEY' });
    t.equal(rig.volumes.get('other')!.top, top, 'nothing was switched');
  },
);

void t.test('in plaintext when it is asked for, and encrypted again on the way back', async t => {
  const rig = place(t);
  rig.write('disk', 1000, 30, 7);
  rig.write('disk', 1010, 5, 0);
  encrypt(rig);
  await run(rig, backup(rig, { plaintext: true }));
  const { manifests } = manifestsOf(target(rig), 'disk');
  t.equal(manifests[0]!.encryption, undefined);
  // What the volume's blocks mean, by the cipher of its own clients' data path: the model is the ciphertext.
  const data = fs.readFileSync(path.join(target(rig), 'disk', manifests[0]!.name, 'data'));
  const cipher = new BlockCipher(rig.key.slice());
  const block = Uint8Array.from(data.subarray(1003 * BLOCK_BYTES, 1004 * BLOCK_BYTES));
  t.not(block[0], 10, 'it is not what lies on disk');
  cipher.encrypt(block, 1003 * BLOCK_BYTES);
  t.equal(Buffer.from(block).readUInt32LE(0), 10);
  t.ok(
    data.subarray(1012 * BLOCK_BYTES, 1013 * BLOCK_BYTES).every(byte => byte === 0),
    'zeroes are zeroes',
  );
  rig.addVolume('other', BLOCKS * BLOCK_BYTES);
  rig.volumes.get('other')!.encryption = rig.volumes.get('disk')!.encryption;
  await run(rig, restore(rig, 'other'));
  rig.volumes.get('other')!.model = rig.volumes.get('disk')!.model;
  t.same(rig.faults(), [], 'the same key, the same bytes');
  rig.write('disk', 5, 1, 3);
  t.match(await run(rig, backup(rig)), /full, as backup \S+ is not encrypted/, 'never one upon the other');
});

void t.test('only what is not empty has to be told to be overwritten', async t => {
  const rig = place(t);
  rig.write('disk', 1000, 30, 7);
  await run(rig, backup(rig));
  await t.rejects(run(rig, restore(rig, 'disk', { overwrite: false })), /is not empty/);
  rig.addVolume('other', BLOCKS * BLOCK_BYTES);
  t.match(await run(rig, restore(rig, 'other', { overwrite: false })), /^other is as in/);
});

void t.test('old ones go, never one that another builds upon', async t => {
  const rig = place(t);
  const names = (): string[] => listBackups(target(rig)).backups.map(({ kind }) => kind[0]!);
  for (let round = 1; round <= 6; round++) {
    rig.write('disk', round * 10, 5, round);
    await run(rig, backup(rig, { full: round === 1 || round === 4 }));
  }
  t.same(names(), ['f', 'i', 'i', 'f', 'i', 'i']);
  const prune = (keep: object) => run(rig, { kind: 'prune', source: { directory: target(rig) }, keep });
  t.match(await prune({ last: 4 }), /^nothing was old enough to go, 6 are kept/);
  t.match(await prune({ last: 2 }), /^3 went .*, 3 are kept/);
  t.same(names(), ['f', 'i', 'i']);
  await bringsBack(t, rig, rig.volumes.get('disk')!.model);
  t.match(await prune({ age_ms: 1 }), /3 are kept/, 'one of this moment is not old');
  await t.rejects(prune({}), /say how many, or how old/);
  rig.write('disk', 3, 3, 3);
  const said = await run(rig, backup(rig, { full: true, keep: { last: 1 } }));
  t.match(said, /full, as asked for\); 3 went \(.*\), 1 are kept/);
  t.same(names(), ['f']);
  fs.mkdirSync(path.join(target(rig), 'disk', 'broken'));
  rig.write('disk', 3, 3, 4);
  t.match(
    await run(rig, backup(rig, { full: true, keep: { last: 1 } })),
    /nothing was removed, as backup disk\/broken/,
  );
});

void t.test('what is kept, by the chains that there are', t => {
  const made: Manifest[] = [];
  const make = (sequence: number, base: Manifest | null, createdAt_ms: number): Manifest => {
    const uuid = '00000000-0000-4000-8000-000000000000';
    const manifest = sealManifest(
      {
        format: 'weft-backup-1',
        uuid,
        volume: 'v',
        name: `b${sequence}`,
        size_bytes: 4096,
        sequence,
        snapshot: { name: 's', uuid },
        base: base === null ? null : { name: base.name, snapshotUuid: uuid, manifestSha256: base.sha256 },
        createdAt_ms,
        piece_bytes: 4096,
        data_bytes: 0,
        zero_bytes: 0,
        extents: [],
      },
      text => crypto.createHash('sha256').update(text).digest('hex'),
    );
    made.push(manifest);
    return manifest;
  };
  const a = make(1, null, 1000);
  const b = make(2, a, 2000);
  make(3, a, 99_000);
  make(4, b, 2500);
  const going = (keep: object, now_ms = 10_000): string[] =>
    unkept(made, keep, now_ms).map(({ name }) => name);
  t.same(going({ last: 1 }), ['b3']);
  t.same(going({ last: 2 }), []);
  t.same(going({ age_ms: 100 }), [], 'what is from the future is not old');
  t.same(going({ age_ms: 100 }, 200_000), ['b3'], 'the newest is kept, and what it builds upon');
  t.same(going({ last: 1, age_ms: 150_000 }, 200_000), [], 'either rule keeps');
  t.end();
});

void t.test('progress: lines that are not whole do not count', t => {
  const uuid = '00000000-0000-4000-8000-000000000000';
  const sum = 'a'.repeat(64);
  const head = {
    format: 'weft-backup-progress-1' as const,
    volumeUuid: uuid,
    snapshot: { name: 's', uuid },
    base: null,
    createdAt_ms: 1,
    size_bytes: 4096,
    encrypted: false,
    content: sum,
  };
  const text = progressLine(head) + progressLine([0, 4096, sum]) + progressLine([4096, 4096, sum]);
  t.equal(parseProgress(text)!.pieces.length, 2);
  for (let end = 0; end < text.length; end++) {
    const parsed = parseProgress(text.slice(0, end));
    if (parsed === null) t.ok(end < progressLine(head).length);
    else t.ok(parsed.end_bytes <= end && text.slice(0, end).startsWith(text.slice(0, parsed.end_bytes)));
  }
  for (const bad of ['', '\n', '{}\n', '\0'.repeat(100), `${text.slice(5)}`])
    t.equal(parseProgress(bad), null);
  t.end();
});
