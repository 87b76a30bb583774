/**
 * A mirror takes the exam, with both sides well and with one away; then sides that fail and come back, bits that rot, and
 * crashes at any time. Histories are random; a failure names its seed.
 */
import t, { type Test } from 'tap';
import { ERRNO } from '../../../storage/volume/volume.js';
import type { Exchange } from '../../../storage/volume/mirror.js';
import { Rig, Side } from './mirrorRig.js';
import { MiB, exam, read, waitFor, write } from './suite.js';

t.setTimeout(600_000);

const BIG = 64 * MiB;
const SMALL = 12 * MiB;

function generator(seed: number): (below: number) => number {
  let x = seed * 2_654_435_761;
  return below => {
    x = (Math.imul(x, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((x / 2 ** 32) * below);
  };
}

const flush = (rig: Rig): number => waitFor(rig, waiter => rig.volume.flush(waiter, 7));
const filled = (length: number, byte: number): Uint8Array => new Uint8Array(length).fill(byte);
function same(t: Test, rig: Rig, what: string): void {
  t.equal(Buffer.compare(rig.first.all(), rig.second.all()), 0, what);
}

exam(t, 'mirror', () => {
  const rig = new Rig();
  rig.turn();
  return rig.synced();
});

void t.test('what is written is on both sides, and a new mirror copies the first', async t => {
  const rig = new Rig(BIG);
  t.equal(rig.volume.mirrorStatus.state, 'resyncing', 'before the journal is read nothing is promised');
  write(rig, 5 * MiB, filled(100_000, 1));
  rig.turn();
  rig.synced();
  t.equal(rig.volume.state, 'ok');
  write(rig, 123, filled(5000, 2));
  t.equal(flush(rig), 0);
  same(t, rig, 'the same');
  t.equal(read(rig, 5 * MiB, 1)[0], 1);
});

void t.test('a side that fails is left out, and gets only what it missed', async t => {
  for (const name of ['first', 'second'] as const) {
    const rig = new Rig(BIG);
    rig.first.tryWrite(0, BIG, { address: 0, bytes: filled(BIG, 7) }, 0);
    rig.turn();
    rig.synced();
    rig.turns(20_000);
    const side = rig[name];
    side.failing = true;
    t.equal(write(rig, 20 * MiB, filled(4096, 9)), 0, 'clients notice nothing');
    t.equal(rig.volume.state, 'degraded');
    t.match(rig.volume.reason, name);
    t.equal(write(rig, 40 * MiB, filled(4096, 9)), 0);
    t.equal(flush(rig), 0);
    t.equal(read(rig, 20 * MiB, 1)[0], 9);
    side.written_bytes = 0;
    side.failing = false;
    rig.turns(5000);
    rig.synced();
    same(t, rig, 'the same again');
    t.ok(
      side.written_bytes <= 8 * MiB && side.written_bytes >= 2 * 4096,
      `${side.written_bytes} copied for 2 regions`,
    );
    t.equal(rig.volume.state, 'ok');
  }
});

void t.test('the last good side is never left out', async t => {
  const rig = new Rig(BIG);
  rig.turn();
  rig.synced();
  rig.second.failing = true;
  t.equal(write(rig, 0, filled(4096, 1)), 0);
  rig.first.failing = true;
  t.equal(write(rig, 0, filled(4096, 2)), -ERRNO.EIO);
  rig.second.failing = false;
  t.equal(write(rig, 0, filled(4096, 3)), -ERRNO.EIO, 'the other one is stale');
  rig.first.failing = false;
  t.equal(write(rig, 0, filled(4096, 4)), 0);
  rig.turns(100_000);
  rig.synced();
  same(t, rig, 'the same');
  t.equal(read(rig, 0, 1)[0], 4);
});

void t.test('what one side cannot read comes from the other, and is written back', async t => {
  const rig = new Rig(BIG);
  rig.turn();
  rig.synced();
  write(rig, 8192, filled(65_536, 3));
  rig.first.readErrorFrom = 12_288;
  t.ok(read(rig, 8192, 65_536).every(byte => byte === 3));
  rig.turns(500);
  t.equal(rig.first.readErrorFrom, -1, 'written over');
  t.ok(rig.volume.repairs > 0 && rig.volume.readErrors > 0);
  t.equal(rig.volume.state, 'ok', 'and it stays in');
  same(t, rig, 'the same');
});

void t.test('a block that the good side lost keeps only its own region from being copied', async t => {
  const rig = new Rig(BIG);
  rig.turn();
  rig.synced();
  rig.second.failing = true;
  for (const region of [2, 4, 6]) write(rig, region * 4 * MiB, filled(4096, region));
  rig.first.readErrorFrom = 8 * MiB;
  rig.second.failing = false;
  rig.turns(20_000);
  t.equal(rig.volume.mirrorStatus.state, 'resyncing');
  t.equal(rig.volume.stale.count(), 1);
  t.equal(rig.second.all()[24 * MiB], 6);
  t.equal(write(rig, 8 * MiB, filled(4096, 9)), 0, 'written over');
  rig.turns(5000);
  rig.synced();
  same(t, rig, 'the same');
});

void t.test('a journal that cannot be written or read', async t => {
  const rig = new Rig(BIG);
  rig.turn();
  rig.synced();
  rig.turns(20_000);
  rig.file.error = 28;
  t.equal(write(rig, 0, filled(4096, 1)), -ERRNO.EIO);
  t.equal(rig.volume.state, 'failed');
  t.equal(read(rig, 0, 1)[0], 0, 'reads go on');
  rig.file.error = 0;
  rig.file.now.fill(0xa5);
  rig.open();
  t.throws(() => read(rig, 0, 1), /-5/, 'which side is good is not guessed');
  t.match(rig.volume.reason, /damaged/);
});

void t.test('sides of different sizes', async t => {
  const rig = new Rig(BIG);
  rig.turn();
  rig.synced();
  rig.second.fixed = true;
  rig.volume.grow(BIG + 8 * MiB);
  t.equal(rig.volume.state, 'degraded');
  t.match(rig.volume.reason, /second side is left out: it has 67108864 bytes/);
  t.equal(write(rig, BIG, filled(4096, 1)), 0);
  rig.second.fixed = false;
  rig.second.grow(BIG + 8 * MiB);
  rig.turns(5000);
  rig.synced();
  same(t, rig, 'the same');
});

void t.test('marks go away when nothing is written', async t => {
  const rig = new Rig(BIG);
  rig.turn();
  rig.synced();
  for (let i = 0; i < 10; i++) write(rig, i * 5 * MiB, filled(4096, i));
  t.ok(rig.volume.journal.marks.count() >= 10);
  rig.turns(20_000);
  t.equal(rig.volume.journal.marks.count(), 0);
  const { commitCount } = rig.volume.journal;
  rig.turns(50_000);
  t.equal(rig.volume.journal.commitCount, commitCount, 'and an idle mirror writes nothing');
});

void t.test('random histories with sides that fail and come back', async t => {
  for (let seed = 1; seed <= 5; seed++) {
    const random = generator(seed);
    const size = 32 * MiB;
    const rig = new Rig(size);
    rig.turn();
    rig.synced();
    const model = Buffer.alloc(size);
    for (let step = 0; step < 120; step++) {
      const offset = random(size - 300_000);
      const length = 1 + random(random(4) === 0 ? 300_000 : 9000);
      const kind = random(12);
      if (kind < 6) {
        const byte = 1 + random(255);
        if (write(rig, offset, filled(length, byte)) !== 0) throw new Error(`seed ${seed}: a write failed`);
        model.fill(byte, offset, offset + length);
      } else if (kind < 8) {
        const got = read(rig, offset, length);
        if (Buffer.compare(got, model.subarray(offset, offset + length)) !== 0)
          t.fail(`seed ${seed} step ${step}: read of ${length} at ${offset}`);
      } else if (kind === 8) t.equal(flush(rig), 0);
      else if (kind === 9) {
        const how = { mayUnmap: random(2) === 0, fastOnly: false };
        waitFor(rig, waiter => rig.volume.zero(offset, length, how, waiter, 7));
        model.fill(0, offset, offset + length);
      } else if (kind === 10) rig.turns(random(3000));
      else {
        // Only one side at a time, and the one that is not good.
        const side =
          rig.volume.mirrorStatus.state === 'in-sync' ? random(2) : rig.volume.sides.good === 0 ? 1 : 0;
        const it = side === 0 ? rig.first : rig.second;
        const other = side === 0 ? rig.second : rig.first;
        if (!other.failing) it.failing = !it.failing;
      }
    }
    rig.first.failing = rig.second.failing = false;
    rig.turns(70_000);
    rig.synced();
    same(t, rig, `seed ${seed}: the same`);
    t.equal(Buffer.compare(rig.first.all(), model), 0, `seed ${seed}: what was written`);
  }
});

void t.test('a crash at any time', async t => {
  let crashes = 0;
  for (let seed = 1; seed <= 14; seed++) {
    const random = generator(seed);
    const rig = new Rig(SMALL);
    rig.turn();
    rig.synced();
    const flushed = Buffer.alloc(SMALL);
    const now = Buffer.alloc(SMALL);
    let pending: { offset: number; length: number; byte: number } | null = null;
    // From the cleanest state, where everything has to be marked first; soon, or after some more has happened.
    while (rig.volume.journal.marks.next(0) >= 0) rig.turn();
    rig.crashIn = random(random(4) === 0 ? 9000 : 100);
    if (random(2) === 0) (random(2) === 0 ? rig.first : rig.second).failing = true;
    rig.file.slow = () => random(12);
    rig.first.slow = () => random(3) * random(6);
    rig.second.slow = () => random(3) * random(6);
    /** Blocks that were written since the last flush may be either. */
    const touched = new Set<number>();
    try {
      for (let step = 0; step < 400; step++) {
        const offset = random(3) * 4 * MiB + random(500) * 4096;
        const length = 4096 * (1 + random(4));
        pending = null;
        const kind = random(10);
        if (kind < 5) {
          pending = { offset, length, byte: 1 + random(255) };
          for (let at = offset; at < offset + length; at += 4096) touched.add(at);
          if (write(rig, offset, filled(length, pending.byte)) !== 0) throw new Error('a write failed');
          now.fill(pending.byte, offset, offset + length);
        } else if (kind < 7) {
          if (flush(rig) !== 0) throw new Error('a flush failed');
          now.copy(flushed);
          touched.clear();
        } else if (kind === 7) rig.turns(random(8000));
        else if (rig.volume.mirrorStatus.state === 'in-sync' || rig.first.failing || rig.second.failing) {
          if (rig.first.failing || rig.second.failing) rig.first.failing = rig.second.failing = false;
          else (random(2) === 0 ? rig.first : rig.second).failing = true;
        }
      }
    } catch (error) {
      if ((error as Error).message !== 'crash') throw new Error(`seed ${seed}`, { cause: error });
      crashes++;
    }
    // The machine goes down: the journal's last write may be torn, unflushed blocks are lost or not, each side for itself.
    const { file } = rig;
    const torn = file.synced.slice();
    for (let at = 0; at < torn.length; at += 512)
      if (random(2) === 0) torn.set(file.now.subarray(at, at + 512), at);
    rig.first.crash(() => random(2) === 0);
    rig.second.crash(() => random(2) === 0);
    rig.first.failing = rig.second.failing = false;
    const again = new Rig(SMALL);
    again.file.now = torn;
    again.file.synced = torn.slice();
    again.first = remade(rig.first.all(), again);
    again.second = remade(rig.second.all(), again);
    again.open();
    const seen = Buffer.from(read(again, 0, 3 * MiB));
    again.turn();
    again.turns(100);
    again.synced();
    same(t, again, `seed ${seed}: the same after a crash`);
    t.equal(
      Buffer.compare(seen, again.first.all().subarray(0, 3 * MiB)),
      0,
      `seed ${seed}: what was read stays`,
    );
    const after = again.first.all();
    for (let at = 0; at < after.length; at += 4096) {
      const block = after.subarray(at, at + 4096);
      if (touched.has(at)) continue;
      if (!block.equals(flushed.subarray(at, at + 4096))) {
        t.fail(`seed ${seed}: block at ${at} was flushed and is lost`);
        break;
      }
    }
  }
  t.ok(crashes > 8, `${crashes} crashes`);
});

function remade(bytes: Buffer, rig: Rig): Side {
  const side = new Side(bytes.length, rig.later);
  for (let at = 0; at < bytes.length; at += MiB)
    side.tryWrite(at, MiB, { address: 0, bytes: bytes.subarray(at, at + MiB) }, 0);
  side.flush({ completed: () => undefined }, 0);
  return side;
}

/** Asked once a turn, as the loop does. */
function expectContent(rig: Rig, what: Exchange = 'all'): number {
  for (;;) {
    const result = rig.volume.expectContent(what);
    if (result !== -ERRNO.EAGAIN) return result;
    rig.turn();
  }
}

void t.test(
  'what the first side holds is exchanged, and the second gets all of it, whatever crashes',
  async t => {
    for (const crash of ['never', 'before', 'after'] as const) {
      const rig = new Rig(SMALL);
      rig.turn();
      rig.synced();
      for (let at = 0; at < SMALL; at += 3 * MiB) write(rig, at, filled(3 * MiB, 1));
      t.equal(flush(rig), 0);
      rig.turns(6000);
      t.equal(expectContent(rig), 0);
      const marked = rig.second.written_bytes;
      rig.turns(2000);
      t.equal(rig.second.written_bytes, marked, 'nothing is copied until it has been exchanged');
      if (crash !== 'before') rig.first.tryWrite(0, SMALL, { address: 0, bytes: filled(SMALL, 2) }, 0);
      if (crash === 'never') rig.volume.contentChanged();
      else {
        // What is durable of the journal, and both sides, are what the next one finds.
        rig.file.now = rig.file.synced.slice();
        rig.open();
      }
      rig.turns(5000);
      rig.synced();
      same(t, rig, `the same: crash ${crash}`);
      t.equal(rig.second.all()[SMALL - 1], crash === 'before' ? 1 : 2);
    }
  },
);

void t.test('the content of a first side that is not the good one is not exchanged', async t => {
  const rig = new Rig(SMALL);
  rig.turn();
  rig.synced();
  rig.first.failing = true;
  t.equal(write(rig, 0, filled(4096, 1)), 0);
  t.equal(expectContent(rig), -ERRNO.EBUSY);
  t.equal(rig.volume.firstHasAll, -ERRNO.EBUSY, 'a snapshot of it would be stale');
  rig.first.failing = false;
  rig.turns(6000);
  rig.synced();
  t.equal(rig.volume.firstHasAll, 0);
  t.equal(expectContent(rig), 0);
  rig.volume.contentChanged();
  rig.turns(5000);
  rig.synced();
  t.equal(read(rig, 0, 1)[0], 1);
});
