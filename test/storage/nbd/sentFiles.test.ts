/** Long reads that are sent from files: whole, in parts, in any cut, and when the memory has lost them meanwhile. */
import t from 'tap';
import * as wire from '../../../storage/nbd/wire.js';
import { Later } from '../../../storage/volume/later.js';
import { MemoryVolume } from '../../../storage/volume/memory.js';
import { ERRNO, type FileRuns, type Memory } from '../../../storage/volume/volume.js';
import { Talk } from './talk.js';

const { NBD_CMD_READ: READ, NBD_CMD_WRITE: WRITE } = wire;
const SIZE = 64 * 1024 * 1024;

function bytes(length: number, seed = 1): Buffer {
  const out = Buffer.alloc(length);
  for (let i = 0; i < length; i++) out[i] = (i * 7 + seed + (i >>> 12)) & 0xff;
  return out;
}

/** A memory volume whose bytes are also in a "file" that the socket can send from. */
class SendableVolume extends MemoryVolume {
  failed = 0;
  override sendableFrom(): number {
    return this.failed > 0 ? -1 : 5;
  }
  override sendFailed(): void {
    this.failed++;
  }
}

/** Of each 100,000 bytes the first 40,000 are in one file, others in none, the last 10,000 in another. */
class PatchedVolume extends MemoryVolume {
  runCount = 0;
  evicted = false;
  override sendableFrom(offset_bytes?: number, length_bytes?: number): number {
    const from = offset_bytes! % 100_000;
    if (this.evicted) return -1;
    return from + length_bytes! <= 40_000 ? 5 : from >= 90_000 && from + length_bytes! <= 100_000 ? 6 : -1;
  }
  tryReadRuns(offset: number, length: number, memory: Memory, at: number, into: FileRuns): number {
    for (let pos = offset; pos < offset + length;) {
      const inPart = pos % 100_000;
      const end = inPart < 40_000 ? 40_000 : inPart < 90_000 ? 90_000 : 100_000;
      const some = Math.min(end - inPart, offset + length - pos);
      if (end === 90_000 || into.count === into.fds.length)
        this.tryRead(pos, some, memory, at + pos - offset);
      else {
        into.fds[into.count] = end === 40_000 ? 5 : 6;
        into.offsets_bytes[into.count] = pos;
        into.lengths_bytes[into.count++] = some;
        this.runCount++;
      }
      pos += some;
    }
    return 0;
  }
}

void t.test('a read of which parts are in files: in order, in any cut', async t => {
  for (const structured of [true, false]) {
    const later = new Later();
    const volume = new PatchedVolume(SIZE, later);
    const talk = new Talk(volume, later, { structured }).enter();
    const content = bytes(1_000_000);
    talk.request(WRITE, 1, 0, content.length, 0, content);
    talk.reply();
    for (const fd of [5, 6]) {
      const file = Buffer.alloc(content.length);
      for (let at = 0; at < content.length; at += 100_000) {
        const [from, to] = fd === 5 ? [at, at + 40_000] : [at + 90_000, at + 100_000];
        content.copy(file, from, from, to);
      }
      talk.wire.files.set(fd, file);
    }
    for (const limit of [Infinity, 100_000, 4097, 0, -1]) {
      let turn = 0;
      // With 0: nothing every second time. With -1: what could not be sent at once has left the memory.
      talk.wire.sendLimit = () => (limit <= 0 ? (turn++ % 2) * 20_000 : limit);
      volume.evicted = limit === -1;
      const ranges: [number, number][] = [[0, 256 * 1024]];
      for (let i = 0; i < 20; i++) ranges.push([i * 17_001, i % 4 === 3 ? 4096 : 70_000 + i * 9000]);
      for (const [i, [offset, length]] of ranges.entries()) talk.request(READ, i, offset, length);
      for (const { cookie, error, data } of talk.replies(ranges.length)) {
        const [offset, length] = ranges[cookie]!;
        t.equal(error, 0);
        t.ok(data.equals(content.subarray(offset, offset + length)), `${offset} ${length}, cut ${limit}`);
      }
    }
    t.ok(volume.runCount > 50);
    t.equal(talk.outstanding, 0, 'every buffer was given back');
  }
});

void t.test('long reads are sent from the file: in order, in any cut, with short ones between', async t => {
  for (const structured of [true, false]) {
    const later = new Later();
    const talk = new Talk(new SendableVolume(SIZE, later), later, { structured }).enter();
    const content = bytes(4 * 1024 * 1024);
    talk.request(WRITE, 1, 0, content.length, 0, content);
    talk.reply();
    talk.wire.files.set(5, content);
    for (const limit of [Infinity, 100_000, 4097, 0]) {
      let turn = 0;
      // With 0: nothing every second time.
      talk.wire.sendLimit = () => (limit === 0 ? (turn++ % 2) * 50_000 : limit);
      const ranges: [number, number][] = [];
      for (let i = 0; i < 20; i++) ranges.push([i * 1000, i % 3 === 0 ? 4096 : 100_000 + i]);
      ranges.push([0, 3 * 1024 * 1024]);
      for (const [i, [offset, length]] of ranges.entries()) talk.request(READ, i, offset, length);
      for (const { cookie, error, data } of talk.replies(ranges.length)) {
        const [offset, length] = ranges[cookie]!;
        t.equal(error, 0);
        t.equal(
          Buffer.compare(data, content.subarray(offset, offset + length)),
          0,
          `${length} at ${offset}, cut ${limit}`,
        );
      }
    }
    t.equal(talk.counter('sentReads'), 4 * 14);
    t.equal(talk.outstanding, 0);
  }
});

/** Bytes that leave the memory while the socket is full: then only `tryRead` and `read` get at them. */
class EvictedVolume extends MemoryVolume {
  evicted = false;
  readonly asked: [offset_bytes: number, length_bytes: number][] = [];
  /** What tryRead says; 0: nothing special. */
  result = 0;
  override sendableFrom(offset_bytes?: number, length_bytes?: number): number {
    this.asked.push([offset_bytes!, length_bytes!]);
    return this.evicted ? -1 : 5;
  }
  override tryRead(offset: number, length: number, memory: Memory, at: number): number {
    const { result } = this;
    // `read`, which comes next, ends in here too.
    if (result === -ERRNO.EAGAIN) this.result = 0;
    return result < 0 ? result : super.tryRead(offset, length, memory, at);
  }
}

void t.test(
  'what was not sent at once is asked for again, and read where it cannot be sent any more',
  async t => {
    for (const result of [0, -ERRNO.EAGAIN, -ERRNO.EIO]) {
      const later = new Later();
      const volume = new EvictedVolume(SIZE, later);
      const talk = new Talk(volume, later).enter();
      const content = bytes(1024 * 1024);
      talk.request(WRITE, 1, 0, content.length, 0, content);
      talk.reply();
      talk.wire.files.set(5, content);
      // A header, and some of the data.
      let sends = [Infinity, 50_000];
      talk.wire.sendLimit = () => sends.shift() ?? 0;
      talk.request(READ, 2, 1000, 200_000);
      talk.turns(1);
      t.same(volume.asked, [[1000, 200_000]]);
      sends = [30_000];
      talk.turns(1);
      t.equal(volume.asked.length, 2);
      const resumedAt = volume.asked[1]![0];
      t.equal(resumedAt, 51_000, 'the rest, and not more than a part of it');
      t.equal(volume.asked[1]![1], 65_536);
      volume.evicted = true;
      volume.result = result;
      talk.wire.sendLimit = () => 7000;
      if (result === -ERRNO.EIO) {
        talk.turns(3);
        t.ok(talk.connection.closed, 'its length had been promised');
        t.equal(talk.counter('brokenReads'), 1);
      } else {
        const { error, data } = talk.reply();
        t.equal(error, 0);
        t.ok(data.equals(content.subarray(1000, 201_000)));
        volume.evicted = false;
        talk.request(READ, 3, 0, 100_000);
        t.ok(talk.reply().data.equals(content.subarray(0, 100_000)), 'and on it goes');
      }
      t.equal(talk.outstanding, 0);
    }
  },
);

void t.test('a connection that goes while its file is read gives everything back', async t => {
  const later = new Later();
  const volume = new EvictedVolume(SIZE, later);
  const talk = new Talk(volume, later).enter();
  talk.wire.files.set(5, bytes(1024 * 1024));
  talk.wire.sendLimit = () => 0;
  talk.request(READ, 2, 0, 200_000);
  talk.turns(1);
  volume.evicted = true;
  volume.result = -ERRNO.EAGAIN;
  talk.wire.sendLimit = () => 100;
  talk.connection.writable();
  t.notOk(talk.connection.wantsOutput, 'the socket is not what it waits for');
  talk.connection.abandon();
  talk.turns(3);
  t.ok(talk.connection.closed);
  t.equal(talk.outstanding, 0);
});

void t.test(
  'a file that fails in the middle of a reply ends the connection; the next one is told the error',
  async t => {
    const later = new Later();
    const volume = new SendableVolume(SIZE, later);
    const talk = new Talk(volume, later).enter();
    talk.request(READ, 1, 0, 1024 * 1024);
    talk.turns(3);
    t.ok(talk.connection.closed);
    t.equal(talk.counter('brokenReads'), 1);
    t.equal(volume.failed, 1);
    t.equal(talk.outstanding, 0);
    const again = new Talk(volume, later).enter();
    again.request(READ, 1, 0, 1024 * 1024);
    t.equal(again.reply().error, 0, 'copied from now on');
  },
);
