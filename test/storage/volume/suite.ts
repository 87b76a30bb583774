/**
 * One exam that every Volume takes, whatever it is made of. A volume under test says how its answers come to be
 * given (`turn`), and what it can (`supports`).
 */
import type { Test } from 'tap';
import { mapAnonymous } from '../../../host/memory.js';
import {
  EXTENT_DATA,
  EXTENT_ZERO,
  newExtentList,
  type Volume,
  type ZeroHow,
} from '../../../storage/volume/volume.js';

export interface Examined {
  readonly volume: Volume;
  /** Lets time pass: gives the answers that are there. */
  turn(): void;
  grow(size_bytes: number): void;
  close(): void;
  /** It may know no more of its extents than that something is there; then of a part of the range only. */
  readonly vagueExtents?: boolean;
}

export const MiB = 1024 * 1024;
/** What an examined volume is made with. */
export const EXAM_BYTES = 8 * MiB;

const memory = mapAnonymous(4 * MiB);
const ERASE: ZeroHow = { mayUnmap: true, fastOnly: false };
const KEEP: ZeroHow = { mayUnmap: false, fastOnly: false };

/** Asks, and turns until the answer is there. */
export function waitFor(
  examined: Examined,
  ask: (waiter: { completed(token: number, result: number): void }) => void,
): number {
  let result: number | null = null;
  let calledBack = false;
  let returned = false;
  ask({
    completed: (token, answer) => {
      if (token !== 7) throw new Error(`token ${token} came back instead of 7`);
      if (!returned) throw new Error('completed was called before the call returned');
      if (calledBack) throw new Error('completed was called twice');
      calledBack = true;
      result = answer;
    },
  });
  returned = true;
  for (let turns = 0; result === null; turns++) {
    if (turns > 10_000_000) throw new Error('no answer');
    examined.turn();
  }
  return result;
}

export function read(examined: Examined, offset: number, length: number, at = 0): Uint8Array {
  memory.bytes.fill(0xa5, 0, at + length + 1);
  const tried = examined.volume.tryRead(offset, length, memory, at);
  const result =
    tried === -11
      ? waitFor(examined, waiter => examined.volume.read(offset, length, memory, at, waiter, 7))
      : tried;
  if (result !== 0) throw new Error(`read of ${length} at ${offset}: ${result}`);
  if (memory.bytes[at + length] !== 0xa5) throw new Error('a read went beyond its end');
  return memory.bytes.slice(at, at + length);
}

export function write(examined: Examined, offset: number, bytes: Uint8Array, at = 0): number {
  memory.bytes.set(bytes, at);
  const tried = examined.volume.tryWrite(offset, bytes.length, memory, at);
  return tried === -11
    ? waitFor(examined, waiter => examined.volume.write(offset, bytes.length, memory, at, waiter, 7))
    : tried;
}

function pattern(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 31 + seed * 17 + (i >>> 8)) & 0xff;
  return bytes;
}

export function exam(t: Test, name: string, make: () => Examined): void {
  const examine = (what: string, body: (t: Test, examined: Examined) => void): void => {
    void t.test(`${name}: ${what}`, async t => {
      const examined = make();
      try {
        body(t, examined);
      } finally {
        examined.close();
      }
    });
  };

  examine('is as large as it was made and reads as zeroes', (t, examined) => {
    t.equal(examined.volume.size_bytes, EXAM_BYTES);
    t.equal(examined.volume.state, 'ok');
    t.equal(examined.volume.reason, null);
    for (const offset of [0, 4095, EXAM_BYTES - 8192])
      t.ok(
        read(examined, offset, 8192 > EXAM_BYTES - offset ? EXAM_BYTES - offset : 8192).every(
          byte => byte === 0,
        ),
        `at ${offset}`,
      );
  });

  examine('reads back what was written, at any alignment', (t, examined) => {
    const cases: [number, number, number][] = [
      [0, 4096, 0],
      [4096, 512, 28],
      [10_000, 1, 3],
      [8191, 2, 1],
      [123_457, 65_537, 16],
      [1 * MiB, 2 * MiB, 0],
      [EXAM_BYTES - 4096, 4096, 44],
      [EXAM_BYTES - 1, 1, 0],
    ];
    for (const [offset, length, at] of cases) {
      const bytes = pattern(length, offset);
      t.equal(write(examined, offset, bytes, at), 0);
      t.same(Buffer.compare(read(examined, offset, length, at), bytes), 0, `${length} at ${offset}`);
    }
    t.ok(
      read(examined, 12_288, 4096).every(byte => byte === 0),
      'beside them it is as before',
    );
  });

  examine('answers later as it does at once', (t, examined) => {
    const bytes = pattern(100_000, 9);
    memory.bytes.set(bytes, 5);
    t.equal(
      waitFor(examined, waiter => examined.volume.write(70_001, bytes.length, memory, 5, waiter, 7)),
      0,
    );
    memory.bytes.fill(0);
    t.equal(
      waitFor(examined, waiter => examined.volume.read(70_001, bytes.length, memory, 5, waiter, 7)),
      0,
    );
    t.equal(Buffer.compare(memory.bytes.slice(5, 5 + bytes.length), bytes), 0);
  });

  examine('keeps many requests apart', (t, examined) => {
    let answered = 0;
    const tokens = new Set<number>();
    for (let i = 0; i < 64; i++) {
      memory.bytes.fill(i + 1, i * 4096, (i + 1) * 4096);
      examined.volume.write(
        i * 8192,
        4096,
        memory,
        i * 4096,
        {
          completed: (token, result) => {
            t.equal(result, 0);
            tokens.add(token);
            answered++;
          },
        },
        1000 + i,
      );
    }
    t.equal(answered, 0, 'no answer before its time');
    while (answered < 64) examined.turn();
    t.equal(tokens.size, 64);
    for (let i = 0; i < 64; i++) {
      t.ok(
        read(examined, i * 8192, 4096).every(byte => byte === i + 1),
        `block ${i}`,
      );
    }
  });

  examine('zeroes, with and without giving the space back', (t, examined) => {
    for (const how of [ERASE, KEEP]) {
      write(examined, 0, pattern(65_536, 1));
      t.equal(
        waitFor(examined, waiter => examined.volume.zero(5000, 20_001, how, waiter, 7)),
        0,
      );
      const bytes = read(examined, 0, 65_536);
      const wanted = pattern(65_536, 1).fill(0, 5000, 25_001);
      t.equal(Buffer.compare(bytes, wanted), 0, how.mayUnmap ? 'erased' : 'kept');
    }
  });

  examine('a trim spoils nothing beside it', (t, examined) => {
    const bytes = pattern(65_536, 2);
    write(examined, 0, bytes);
    t.equal(
      waitFor(examined, waiter => examined.volume.trim(6000, 20_000, waiter, 7)),
      0,
    );
    const after = read(examined, 0, 65_536);
    t.equal(Buffer.compare(after.subarray(0, 6000), bytes.subarray(0, 6000)), 0, 'before');
    t.equal(Buffer.compare(after.subarray(26_000), bytes.subarray(26_000)), 0, 'behind');
    // In it, each block is as before or zero.
    for (let block = 8192; block < 24_576; block += 4096) {
      const part = after.subarray(block, block + 4096);
      t.ok(
        part.every(byte => byte === 0) || Buffer.compare(part, bytes.subarray(block, block + 4096)) === 0,
        `block at ${block}`,
      );
    }
  });

  examine('tells extents that cover the range, and no zeroes where there are none', (t, examined) => {
    write(examined, 1 * MiB, pattern(65_536, 3));
    write(examined, 3 * MiB, pattern(4096, 4));
    for (const limit of [1, 2, 64]) {
      const list = newExtentList(limit);
      t.equal(examined.volume.extents(4096, 4 * MiB, list), 0);
      t.ok(list.count >= 1 && list.count <= limit);
      let at = 4096;
      for (let i = 0; i < list.count; i++) {
        const length = list.lengths_bytes[i]!;
        t.ok(length > 0);
        if (i > 0) t.not(list.flags[i], list.flags[i - 1], 'neighbours differ');
        if ((list.flags[i]! & EXTENT_ZERO) !== 0)
          t.ok(
            read(examined, at, length).every(byte => byte === 0),
            `zero at ${at}`,
          );
        at += length;
      }
      t.ok(at <= 4096 + 4 * MiB);
      if (limit === 64 && examined.vagueExtents !== true) t.equal(at, 4096 + 4 * MiB, 'all of it');
    }
    const one = newExtentList(4);
    examined.volume.extents(1 * MiB, 4096, one);
    t.equal(one.count, 1);
    t.equal(one.flags[0], EXTENT_DATA);
    t.equal(one.lengths_bytes[0], 4096);
  });

  examine('flushes, and takes hints', (t, examined) => {
    write(examined, 0, pattern(4096, 5));
    t.equal(
      waitFor(examined, waiter => examined.volume.flush(waiter, 7)),
      0,
    );
    t.equal(
      waitFor(examined, waiter => examined.volume.cache(0, EXAM_BYTES, waiter, 7)),
      0,
    );
    let flushed = 0;
    for (let i = 0; i < 50; i++)
      examined.volume.flush({ completed: (_token, result) => void (result === 0 && flushed++) }, i);
    for (let turns = 0; flushed < 50 && turns < 10_000_000; turns++) examined.turn();
    t.equal(flushed, 50, 'many at once are all answered');
  });

  examine('grows while in use', (t, examined) => {
    const bytes = pattern(4096, 6);
    write(examined, EXAM_BYTES - 4096, bytes);
    examined.grow(EXAM_BYTES + 1 * MiB);
    t.equal(examined.volume.size_bytes, EXAM_BYTES + 1 * MiB);
    t.equal(Buffer.compare(read(examined, EXAM_BYTES - 4096, 4096), bytes), 0);
    t.ok(read(examined, EXAM_BYTES, 1 * MiB).every(byte => byte === 0));
    t.equal(write(examined, EXAM_BYTES + 1 * MiB - 4096, bytes), 0);
    t.equal(Buffer.compare(read(examined, EXAM_BYTES + 1 * MiB - 4096, 4096), bytes), 0);
  });
}
