/** The catalogue's file: what a crash, a full disk or a flipped bit leaves of it, at every place where it can happen. */
import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import type { Change } from '../../../storage/pool/catalog.js';
import { batchLine, headLine, replay } from '../../../storage/pool/catalogText.js';
import { CatalogLog } from '../../../storage/pool/catalogLog.js';
import type { PoolFiles } from '../../../storage/pool/files.js';
import { StorageError } from '../../../storage/volume/errors.js';

const POOL = 'b1ff2c1e-95d0-4a7e-a7a4-31e6c02a9b3a';
const FILE = '/p/catalog';

interface Write {
  readonly bytes: Buffer;
  readonly at: number;
}

/** One directory in memory: what is durable, and what was written since. */
class Disk implements PoolFiles {
  durable = new Map<string, Buffer>();
  /** By name: what a read sees. */
  seen = new Map<string, { bytes: Buffer; unsynced: Write[]; name: string | null }>();
  calls = 0;
  fail: (call: number, what: string) => string | null = () => null;
  #fds = new Map<number, { bytes: Buffer; unsynced: Write[]; name: string | null }>();
  #next = 10;

  static of(files: ReadonlyMap<string, Buffer>): Disk {
    const disk = new Disk();
    for (const [name, bytes] of files) {
      disk.durable.set(name, bytes);
      disk.seen.set(name, { bytes: Buffer.from(bytes), unsynced: [], name });
    }
    return disk;
  }

  /** Every state that a power cut now may leave: unsynced writes there, not there, or cut at any byte. */
  *cuts(): Generator<Map<string, Buffer>> {
    const file = this.seen.get(FILE)!;
    const durable = this.durable.get(FILE)!;
    yield new Map(this.durable);
    for (const { bytes, at } of file.unsynced)
      for (let length = 1; length <= bytes.length; length++) {
        const cut = Buffer.alloc(Math.max(durable.length, at + length));
        durable.copy(cut);
        bytes.copy(cut, at, 0, length);
        yield new Map([[FILE, cut]]);
        // The length of the file is there, what was written is not.
        const holes = Buffer.alloc(Math.max(durable.length, at + length));
        durable.copy(holes, 0, 0, Math.min(at, durable.length));
        yield new Map([[FILE, holes]]);
      }
  }

  #meet(what: string): void {
    const code = this.fail(this.calls++, what);
    if (code !== null) throw Object.assign(new Error(`${code}: made up`), { code, errno: -5, syscall: what });
  }

  exists(file: string): boolean {
    return this.seen.has(file);
  }
  readAll(file: string): Uint8Array {
    this.#meet('read');
    return Buffer.from(this.seen.get(file)!.bytes);
  }
  open(file: string): number {
    this.#meet('open');
    this.#fds.set(++this.#next, this.seen.get(file)!);
    return this.#next;
  }
  close(fd: number): void {
    this.#fds.delete(fd);
  }
  write(fd: number, bytes: Uint8Array, at: number): void {
    const file = this.#fds.get(fd)!;
    const taken = Buffer.from(bytes);
    const half = this.calls;
    try {
      this.#meet('write');
    } catch (error) {
      // As ENOSPC does: a part was written.
      this.#put(file, taken.subarray(0, half % taken.length), at);
      throw error;
    }
    this.#put(file, taken, at);
  }
  #put(file: { bytes: Buffer; unsynced: Write[] }, bytes: Buffer, at: number): void {
    const longer = Buffer.alloc(Math.max(file.bytes.length, at + bytes.length));
    file.bytes.copy(longer);
    bytes.copy(longer, at);
    file.bytes = longer;
    file.unsynced.push({ bytes, at });
  }
  truncate(fd: number, length: number): void {
    this.#meet('truncate');
    const file = this.#fds.get(fd)!;
    file.bytes = Buffer.from(file.bytes.subarray(0, length));
  }
  sync(fd: number): void {
    this.#meet('sync');
    const file = this.#fds.get(fd)!;
    file.unsynced = [];
    if (file.name !== null && this.seen.get(file.name) === file)
      this.durable.set(file.name, Buffer.from(file.bytes));
  }
  replace(file: string, text: string): void {
    this.#meet('replace');
    const old = this.seen.get(file);
    if (old !== undefined) old.name = null;
    this.seen.set(file, { bytes: Buffer.from(text), unsynced: [], name: file });
    this.durable.set(file, Buffer.from(text));
  }
  reserve(): void {
    this.#meet('reserve');
  }
  jot(): void {}
  link(): void {}
  makeDirectory(): void {}
  makeFile(): void {}
  syncDirectory(): void {}
  rename(): void {}
}

function made(name: string): Change[] {
  const common = { size_bytes: 4096, checksums: true, preallocated: false, createdAt_ms: 1 };
  const layer = randomUUID();
  return [
    { do: 'layer', layer: { ...common, uuid: layer, parent: null, inherits_bytes: 0, plain: false } },
    {
      do: 'volume',
      volume: {
        ...common,
        uuid: randomUUID(),
        name,
        top: layer,
        labels: {},
        quota_bytes: null,
        keyCheck: null,
        keyUuid: null,
      },
    },
  ];
}

const newDisk = (text = headLine(POOL)): Disk => Disk.of(new Map([[FILE, Buffer.from(text)]]));
const open = (disk: Disk): CatalogLog => new CatalogLog(disk, FILE, POOL);
const names = ({ catalog }: { catalog: CatalogLog['catalog'] }): string[] =>
  [...catalog.volumes.values()].map(({ name }) => name).sort();

void t.test('what was committed is there again', async t => {
  const disk = newDisk();
  const log = open(disk);
  log.commit(made('a'));
  const [layer, volume] = made('b');
  log.commit([layer!, volume!]);
  log.commit([
    {
      do: 'drop',
      kind: 'volume',
      uuid: [...log.catalog.volumes.values()].find(one => one.name === 'a')!.uuid,
    },
  ]);
  t.same(names(log), ['b']);
  const again = open(Disk.of(disk.durable));
  t.same(again.catalog.changes(), log.catalog.changes());
  t.equal(again.closed, null);
});

void t.test('a power cut at any byte of a batch: before it, or after it', async t => {
  const disk = newDisk();
  const log = open(disk);
  log.commit(made('a'));
  let states = 0;
  disk.fail = (_, what) => {
    if (what !== 'sync') return null;
    for (const cut of disk.cuts()) {
      states++;
      const after = Disk.of(cut);
      const reopened = open(after);
      const found = names(reopened).join();
      if (found !== 'a' && found !== 'a,b') t.fail(`"${found}" is neither before nor after`);
      if (reopened.closed !== null) t.fail(`a crash is no damage: ${reopened.closed}`);
      // And it goes on from there.
      reopened.commit(made('c'));
      const third = open(Disk.of(after.durable));
      if (!names(third).includes('c') || third.closed !== null)
        t.fail('what is committed afterwards is lost');
    }
    return null;
  };
  log.commit(made('b'));
  t.ok(states > 200, `${states} states`);
});

void t.test('any call may fail: RAM and disk agree, and a failed change was not made', async t => {
  for (const code of ['ENOSPC', 'EIO'])
    for (let at = 0; at < 12; at++)
      for (const more of [false, true]) {
        const disk = newDisk();
        const log = open(disk);
        log.commit(made('a'));
        const from = disk.calls;
        disk.fail = call => (call === from + at || (more && call > from + at) ? code : null);
        const taken = ['a'];
        for (const name of ['b', 'c', 'd'])
          try {
            log.commit(made(name));
            taken.push(name);
          } catch (error) {
            if (!(error instanceof StorageError)) throw error;
          }
        disk.fail = () => null;
        const where = `${code} at call ${at}${more ? ' and after' : ''}`;
        t.same(names(log), taken, where);
        const again = open(Disk.of(disk.durable));
        t.same(names(again), taken, `${where}, opened again`);
      }
});

void t.test(
  'a damaged line in the middle is told; the rest is there, nothing is changed or cut off',
  async t => {
    const lines = [headLine(POOL), ...['a', 'b', 'c'].map((name, index) => batchLine(index + 1, made(name)))];
    for (let bit = 0; bit < 8; bit++) {
      const bytes = Buffer.from(lines.join(''));
      bytes[lines[0]!.length + lines[1]!.length + 40 + bit]! ^= 1 << bit;
      const disk = newDisk();
      disk.seen.get(FILE)!.bytes = Buffer.from(bytes);
      const log = open(disk);
      t.same(names(log), ['a', 'c']);
      t.match(log.closed, /line 3/);
      t.throws(() => log.commit(made('d')), { name: 'StorageError', code: 'POOL_DAMAGED' });
      t.same(disk.seen.get(FILE)!.bytes, bytes, 'not touched');
    }
  },
);

void t.test('an empty catalogue, or none of ours, is damage: its layers are not left over', async t => {
  for (const text of ['', '\n', 'x', headLine(POOL).slice(0, 20), '\0'.repeat(100)])
    t.not(open(newDisk(text)).closed, null, JSON.stringify(text));
  t.match(open(newDisk(headLine(randomUUID()))).closed, /belongs to pool/);
});

void t.test('a catalogue that is missing is made only where nothing tells of another', async t => {
  const disk = new Disk();
  t.match(new CatalogLog(disk, FILE, POOL, false).closed, /missing/);
  t.notOk(disk.exists(FILE));
  t.equal(new CatalogLog(new Disk(), FILE, POOL, true).closed, null);
});

void t.test('it is written anew when most of it is history, and that may fail', async t => {
  for (const failing of [null, 'replace', 'open']) {
    const disk = newDisk();
    const log = open(disk);
    const changes = made('a');
    disk.fail = (_, what) => (what === failing ? 'EIO' : null);
    let committed = 0;
    const volume = (changes[1] as { volume: Extract<Change, { do: 'volume' }>['volume'] }).volume;
    for (let i = 0; i < 1100; i++)
      try {
        log.commit(i === 0 ? changes : [{ do: 'volume', volume: { ...volume, quota_bytes: i } }]);
        committed = i;
      } catch (error) {
        if (!(error instanceof StorageError)) throw error;
      }
    const again = open(Disk.of(disk.durable));
    t.equal(again.closed, null);
    t.equal(log.closed === null, failing !== 'open', `${failing} fails: ${log.closed}`);
    t.equal([...again.catalog.volumes.values()][0]!.quota_bytes, committed, `${failing} fails`);
    if (failing === null) t.ok(disk.durable.get(FILE)!.length < 100_000);
  }
});

void t.test('whatever the text, it is taken or told', (t: Test) => {
  const good = Buffer.from(headLine(POOL) + batchLine(1, made('a')) + batchLine(2, made('b')));
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { maxLength: 6 }), edits => {
      const bytes = Buffer.from(good);
      for (const [at, value] of edits) bytes[at] = value;
      const { catalog, damage, length_bytes } = replay(bytes);
      const all = catalog.volumes.size === 2;
      // Only the end may be missing without a word.
      return all || damage.length > 0 || length_bytes < bytes.length;
    }),
    { verbose: 1 },
  );
  t.end();
});
