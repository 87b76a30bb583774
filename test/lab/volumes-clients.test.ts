/**
 * Volumes as other people's NBD clients see them: space that comes and goes, random operations against a model, file
 * systems through a mounted export; snapshots, clones and rollback compared by qemu-img.
 *
 *   nbdcopy nbdsh nbdfuse qemu-img qemu-io e2fsck ---unix sockets--- weft-storage --- pools in the lab's directory
 */
import { randomBytes } from 'node:crypto';
import { readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Diff } from '../../storage/contract.js';
import { ask } from './harness/http.js';
import { missing } from './harness/needs.js';
import { eventually, run } from './harness/processes.js';
import {
  House,
  MIB,
  PYTHON,
  SIZE_BYTES,
  mustIo,
  nbdsh,
  qemuIo,
  same,
  sha256,
  skip,
} from './harness/volumes.js';
import { firstSeed } from '../seed.js';

// Each part has an end of its own; on a busy machine they are far apart.
t.setTimeout(600_000);

await t.test('nbdcopy: holes stay holes both ways', { skip: skip('nbdcopy', 'nbdinfo') }, async t => {
  const house = await House.open(t);
  const uri = await house.export('v');
  const content = Buffer.alloc(SIZE_BYTES);
  for (let at = 0; at < SIZE_BYTES; at += 16 * MIB) randomBytes(MIB).copy(content, at);
  const [input, output] = [house.lab.path('in'), house.lab.path('out')];
  writeFileSync(input, content);
  // First as it must not stay: with all zeroes allocated.
  await run(['nbdcopy', '--flush', '--allocated', input, uri]);
  await run(['nbdcopy', '--flush', input, uri]);
  const { allocated_bytes } = await eventually('space to be given back', async () => {
    const volume = await house.volume();
    return volume.allocated_bytes < 8 * MIB ? volume : null;
  }).catch(async () => house.volume());
  t.ok(allocated_bytes < 8 * MIB, `${allocated_bytes} bytes allocated for 4 MiB of data`);
  await run(['nbdcopy', uri, output]);
  t.equal(sha256(readFileSync(output)), sha256(content));
  t.ok(statSync(output).blocks * 512 < 8 * MIB, 'what came back is sparse');
  const map = (await run(['nbdinfo', '--map', '--totals', uri])).stdout;
  t.match(map, /^\s*4194304\s+6\.\d%\s+0/m, 'as much is told as data');
});

await t.test('nbdsh: random operations against a model', { skip: skip('nbdsh') }, async t => {
  const house = await House.open(t);
  const uri = await house.export('v');
  const seed = Number(process.env['SEED'] ?? firstSeed);
  t.comment(`SEED=${seed}`);
  const script = house.lab.path('model.py');
  writeFileSync(
    script,
    `
import random, nbd
r = random.Random(${seed})
SIZE = 8 << 20
model = bytearray(SIZE)
a, b = nbd.NBD(), nbd.NBD()
for h in (a, b):
    h.connect_uri("${uri}")
for turn in range(1500):
    h = r.choice((a, b))
    # Whole blocks now and then; else any byte.
    unit = r.choice((1, 512, 4096, 65536))
    at = r.randrange(0, SIZE // unit) * unit
    n = min(r.randrange(1, 40) * r.choice((unit, 1)), SIZE - at, 1 << 20)
    what = r.choice(("write", "write", "fua", "zero", "nohole", "fast", "trim", "read", "read", "flush"))
    if what in ("write", "fua"):
        data = r.randbytes(n)
        h.pwrite(data, at, nbd.CMD_FLAG_FUA if what == "fua" else 0)
        model[at:at + n] = data
    elif what in ("zero", "nohole", "fast", "trim"):
        try:
            if what == "trim":
                h.trim(n, at)
            else:
                h.zero(n, at, {"zero": 0, "nohole": nbd.CMD_FLAG_NO_HOLE, "fast": nbd.CMD_FLAG_FAST_ZERO}[what])
        except nbd.Error as e:
            assert what == "fast" and e.errno in ("ENOTSUP", "EOPNOTSUPP"), (what, e.errno)
            continue
        if what == "trim":
            # What was trimmed may be anything afterwards; from then on it is what it was found to be.
            model[at:at + n] = h.pread(n, at)
        else:
            model[at:at + n] = bytes(n)
    elif what == "read":
        assert h.pread(n, at) == model[at:at + n], (turn, at, n)
    else:
        h.flush()
a.flush()
assert b.pread(SIZE, 0) == bytes(model)
print("same")
`,
  );
  const { stdout, stderr } = await run(nbdsh(script), { mayFail: true, timeout_ms: 120_000, ...PYTHON });
  t.match(stdout, /^same$/m, stderr);
});

await t.test('what was answered is there after kill -9, flushed or not', { skip: skip('nbdsh') }, async t => {
  const house = await House.open(t);
  const uri = await house.export('v');
  const [script, model] = [house.lab.path('writer.py'), house.lab.path('model')];
  const seed = firstSeed;
  t.comment(`seed ${seed}`);
  // One request at a time: when it ends there is none without an answer, but the last of which nothing is said.
  writeFileSync(
    script,
    `
import random, nbd, sys, time
r = random.Random(${seed} + int(open("${model}.turn").read()))
SIZE = 16 << 20
try:
    model = bytearray(open("${model}", "rb").read())
except FileNotFoundError:
    model = bytearray(SIZE)
h = nbd.NBD()
h.connect_uri("${uri}")
assert h.pread(SIZE, 0) == bytes(model), "what was there before"
until = time.time() + 1.5
while time.time() < until:
    unit = r.choice((1, 4096, 4096, 65536))
    at = r.randrange(0, SIZE // unit) * unit
    n = min(r.randrange(1, 20) * unit, SIZE - at)
    what = r.choice(("write", "write", "write", "zero", "flush" if r.random() < 0.05 else "write"))
    if what == "write":
        data = r.randbytes(n)
        h.pwrite(data, at)
        model[at:at + n] = data
    elif what == "zero":
        h.zero(n, at)
        model[at:at + n] = bytes(n)
    else:
        h.flush()
open("${model}", "wb").write(model)
print("written", flush=True)
time.sleep(600)
`,
  );
  for (let turn = 0; turn < 4; turn++) {
    writeFileSync(`${model}.turn`, String(turn));
    const writer = house.lab.start(nbdsh(script), PYTHON);
    await writer.waitForOutput(stdout => (stdout.includes('written') ? true : null));
    await house.killAndRestart();
    writer.signal('SIGKILL');
    await writer.ended;
    // New layers over what was written.
    await house.snapshot(`s${turn}`);
    t.pass(`turn ${turn}`);
  }
});

const FUSE = missing({ programs: ['nbdfuse', 'mkfs.ext4', 'e2fsck', 'fusermount3'], paths: ['/dev/fuse'] });

await t.test('nbdfuse: a file system in a mounted export', { skip: FUSE }, async t => {
  const house = await House.open(t);
  const uri = await house.export('v');
  const point = house.lab.path('mnt');
  await run(['mkdir', point]);
  house.lab.undo.push('unmount', () => void run(['fusermount3', '-uz', point], { mayFail: true }));
  const file = join(point, 'nbd');
  const mounted = house.lab.start(['nbdfuse', file, uri]);
  await eventually('the mount', () => {
    if (!mounted.isRunning) throw new Error(mounted.stderr);
    return statSync(point, { throwIfNoEntry: false }) !== undefined && readdirSync(point).includes('nbd')
      ? true
      : null;
  });
  t.equal(statSync(file).size, SIZE_BYTES);
  const inside = house.lab.path('inside');
  await run(['mkdir', inside]);
  const content = randomBytes(5 * MIB);
  writeFileSync(join(inside, 'file'), content);
  await run(['mkfs.ext4', '-q', '-d', inside, file]);
  t.equal((await run(['e2fsck', '-fn', file], { mayFail: true })).status, 0);
  await run(['fusermount3', '-u', point]);
  await mounted.ended;
  // What the file system holds, another client reads.
  const image = house.lab.path('image');
  await run(['qemu-img', 'convert', '-f', 'raw', '-O', 'raw', uri, image]);
  t.equal((await run(['e2fsck', '-fn', image], { mayFail: true })).status, 0);
  const out = house.lab.path('file');
  await run(['debugfs', '-R', `dump file ${out}`, image]);
  t.equal(sha256(readFileSync(out)), sha256(content));
});

await t.test('snapshots, clones and rollback', { skip: skip('qemu-io', 'qemu-img') }, async t => {
  const house = await House.open(t);
  const v = await house.export('v');
  await mustIo(t, v, 'write -P 0x11 0 8M', 'write -P 0x12 20M 4M', 'flush');
  await house.snapshot('one');
  // The client stays connected while the top is swapped below it.
  await mustIo(t, v, 'write -P 0x21 4M 8M', 'write -z -u 20M 1M', 'write -P 0x22 12345 6789', 'flush');
  await house.snapshot('two');
  await mustIo(t, v, 'write -P 0x31 0 1M', 'discard 4M 1M');

  const one = await house.export('v', { snapshot: 'one' });
  const two = await house.export('v', { snapshot: 'two' });
  await mustIo(t, one, 'read -P 0x11 0 8M', 'read -P 0 8M 4M', 'read -P 0x12 20M 4M');
  await mustIo(
    t,
    two,
    'read -P 0x22 12345 6789',
    'read -P 0x21 4M 8M',
    'read -P 0 20M 1M',
    'read -P 0x12 21M 3M',
  );
  await mustIo(t, v, 'read -P 0x31 0 1M', 'read -P 0x21 5M 7M');
  t.not((await qemuIo(one, 'write 0 4k')).status, 0, 'a snapshot is not written');
  t.notOk(await same(one, two));

  await house.clone('c', { volume: 'v', snapshot: 'one' });
  const c = await house.export('c');
  t.ok(await same(c, one), 'a clone begins as its snapshot');
  await mustIo(t, c, 'write -P 0x44 1M 1M', 'flush', 'read -P 0x44 1M 1M', 'read -P 0x11 2M 6M');
  await mustIo(t, one, 'read -P 0x11 0 8M');
  t.ok((await house.volume('c')).allocated_bytes < 4 * MIB, 'and takes no more than what differs');
  await house.clone('d', { volume: 'c' });
  const d = await house.export('d');
  t.ok(await same(d, c), 'a clone of a clone as it is now');

  const diff = await house.plane.get<Diff>('/pools/p/volumes/v/diff?from=one&to=two');
  const covers = (at: number): boolean =>
    diff.extents.some(
      ({ offset_bytes, length_bytes }) => at >= offset_bytes && at < offset_bytes + length_bytes,
    );
  t.ok(
    [12_345, 4 * MIB, 12 * MIB - 1, 20 * MIB, 21 * MIB - 1].every(covers),
    'all that was changed is in it',
  );
  t.notOk([MIB, 3 * MIB, 12 * MIB + 4096, 22 * MIB].some(covers), 'and not what was not');

  await house.withdraw();
  const rollback = await ask(house.plane.socket, 'POST', '/pools/p/volumes/v/rollback', { snapshot: 'one' });
  t.equal(rollback.status, 200, rollback.text);
  const rolled = await house.export('v');
  t.ok(await same(rolled, await house.export('v', { snapshot: 'one' })), 'it is what it was');
  await mustIo(t, rolled, 'write -P 0x55 0 4k', 'read -P 0x55 0 4k');
  const held = await ask(house.plane.socket, 'POST', '/pools/p/volumes/v/rollback', { snapshot: 'one' });
  t.comment(`rollback without clients, exported: ${held.status}`);

  // Deleted in the middle; what others have of it stays.
  await house.withdraw();
  const gone = await ask(house.plane.socket, 'DELETE', '/pools/p/volumes/v/snapshots/two');
  t.equal(gone.status, 200, gone.text);
  const again = await house.export('c');
  await mustIo(t, again, 'read -P 0x44 1M 1M', 'read -P 0x11 2M 6M', 'read -P 0x12 20M 4M');
  await house.withdraw();
  const cloned = await ask(house.plane.socket, 'DELETE', '/pools/p/volumes/v/snapshots/one');
  t.equal(cloned.status, 200, 'what was cloned from it keeps what it shares');
  const still = await house.export('c');
  const flat = await house.job({ kind: 'flatten', pool: 'p', volume: 'c' });
  t.equal(flat.state, 'done', flat.message ?? '');
  await mustIo(t, still, 'read -P 0x44 1M 1M', 'read -P 0x11 2M 6M', 'read -P 0x12 20M 4M');
});

await t.test(
  'what changed since a snapshot, as a dirty bitmap',
  { skip: skip('nbdinfo', 'qemu-img', 'qemu-io') },
  async t => {
    const house = await House.open(t);
    const uri = await house.export('v');
    await mustIo(t, uri, 'write -P 0x11 0 8M', 'flush');
    await house.snapshot('one');
    await mustIo(t, uri, 'write -P 0x22 1M 64k', 'write -z -u 16M 1M', 'discard 4M 64k', 'flush');
    const context = 'qemu:dirty-bitmap:one';
    const info = JSON.parse((await run(['nbdinfo', '--json', uri])).stdout) as {
      exports: { contexts: string[] }[];
    };
    t.ok(info.exports[0]?.contexts.includes(context), JSON.stringify(info.exports[0]?.contexts));
    interface Extent {
      offset: number;
      length: number;
      type: number;
    }
    const map = JSON.parse((await run(['nbdinfo', '--json', `--map=${context}`, uri])).stdout) as Extent[];
    const dirty = map.filter(({ type }) => (type & 1) === 1);
    t.same(
      dirty.map(({ offset, length }) => [offset, length]),
      [
        [MIB, 65_536],
        [4 * MIB, 65_536],
      ],
      'what read as zeroes and was zeroed is the same',
    );
    // QEMU's own way: a dirty range is told as data that is absent.
    const path = /socket=(.*)$/.exec(uri)![1]!;
    const name = /\/\/\/(.*)\?/.exec(uri)![1]!;
    const options = `driver=nbd,server.type=unix,server.path=${path},export=${name},x-dirty-bitmap=${context}`;
    const seen = JSON.parse(
      (await run(['qemu-img', 'map', '--output=json', '--image-opts', options])).stdout,
    ) as {
      start: number;
      length: number;
      data: boolean;
    }[];
    t.same(
      seen.filter(({ data }) => !data).map(({ start, length }) => [start, length]),
      [
        [MIB, 65_536],
        [4 * MIB, 65_536],
      ],
    );
  },
);

await t.test('several volumes at one instant', { skip: skip('nbdsh') }, async t => {
  const house = await House.open(t);
  await house.plane.makeVolume('p', 'w', SIZE_BYTES);
  const [v, w] = [await house.export('v'), await house.export('w')];
  // A number is written to w only after v has it: no snapshot may have a larger one in w.
  const script = house.lab.path('writer.py');
  writeFileSync(
    script,
    `
import nbd, sys
a, b = nbd.NBD(), nbd.NBD()
a.connect_uri("${v}")
b.connect_uri("${w}")
print("began", flush=True)
n = 0
while True:
    n += 1
    a.pwrite(n.to_bytes(512, "little"), 0)
    b.pwrite(n.to_bytes(512, "little"), 0)
`,
  );
  const writer = house.lab.start(nbdsh(script), PYTHON);
  await writer.waitForOutput(stdout => (stdout.includes('began') ? true : null));
  for (let i = 0; i < 10; i++) await house.snapshot(`s${i}`, 'v', 'w');
  t.ok(writer.isRunning, writer.stderr);
  await writer.stop();
  const number = async (uri: string): Promise<bigint> => {
    const { stdout } = await run(
      ['nbdsh', '-u', uri, '-c', 'print(int.from_bytes(h.pread(512, 0), "little"))'],
      PYTHON,
    );
    return BigInt(stdout.trim());
  };
  let before = -1n;
  for (let i = 0; i < 10; i++) {
    const first = await number(await house.export('v', { snapshot: `s${i}` }));
    const second = await number(await house.export('w', { snapshot: `s${i}` }));
    t.ok(first === second || first === second + 1n, `s${i}: ${first} and ${second}`);
    t.ok(first >= before);
    before = first;
  }
});
