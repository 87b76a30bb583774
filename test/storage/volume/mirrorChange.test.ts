/**
 * A mirror that is made shorter, with crashes in between; one whose second side is another one, or was used by itself; and one
 * whose second side is slow.
 */
import t, { type Test } from 'tap';
import { ERRNO } from '../../../storage/volume/volume.js';
import { emitCopy, COPY_BYTES, parseCopy } from '../../../storage/volume/mirrorJournal.js';
import { Rig } from './mirrorRig.js';
import { MiB, read, waitFor, write } from './suite.js';

t.setTimeout(120_000);

const SIZE = 16 * MiB;
const SHORT = 7 * MiB;

const filled = (length: number, byte: number): Uint8Array => new Uint8Array(length).fill(byte);
const flush = (rig: Rig): number => waitFor(rig, waiter => rig.volume.flush(waiter, 7));

function ready(size_bytes = SIZE): Rig {
  const rig = new Rig(size_bytes);
  rig.turn();
  return rig.synced();
}

/** The same as far as both go. */
function same(t: Test, rig: Rig, what: string): void {
  const length = rig.volume.size_bytes;
  const [a, b] = [rig.first, rig.second].map(side => side.all().subarray(0, length));
  t.equal(a!.length, length);
  t.equal(Buffer.compare(a!, b!), 0, what);
}

/** Asked once a turn, as the loop does. */
function expectCut(rig: Rig): number {
  for (;;) {
    const result = rig.volume.expectContent('cut');
    if (result !== -ERRNO.EAGAIN) return result;
    rig.turn();
  }
}

/** The machine goes down: what is durable of the journal is what the next one finds. */
function crash(rig: Rig): void {
  rig.file.now = rig.file.synced.slice();
  rig.open();
  rig.turns(5);
}

void t.test('it is whole at one size, wherever it crashes', async t => {
  const steps = ['expected', 'first cut', 'told', 'second cut', 'never'] as const;
  for (const at of steps)
    for (const lag of [false, true]) {
      const rig = ready();
      for (let offset = 0; offset < SIZE; offset += 4 * MiB) write(rig, offset + 2 * MiB, filled(4096, 5));
      t.equal(flush(rig), 0);
      if (lag) {
        // The second side lacks something on either side of the cut.
        rig.second.failing = true;
        for (const offset of [6 * MiB, 13 * MiB]) write(rig, offset, filled(4096, 6));
        rig.second.failing = false;
      }
      t.equal(expectCut(rig), 0);
      const { written_bytes } = rig.second;
      const step = (name: (typeof steps)[number], act: () => void): boolean => {
        if (rig.first.size_bytes === SIZE && name === 'first cut')
          t.equal(rig.second.written_bytes, written_bytes, 'nothing is copied meanwhile');
        act();
        if (name === at) crash(rig);
        return name === at;
      };
      const gone =
        step('expected', () => rig.turns(100)) ||
        step('first cut', () => rig.first.cut(SHORT)) ||
        step('told', () => rig.volume.contentChanged()) ||
        step('second cut', () => rig.second.cut(SHORT));
      t.equal(gone, at !== 'never');
      const size = at === 'expected' ? SIZE : SHORT;
      t.equal(rig.volume.size_bytes, size, at);
      rig.turns(3000);
      rig.synced();
      same(t, rig, `${at}: the same`);
      t.equal(read(rig, 6 * MiB, 1)[0], lag ? 6 : 5);
      t.equal(rig.volume.left_bytes, 0);
      // What was cut off does not come back on either side when it grows again.
      rig.grow(SIZE);
      rig.turns(3000);
      rig.synced();
      t.equal(read(rig, 14 * MiB, 1)[0], size === SIZE ? 5 : 0);
      same(t, rig, `${at}: the same when it has grown again`);
    }
});

void t.test('marks behind the new end are gone, and those before it stay', async t => {
  const rig = ready();
  write(rig, 5 * MiB, filled(4096, 1));
  write(rig, 14 * MiB, filled(4096, 1));
  t.equal(expectCut(rig), 0);
  rig.first.cut(SHORT);
  rig.volume.contentChanged();
  const { marks } = rig.volume.journal;
  t.ok(marks.has(1));
  t.equal(marks.next(2), -1, 'regions of 4 MiB');
  rig.turns(100);
  const [a, b] = [0, COPY_BYTES].map(at => parseCopy(rig.file.synced.subarray(at, at + COPY_BYTES)));
  const newest = (a?.sequence ?? 0) > (b?.sequence ?? 0) ? a : b;
  t.match(newest, { size_bytes: SHORT, good: 'both' });
});

void t.test('not while the first side lacks something, nor while a request does not end', async t => {
  const rig = ready();
  rig.first.failing = true;
  t.equal(write(rig, 0, filled(4096, 1)), 0);
  t.equal(expectCut(rig), -ERRNO.EBUSY);
  rig.first.failing = false;
  rig.turns(10_000);
  rig.synced();
  rig.second.slow = () => 1_000_000;
  rig.volume.write(0, 4096, { address: 0, bytes: filled(4096, 1) }, 0, { completed: () => undefined }, 0);
  t.equal(expectCut(rig), -ERRNO.EBUSY, 'it is given up');
  t.ok(rig.now_ms > 20_000);
});

void t.test('another second side gets everything', async t => {
  const rig = ready();
  write(rig, 0, filled(2 * MiB, 3));
  t.equal(flush(rig), 0);
  while (rig.volume.journal.marks.next(0) >= 0) rig.turn();
  rig.second.tryWrite(0, MiB, { address: 0, bytes: filled(MiB, 9) }, 0);
  rig.partner = 'another';
  rig.open();
  rig.turns(5);
  t.equal(rig.volume.mirrorStatus.state, 'resyncing');
  rig.turns(5000);
  rig.synced();
  same(t, rig, 'the same');
  t.equal(rig.second.all()[0], 3);
  const { copied_bytes } = rig.volume;
  while (rig.volume.journal.marks.next(0) >= 0) rig.turn();
  rig.open();
  rig.turns(2000);
  t.equal(rig.volume.copied_bytes, 0, 'and it is known from then on');
  t.ok(copied_bytes >= SIZE);
});

void t.test('split brain: the side that had everything is not the one that is there', async t => {
  const rig = ready();
  rig.first.failing = true;
  t.equal(write(rig, 0, filled(4096, 3)), 0);
  rig.turns(10);
  rig.first.failing = false;
  rig.partner = 'another';
  rig.open();
  rig.turns(5);
  t.equal(rig.volume.state, 'failed');
  t.match(rig.volume.reason, /used by itself since: name it as it was/);
  t.throws(() => read(rig, 0, 4096), /-5/, 'old bytes are not told for new ones');
  rig.partner = 'one';
  rig.open();
  rig.turns(5000);
  rig.synced();
  t.equal(rig.first.all()[0], 3, 'named as it was, it is the good one');
});

void t.test('a journal from before sides had names is believed', async t => {
  const rig = ready();
  write(rig, 0, filled(4096, 3));
  t.equal(flush(rig), 0);
  while (rig.volume.journal.marks.next(0) >= 0) rig.turn();
  for (const at of [0, COPY_BYTES]) {
    const half = rig.file.now.subarray(at, at + COPY_BYTES);
    const copy = parseCopy(half);
    if (copy !== null) emitCopy(half, { ...copy, partner: '' });
  }
  rig.partner = 'whoever';
  rig.open();
  rig.turns(2000);
  t.equal(rig.volume.mirrorStatus.state, 'in-sync');
  t.equal(rig.volume.copied_bytes, 0);
  t.equal(rig.volume.journal.partner, 'whoever');
});

void t.test(
  'a second side that takes seconds holds up no read, and writes only as long as it takes',
  async t => {
    const rig = ready();
    write(rig, 0, filled(8192, 1));
    rig.second.slow = () => 3000;
    let written: number | null = null;
    const memory = { address: 0, bytes: filled(4096, 2) };
    const waiter = { completed: (_: number, result: number) => void (written = result) };
    const begun_ms = rig.now_ms;
    rig.volume.write(0, 4096, memory, 0, waiter, 0);
    for (let i = 0; i < 50; i++) {
      t.equal(read(rig, 4096, 4096)[0], 1, 'beside it');
      read(rig, 0, 4096);
      rig.turn();
    }
    t.ok(rig.now_ms - begun_ms < 200, 'reads are of the first side, at once');
    t.equal(written, null, 'a write is answered when both have it');
    while (written === null) rig.turn();
    t.equal(written, 0);
    t.ok(rig.now_ms - begun_ms >= 3000);
    t.equal(rig.volume.state, 'ok', 'slow is not broken');
  },
);

void t.test('what is copied takes its share beside clients, and all of it when they rest', async t => {
  const rig = ready();
  rig.first.tryWrite(0, SIZE, { address: 0, bytes: filled(SIZE, 4) }, 0);
  rig.second.failing = true;
  for (let offset = 0; offset < SIZE; offset += 4 * MiB) write(rig, offset, filled(4096, 5));
  rig.second.failing = false;
  while (rig.volume.mirrorStatus.state !== 'resyncing') rig.turn();
  rig.second.slow = () => 20;
  const copied = (turns: number, busy: boolean): number => {
    const before = rig.volume.copied_bytes;
    const until_ms = rig.now_ms + turns;
    while (rig.now_ms < until_ms) {
      if (busy) write(rig, 0, filled(4096, 6));
      else rig.turn();
    }
    return rig.volume.copied_bytes - before;
  };
  const beside = copied(1000, true);
  const alone = copied(1000, false);
  t.ok(beside > 0, 'it goes on');
  t.ok(alone > 2 * beside, `${alone} bytes alone, ${beside} beside writes`);
  rig.turns(20_000);
  rig.synced();
  same(t, rig, 'the same');
});
