/**
 * The volume on a file takes the exam on what file systems are here, with io_uring and without. Then what only a
 * file can show: that it is thin, that slow writes step aside, what happens when it is full or its disk fails.
 */
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import t from 'tap';
import { EventFd } from '../../../host/eventfd.js';
import { IoUring } from '../../../host/ioUring.js';
import { mapAnonymous } from '../../../host/memory.js';
import { RingIo } from '../../../storage/dataThread/ring.js';
import { BlockingIo } from '../../../storage/pool/file.js';
import { FileVolume } from '../../../storage/pool/fileVolume.js';
import { WriteWatch } from '../../../storage/volume/writeWatch.js';
import { Later } from '../../../storage/volume/later.js';
import type { SlowIo } from '../../../storage/volume/slowIo.js';
import { ERRNO, newExtentList, type Waiter } from '../../../storage/volume/volume.js';
import { EXAM_BYTES, MiB, exam, read, waitFor, write, type Examined } from '../volume/suite.js';

interface FileExamined extends Examined {
  readonly volume: FileVolume;
  readonly file: string;
  readonly states: string[];
}

function make(
  directory: string,
  uring: boolean,
  parts: { now_ms?: () => number; slow?: (later: Later) => SlowIo; watch?: WriteWatch } = {},
): FileExamined {
  const room = fs.mkdtempSync(path.join(directory, 'weft-storage-file-'));
  const file = path.join(room, 'data');
  const fd = fs.openSync(file, 'w+');
  fs.ftruncateSync(fd, EXAM_BYTES);
  const later = new Later();
  const signal = uring ? EventFd.create() : null;
  const ring = signal === null ? null : new IoUring(64, signal);
  const io = ring === null ? null : new RingIo(ring);
  const states: string[] = [];
  const volume = new FileVolume({
    fd,
    size_bytes: EXAM_BYTES,
    slow: parts.slow?.(later) ?? io ?? new BlockingIo(later),
    later,
    now_ms: parts.now_ms ?? (() => performance.now()),
    onState: changed => void states.push(changed.state),
    ...(parts.watch === undefined ? {} : { watch: parts.watch }),
  });
  return {
    volume,
    file,
    states,
    turn: () => {
      later.turn();
      io?.submit();
      io?.reap();
    },
    grow: size_bytes => {
      fs.ftruncateSync(fd, size_bytes);
      volume.grow(size_bytes);
    },
    close: () => {
      t.notOk(volume.busy, 'nothing is left with the kernel');
      ring?.close();
      signal?.close();
      fs.closeSync(fd);
      fs.rmSync(room, { recursive: true });
    },
  };
}

const available = IoUring.available();
const temporary = os.tmpdir();
exam(t, 'file', () => make(temporary, false));
if (available.available) exam(t, 'file with io_uring', () => make(temporary, true));
else void t.test('file with io_uring', { skip: available.reason }, async () => undefined);

const shm = '/dev/shm';
const hasShm = fs.existsSync(shm) && fs.statfsSync(shm).type === 0x01021994;
if (hasShm) exam(t, 'file on tmpfs', () => make(shm, available.available));
else void t.test('file on tmpfs', { skip: '/dev/shm is no tmpfs here' }, async () => undefined);

void t.test('thin: space is taken by writes and given back by trims and zeroes', async t => {
  const examined = make(temporary, available.available);
  t.teardown(() => examined.close());
  const allocated = (): number => fs.statSync(examined.file).blocks * 512;
  const flush = (): number => waitFor(examined, waiter => examined.volume.flush(waiter, 7));
  t.equal(allocated(), 0);
  write(examined, 1 * MiB, new Uint8Array(1 * MiB).fill(7));
  flush();
  t.ok(allocated() >= 1 * MiB && allocated() < 2 * MiB, `${allocated()} allocated`);
  waitFor(examined, waiter => examined.volume.trim(1 * MiB, 1 * MiB, waiter, 7));
  flush();
  t.ok(allocated() < 65_536, `${allocated()} after a trim`);
  write(examined, 1 * MiB, new Uint8Array(1 * MiB).fill(7));
  const how = { mayUnmap: true, fastOnly: false };
  waitFor(examined, waiter => examined.volume.zero(1 * MiB, 1 * MiB, how, waiter, 7));
  flush();
  t.ok(allocated() < 65_536, `${allocated()} after zeroes that may be a hole`);
  const keep = { mayUnmap: false, fastOnly: true };
  const result = waitFor(examined, waiter => examined.volume.zero(1 * MiB, 1 * MiB, keep, waiter, 7));
  flush();
  if (result === 0) t.ok(allocated() >= 1 * MiB, `${allocated()} after zeroes that must be allocated`);
  else t.equal(result, -ERRNO.EOPNOTSUPP, 'this file system cannot, and says so');
});

void t.test(
  'zeroes where the file system has no fast way',
  { skip: hasShm ? false : 'needs a tmpfs' },
  async t => {
    const examined = make(shm, available.available);
    t.teardown(() => examined.close());
    const ask = (fastOnly: boolean): number =>
      waitFor(examined, waiter =>
        examined.volume.zero(4000, 700_000, { mayUnmap: false, fastOnly }, waiter, 7),
      );
    write(examined, 0, new Uint8Array(1 * MiB).fill(9));
    t.equal(ask(true), -ERRNO.EOPNOTSUPP, 'fast only: refused');
    t.equal(ask(true), -ERRNO.EOPNOTSUPP, 'and again, from memory');
    t.equal(read(examined, 4000, 1)[0], 9, 'nothing was done');
    t.equal(ask(false), 0);
    const bytes = read(examined, 0, 1 * MiB);
    t.ok(bytes.subarray(4000, 704_000).every(byte => byte === 0));
    t.ok(bytes.subarray(0, 4000).every(byte => byte === 9));
    t.ok(bytes.subarray(704_000).every(byte => byte === 9));
  },
);

void t.test('a read of what is not in the page cache is not waited for', async t => {
  const examined = make(temporary, available.available);
  t.teardown(() => examined.close());
  // A hole has no pages: the first look must go to the file system, the second is in the cache.
  const memory = mapAnonymous(4096);
  const first = examined.volume.tryRead(4 * MiB, 4096, memory, 0);
  if (first === 0) return t.comment('this file system answers holes at once');
  t.equal(first, -ERRNO.EAGAIN);
  t.equal(read(examined, 4 * MiB, 4096).length, 4096);
  t.equal(examined.volume.tryRead(4 * MiB, 4096, memory, 0), 0);
});

void t.test('what is in the page cache can be sent from the file; a hole cannot', async t => {
  const examined = make(temporary, available.available);
  t.teardown(() => examined.close());
  const { volume } = examined;
  t.equal(volume.sendableFrom(0, 65_536), -1, 'a hole');
  write(examined, 0, new Uint8Array(65_536).fill(5));
  const fd = volume.sendableFrom(0, 65_536);
  if (fd < 0) return t.comment('this kernel cannot tell what is cached');
  t.equal(volume.sendableFrom(0, 65_537), -1, 'a part of it');
  t.equal(fs.readFileSync(`/proc/self/fd/${fd}`)[4096], 5);
  volume.sendFailed();
  t.equal(volume.sendableFrom(0, 65_536), -1, 'for good');
});

void t.test('after writes that were held up by the disk, writes step aside for a while', async t => {
  let now_ms = 1000;
  let step_ms = 0;
  let switches = 0;
  const examined = make(temporary, available.available, {
    now_ms: () => (now_ms += step_ms),
    watch: new WriteWatch(() => switches++),
  });
  t.teardown(() => examined.close());
  const memory = mapAnonymous(4096);
  t.equal(examined.volume.tryWrite(0, 4096, memory, 0), 0);
  step_ms = 50;
  t.equal(examined.volume.tryWrite(0, 4096, memory, 0), 0, 'it took 50 ms');
  t.equal(examined.volume.tryWrite(0, 4096, memory, 0), 0, 'and so did this one, asleep');
  step_ms = 0;
  t.equal(examined.volume.tryWrite(0, 4096, memory, 0), -ERRNO.EAGAIN, 'now it is to wait elsewhere');
  t.equal(write(examined, 0, new Uint8Array(4096).fill(3)), 0, 'where it is done all the same');
  now_ms += 1000;
  t.equal(examined.volume.tryWrite(0, 4096, memory, 0), 0, 'until that time is over');
});

/** SlowIo that answers what it is told to. */
class Scripted implements SlowIo {
  syncs = 0;
  syncResult = 0;
  writeResult = 0;
  #later: Later;
  constructor(later: Later) {
    this.#later = later;
  }
  read(_fd: number, _address: number, length: number, _offset: number, waiter: Waiter, token: number): void {
    this.#later.answer(waiter, token, Math.min(length, 1000));
  }
  write(_fd: number, _address: number, length: number, _offset: number, waiter: Waiter, token: number): void {
    this.#later.answer(waiter, token, this.writeResult === 0 ? Math.min(length, 1000) : this.writeResult);
  }
  fdatasync(_fd: number, waiter: Waiter, token: number): void {
    this.syncs++;
    this.#later.answer(waiter, token, this.syncResult);
  }
  fallocate(
    _fd: number,
    _mode: number,
    _offset: number,
    _length: number,
    waiter: Waiter,
    token: number,
  ): void {
    this.#later.answer(waiter, token, this.writeResult);
  }
}

void t.test('a failed fdatasync fails the volume for good, and is not tried again', async t => {
  let slow!: Scripted;
  const examined = make(temporary, false, { slow: later => (slow = new Scripted(later)) });
  t.teardown(() => examined.close());
  const { volume, states } = examined;
  const flush = (): number => waitFor(examined, waiter => volume.flush(waiter, 7));
  t.equal(flush(), 0);
  slow.syncResult = -5;
  t.equal(flush(), -5);
  slow.syncResult = 0;
  t.equal(flush(), -5, 'a second one would succeed, and mean nothing');
  t.equal(slow.syncs, 2);
  t.same(states, ['failed']);
  t.match(volume.reason, /fdatasync failed with errno 5/);
  t.equal(write(examined, 0, new Uint8Array(512)), -5);
  t.equal(
    waitFor(examined, waiter => volume.trim(0, 4096, waiter, 7)),
    -5,
  );
  t.equal(read(examined, 0, 512).length, 512, 'reads go on');
});

void t.test('a full file system: told once, cleared by the next write that succeeds', async t => {
  let slow!: Scripted;
  let now_ms = 0;
  const examined = make(temporary, false, {
    slow: later => (slow = new Scripted(later)),
    now_ms: () => now_ms,
  });
  t.teardown(() => examined.close());
  const { volume, states } = examined;
  const memory = mapAnonymous(8192);
  const slowWrite = (): number => waitFor(examined, waiter => volume.write(0, 8192, memory, 0, waiter, 7));
  slow.writeResult = -ERRNO.ENOSPC;
  t.equal(slowWrite(), -ERRNO.ENOSPC);
  t.equal(slowWrite(), -ERRNO.ENOSPC);
  t.same(states, ['full']);
  t.type(volume.reason, 'string');
  slow.writeResult = -ERRNO.EIO;
  t.equal(slowWrite(), -ERRNO.EIO);
  t.equal(volume.state, 'full', 'another error tells nothing about room');
  slow.writeResult = 0;
  t.equal(slowWrite(), 0, 'short writes are continued');
  t.same(states, ['full', 'ok']);
  t.equal(volume.reason, null);
  now_ms += 1;
});

void t.test('short reads are continued; a file that ends too early is an error', async t => {
  const examined = make(temporary, false, { slow: later => new Scripted(later) });
  t.teardown(() => examined.close());
  const memory = mapAnonymous(65_536);
  t.equal(
    waitFor(examined, waiter => examined.volume.read(0, 65_536, memory, 0, waiter, 7)),
    0,
  );
  fs.truncateSync(examined.file, 4096);
  const real = make(temporary, available.available);
  t.teardown(() => real.close());
  fs.truncateSync(real.file, 4096);
  let result = real.volume.tryRead(8192, 4096, memory, 0);
  if (result === -ERRNO.EAGAIN)
    result = waitFor(real, waiter => real.volume.read(8192, 4096, memory, 0, waiter, 7));
  t.equal(result, -ERRNO.EIO);
  const list = newExtentList(8);
  t.equal(real.volume.extents(0, EXAM_BYTES, list), 0);
});
