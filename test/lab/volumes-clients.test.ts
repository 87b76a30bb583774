/**
 * Volumes as other people's NBD clients see them: space that comes and goes, random operations against a model, file
 * systems through a mounted export; snapshots, clones and rollback compared by qemu-img; damage below, and who tells.
 *
 *   nbdcopy nbdsh nbdfuse qemu-img qemu-io e2fsck ---unix sockets--- weft-storage --- pools in the lab's directory
 */
import { createHash, randomBytes } from 'node:crypto';
import { closeSync, openSync, readFileSync, readdirSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Diff, JobStatus, SnapshotStatus, VolumeStatus } from '../../storage/contract.js';
import { ask, askJson } from './harness/http.js';
import { Lab } from './harness/lab.js';
import { missing } from './harness/needs.js';
import { eventually, killSync, run } from './harness/processes.js';
import { Storage } from './harness/weft.js';

// Each part has an end of its own; on a busy machine they are far apart.
t.setTimeout(600_000);

const MIB = 2 ** 20;
const SIZE_BYTES = 64 * MIB;
const skip = (...programs: string[]): string | false => missing({ programs });

type Config = Parameters<Storage['configure']>[0];

/** libnbd's module belongs to Debian's Python, whichever comes first elsewhere. */
const PYTHON = { env: { PATH: `/usr/bin:${process.env['PATH'] ?? ''}` } };

/** A pool, and an export of whatever is named, each at a socket of its own. */
class House {
  readonly lab: Lab;
  plane: Storage;
  readonly #exports: Config['exports'] = [];
  #pools: Config['pools'];
  #volumes: NonNullable<Config['volumes']> = [];

  private constructor(lab: Lab, plane: Storage) {
    this.lab = lab;
    this.plane = plane;
    this.#pools = [{ name: 'p', directory: lab.path('pool') }];
  }

  static async open(t: Test): Promise<House> {
    const lab = Lab.open();
    t.teardown(() => lab.close());
    const house = new House(lab, await Storage.start(lab));
    await house.#configure();
    await house.plane.makeVolume('p', 'v', SIZE_BYTES);
    return house;
  }

  async #configure(): Promise<void> {
    const config = { pools: this.#pools, exports: this.#exports };
    await this.plane.configure(this.#volumes.length === 0 ? config : { ...config, volumes: this.#volumes });
  }

  async openedAs(volumes: NonNullable<Config['volumes']>, more: Config['pools'] = []): Promise<void> {
    this.#volumes = volumes;
    this.#pools = [...this.#pools, ...more];
    await this.#configure();
  }

  /** SIGKILL, and a new one that is told the same. */
  async killAndRestart(): Promise<void> {
    killSync(this.plane.pid);
    await this.plane.program.ended;
    this.plane = await Storage.start(this.lab);
    await this.#configure();
  }

  /** Its NBD URI. */
  async export(volume: string, options: { snapshot?: string; pool?: string } = {}): Promise<string> {
    const { snapshot, pool = 'p' } = options;
    const name = `e${this.#exports.length}`;
    const path = this.lab.path(`${name}.sock`);
    this.#exports.push({
      name,
      nbdName: name,
      pool,
      volume,
      readOnly: snapshot !== undefined,
      ...(snapshot === undefined ? {} : { snapshot }),
      listen: [{ kind: 'unix', path }],
    });
    await this.#configure();
    return `nbd+unix:///${name}?socket=${path}`;
  }

  /** Nothing is exported any more, and no client is left. */
  async withdraw(): Promise<void> {
    this.#exports.length = 0;
    await this.#configure();
  }

  async volume(name = 'v', pool = 'p'): Promise<VolumeStatus> {
    const found = (await this.plane.status()).volumes.find(one => one.name === name && one.pool === pool);
    if (found === undefined) throw new Error(`no volume ${name}`);
    return found;
  }

  async snapshot(name: string, ...volumes: string[]): Promise<SnapshotStatus[]> {
    const body = {
      name,
      volumes: (volumes.length === 0 ? ['v'] : volumes).map(volume => ({ pool: 'p', volume })),
    };
    const reply = await askJson<{ snapshots: SnapshotStatus[] }>(
      this.plane.socket,
      'POST',
      '/snapshots',
      body,
    );
    return reply.snapshots;
  }

  async clone(
    name: string,
    from: { volume: string; snapshot?: string },
    size_bytes = SIZE_BYTES,
  ): Promise<void> {
    await this.plane.put(`/pools/p/volumes/${name}`, { size_bytes, from });
  }

  /** Whether the plane knows such a request at all. */
  async answers(path: string): Promise<boolean> {
    const { status, text } = await ask(this.plane.socket, 'POST', path, {});
    return status !== 404 || !text.includes('"NOT_FOUND"');
  }

  /** A job's end. */
  async job(request: object): Promise<JobStatus> {
    const { id } = await askJson<JobStatus>(this.plane.socket, 'POST', '/jobs', request);
    return eventually(
      `job ${id} to end`,
      async () => {
        const job = await this.plane.get<JobStatus>(`/jobs/${id}`);
        return job.endedAt_ms === null ? null : job;
      },
      { timeout_ms: 60_000 },
    );
  }
}

const nbdsh = (script: string): string[] => ['nbdsh', '-n', '-c', `exec(open("${script}").read())`];

const qemuIo = async (uri: string, ...commands: string[]) =>
  run(
    [
      'qemu-io',
      '-f',
      'raw',
      // A snapshot can only be opened so.
      ...(commands.every(command => command.startsWith('read')) ? ['-r'] : []),
      ...commands.flatMap(command => ['-c', command]),
      uri,
    ],
    { mayFail: true },
  );

async function mustIo(t: Test, uri: string, ...commands: string[]): Promise<void> {
  const { status, stdout, stderr } = await qemuIo(uri, ...commands);
  t.equal(status, 0, `${commands.join('; ')}: ${status === 0 ? 'ok' : stdout + stderr}`);
  t.notMatch(stdout, /Pattern verification failed/);
}

const same = async (a: string, b: string): Promise<boolean> =>
  (await run(['qemu-img', 'compare', '-f', 'raw', '-F', 'raw', a, b], { mayFail: true })).status === 0;

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

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
  const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
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
  const seed = Date.now() % 1_000_000;
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
    // New layers over what was written, when there are such things.
    if (await house.answers('/snapshots')) await house.snapshot(`s${turn}`);
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
  if (!(await house.answers('/snapshots'))) return lacking(t, 'weft-storage knows no snapshots');
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
  const cloned = await ask(house.plane.socket, 'DELETE', '/pools/p/volumes/v/snapshots/one');
  t.equal(cloned.status, 409, 'not while something was cloned from it');
  const flat = await house.job({ kind: 'flatten', pool: 'p', volume: 'c' });
  t.equal(flat.state, 'done', flat.message ?? '');
  await mustIo(t, again, 'read -P 0x44 1M 1M', 'read -P 0x11 2M 6M', 'read -P 0x12 20M 4M');
});

await t.test(
  'what changed since a snapshot, as a dirty bitmap',
  { skip: skip('nbdinfo', 'qemu-img', 'qemu-io') },
  async t => {
    const house = await House.open(t);
    if (!(await house.answers('/snapshots'))) return lacking(t, 'weft-storage knows no snapshots');
    const uri = await house.export('v');
    await mustIo(t, uri, 'write -P 0x11 0 8M', 'flush');
    await house.snapshot('one');
    await mustIo(t, uri, 'write -P 0x22 1M 64k', 'write -z -u 16M 1M', 'discard 4M 64k', 'flush');
    const context = 'qemu:dirty-bitmap:one';
    const info = JSON.parse((await run(['nbdinfo', '--json', uri])).stdout) as {
      exports: { contexts: string[] }[];
    };
    if (info.exports[0]?.contexts.includes(context) !== true)
      return lacking(t, `no context ${context}: ${JSON.stringify(info.exports[0]?.contexts)}`);
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
        [16 * MIB, MIB],
      ],
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
        [16 * MIB, MIB],
      ],
    );
  },
);

await t.test('several volumes at one instant', { skip: skip('nbdsh') }, async t => {
  const house = await House.open(t);
  if (!(await house.answers('/snapshots'))) return lacking(t, 'weft-storage knows no snapshots');
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

/** Said aloud, as tests do that cannot run. */
function lacking(t: Test, why: string): void {
  t.pass('weft-storage can do it', { skip: why });
}

/** Turns a bit of the largest file below, in the middle of what it has: as a disk does that forgets. */
function flipABit(directory: string, offset_bytes: number): string {
  const files = (readdirSync(directory, { recursive: true }) as string[])
    .map(name => join(directory, name))
    .filter(path => path.endsWith('/data') && statSync(path).isFile());
  const path = files.toSorted((a, b) => statSync(b).blocks - statSync(a).blocks)[0];
  if (path === undefined) throw new Error(`no data below ${directory}`);
  const bytes = readFileSync(path).subarray(offset_bytes, offset_bytes + 1);
  const fd = openSync(path, 'r+');
  writeSync(fd, Uint8Array.of(bytes[0]! ^ 1), 0, 1, offset_bytes);
  closeSync(fd);
  return path;
}

await t.test('a bit that is flipped on the disk is never served', { skip: skip('qemu-io') }, async t => {
  const house = await House.open(t);
  if (!(await house.answers('/snapshots'))) return lacking(t, 'weft-storage knows no snapshots');
  const v = await house.export('v');
  await mustIo(t, v, 'write -P 0x11 0 8M', 'flush');
  await house.snapshot('one');
  const path = flipABit(house.lab.path('pool'), 3 * MIB + 77);
  t.comment(path);
  // The page cache may still have what was written: what is asked is what a checksum says of what is read.
  const bad = await qemuIo(v, `read -P 0x11 ${3 * MIB} 4k`);
  t.match(bad.stdout + bad.stderr, /Input\/output error/);
  await mustIo(t, v, 'read -P 0x11 0 3M', `read -P 0x11 ${3 * MIB + 4096} 1M`);
  const status = await eventually('the status to say so', async () => {
    const volume = await house.volume();
    return (volume.checksumErrors ?? 0) > 0 ? volume : null;
  });
  t.match(`${status.state} ${status.reason}`, /./);
  t.comment(`state ${status.state}: ${status.reason}; ${status.checksumErrors} errors`);
  const scrub = await house.job({ kind: 'scrub', pool: 'p' });
  t.ok(
    scrub.findings.some(({ offset_bytes }) => offset_bytes === 3 * MIB),
    `scrub: ${scrub.state}, ${scrub.message}, ${JSON.stringify(scrub.findings)}`,
  );
});

await t.test('a mirror goes on with one side, and mends it', { skip: skip('qemu-io') }, async t => {
  const house = await House.open(t);
  await house.openedAs([], [{ name: 'q', directory: house.lab.path('other') }]);
  await house.plane.makeVolume('q', 'v', SIZE_BYTES);
  await house.openedAs([{ pool: 'p', name: 'v', mirror: { pool: 'q', volume: 'v' } }]);
  if (((await house.volume()).mirror ?? null) === null) return lacking(t, 'weft-storage knows no mirrors');
  const v = await house.export('v');
  await mustIo(t, v, 'write -P 0x11 0 8M', 'flush');
  const inSync = async () =>
    eventually('both sides to be the same', async () => {
      const { mirror } = await house.volume();
      return mirror?.state === 'in-sync' ? true : null;
    });
  await inSync();
  flipABit(house.lab.path('pool'), MIB + 5);
  await mustIo(t, v, `read -P 0x11 ${MIB} 4k`, 'read -P 0x11 0 8M');
  const scrub = await house.job({ kind: 'scrub', pool: 'p' });
  t.comment(`scrub: ${scrub.state}, ${scrub.message}, ${JSON.stringify(scrub.findings)}`);
  await mustIo(t, v, 'read -P 0x11 0 8M');
  await inSync();
});

await t.test(
  'a remote server is killed under load',
  { skip: skip('nbdkit', 'qemu-io', 'nbdsh') },
  async t => {
    const house = await House.open(t);
    const socket = house.lab.path('remote.sock');
    const image = house.lab.path('remote.img');
    await run(['truncate', '-s', String(SIZE_BYTES), image]);
    const kit = () => house.lab.start(['nbdkit', '-f', '-U', socket, 'file', image]);
    let server = kit();
    await eventually('nbdkit', () =>
      statSync(socket, { throwIfNoEntry: false }) === undefined ? null : true,
    );
    const remote = { server: { kind: 'unix' as const, path: socket }, patience_ms: 30_000 };
    try {
      await house.openedAs([{ pool: 'r', name: 'disk', remoteName: '' }], [{ name: 'r', remote }]);
    } catch (error) {
      if (String(error).includes('an absolute path is needed'))
        return lacking(t, 'weft-storage knows no remote pools');
      throw error;
    }
    const uri = await house.export('disk', { pool: 'r' });
    const script = house.lab.path('load.py');
    writeFileSync(
      script,
      `
import nbd, os, sys
h = nbd.NBD()
h.connect_uri("${uri}")
done = {}
n = 0
while not os.path.exists("${house.lab.path('stop')}"):
    n += 1
    at = (n * 7919) % (${SIZE_BYTES} // 4096) * 4096
    h.pwrite(n.to_bytes(8, "little") * 512, at, nbd.CMD_FLAG_FUA if n % 8 == 0 else 0)
    done[at] = n
    if n % 100 == 0:
        print("at", n, flush=True)
h.flush()
for at, n in done.items():
    assert h.pread(4096, at) == n.to_bytes(8, "little") * 512, (at, n)
print("verified", n, flush=True)
`,
    );
    const load = house.lab.start(nbdsh(script), PYTHON);
    const progress = (): number => Number(/at (\d+)\s*$/.exec(load.stdout.trimEnd())?.[1] ?? 0);
    for (let i = 0; i < 3; i++) {
      const before = progress();
      await eventually('the load to get on', () => {
        if (!load.isRunning) throw new Error(load.stderr);
        return progress() > before + 200 ? true : null;
      });
      server.signal('SIGKILL');
      await server.ended;
      await run(['rm', '-f', socket]);
      server = kit();
    }
    const before = progress();
    await eventually('the load to get on', () => (progress() > before + 200 ? true : null));
    writeFileSync(house.lab.path('stop'), '');
    const { stdout, stderr } = await load.ended;
    t.match(stdout, /^verified \d+$/m, stderr);
  },
);
