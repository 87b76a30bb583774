import t from 'tap';
import { execFileSync } from 'node:child_process';
import { EBADF, EINVAL } from '../../host/errno.js';
import { EPOLLIN, Epoll } from '../../host/epoll.js';
import { EventFd } from '../../host/eventfd.js';
import { O_CREAT, O_RDWR, fstat, openFile } from '../../host/file.js';
import { IoUring } from '../../host/ioUring.js';
import { IoVector } from '../../host/iovec.js';
import { mapAnonymous } from '../../host/memory.js';
import * as raw from '../../host/raw.js';

const can = IoUring.available();
const skip = can.available ? false : can.reason;
const memory = mapAnonymous(1 << 20);

function collect(ring: IoUring, count: number): Map<number, number> {
  const answers = new Map<number, number>();
  while (answers.size < count) {
    ring.submitAndWait(1);
    ring.reap((token, result) => answers.set(token, result));
  }
  return answers;
}

await t.test('the sizes of a ring are bounded', async t => {
  for (const entries of [0, -1, 1.5, 4097]) t.throws(() => new IoUring(entries), { code: 'EINVAL' });
});

await t.test('every operation', { skip }, async t => {
  const fd = openFile(`${t.testdir({})}/f`, O_RDWR | O_CREAT);
  const ring = new IoUring(8);
  t.equal(ring.entries, 8);
  t.ok(ring.prepNop(-1));
  t.equal(ring.inFlight, 1);
  t.same([...collect(ring, 1)], [[-1, 0]]);
  t.equal(ring.inFlight, 0);

  const far = 5 * 2 ** 32;
  memory.bytes.set(Buffer.from('hello world'));
  t.ok(ring.prepWrite(1, fd, memory.address, 11, far, raw.RWF_DSYNC));
  t.equal(collect(ring, 1).get(1), 11);
  t.ok(ring.prepRead(2, fd, memory.address + 100, 50, far));
  t.equal(collect(ring, 1).get(2), 11);
  t.equal(Buffer.from(memory.bytes.subarray(100, 111)).toString(), 'hello world');

  const vector = new IoVector(2);
  vector.set(0, memory.address, 6);
  vector.set(1, memory.address + 200, 5);
  t.ok(ring.prepReadv(3, fd, vector.address, 2, far));
  t.equal(collect(ring, 1).get(3), 11);
  t.equal(Buffer.from(memory.bytes.subarray(200, 205)).toString(), 'world');
  t.ok(ring.prepWritev(4, fd, vector.address, 2, 0));
  t.equal(collect(ring, 1).get(4), 11);

  t.ok(ring.prepFsync(5, fd, true));
  t.ok(ring.prepFsync(6, fd, false));
  t.ok(ring.prepFallocate(7, fd, 0, 2 ** 33, 4096));
  t.ok(ring.prepRead(8, -1, memory.address, 1, 0));
  t.same(
    [...collect(ring, 4)].sort(([a], [b]) => a - b),
    [
      [5, 0],
      [6, 0],
      [7, 0],
      [8, -EBADF],
    ],
  );
  t.equal(fstat(fd).size_bytes, far + 11);
  vector.close();
  ring.close();
  ring.close();
  t.notOk(ring.prepNop(1), 'a closed ring takes nothing');
  t.equal(ring.submit(), -EINVAL);
  t.equal(
    ring.reap(() => {}),
    0,
  );
  raw.close(fd);
});

await t.test('what does not fit is refused, and nothing is lost over many turns', { skip }, async t => {
  const ring = new IoUring(4);
  for (let i = 0; i < 4; i++) t.ok(ring.prepNop(i));
  t.notOk(ring.prepNop(4), 'the submission ring is full');
  t.notOk(ring.hasRoom);
  t.equal(ring.submit(), 4);
  t.equal(ring.submit(), 0);
  for (let i = 4; i < 8; i++) t.ok(ring.prepNop(i));
  ring.submit();
  t.equal(ring.capacity, 8);
  t.notOk(ring.prepNop(8), 'there is no room for its answer');
  const seen: number[] = [];
  t.equal(
    ring.reap(token => seen.push(token)),
    8,
  );
  t.same(seen, [0, 1, 2, 3, 4, 5, 6, 7]);

  let [next, sum, reaped] = [0, 0, 0];
  while (reaped < 10_000) {
    while (next < 10_000 && ring.prepNop(next)) next++;
    ring.submit();
    reaped += ring.reap(token => {
      sum += token;
    });
  }
  t.equal(sum, (10_000 * 9999) / 2);
  ring.close();
});

await t.test('an answer handler may prepare, and may throw', { skip }, async t => {
  const ring = new IoUring(4);
  ring.prepNop(1);
  ring.prepNop(2);
  ring.submit();
  t.throws(
    () =>
      ring.reap(() => {
        throw new RangeError('mine');
      }),
    RangeError,
  );
  t.equal(ring.inFlight, 1);
  const seen: number[] = [];
  ring.reap(token => {
    seen.push(token);
    ring.prepNop(token + 10);
  });
  ring.submit();
  ring.reap(token => seen.push(token));
  t.same(seen, [2, 12]);
  ring.prepNop(1);
  ring.submit();
  t.throws(() => ring.reap(() => ring.close()), { code: 'EBUSY' }, 'but not close the ring under reap');
  ring.close();
});

await t.test('answers wake an epoll', { skip }, async t => {
  const wake = EventFd.create();
  const ring = new IoUring(4, wake);
  const epoll = new Epoll(1);
  epoll.add(wake.fd, EPOLLIN, 1);
  // A blocking pipe, open for both directions: reads of non-blocking fds are answered with -EAGAIN at once.
  const path = `${t.testdir({})}/fifo`;
  execFileSync('mkfifo', [path]);
  const fifo = openFile(path, O_RDWR);
  t.ok(ring.prepRead(9, fifo, memory.address, 10, -1));
  t.equal(ring.submit(), 1);
  t.equal(
    ring.reap(() => {}),
    0,
    'nothing to read yet',
  );
  t.equal(epoll.wait(0), 0);
  raw.write(fifo, memory.address, 3);
  t.equal(epoll.wait(10_000), 1);
  let answer: [number, number] | undefined;
  while (answer === undefined)
    ring.reap((token, result) => {
      answer = [token, result];
    });
  t.same(answer, [9, 3]);
  t.ok(wake.drain() >= 1);
  ring.close();
  epoll.close();
  wake.close();
  raw.close(fifo);
});
