import t from 'tap';
import { EAGAIN, EBADF, EFAULT, EPIPE } from '../../host/errno.js';
import { O_CREAT, O_RDWR, openFile } from '../../host/file.js';
import { IoVector, MessageVector } from '../../host/iovec.js';
import { mapAnonymous } from '../../host/memory.js';
import * as raw from '../../host/raw.js';
import { unixPair } from '../../host/unix.js';

const memory = mapAnonymous(65_536);
const A = memory.address;
const text = (at: number, length: number) => Buffer.from(memory.bytes.subarray(at, at + length)).toString();
const put = (at: number, words: string) => memory.bytes.set(Buffer.from(words), at);

await t.test('failures are negative errnos, never exceptions', async t => {
  t.equal(raw.read(-1, A, 1), -EBADF);
  t.equal(raw.write(-1, A, 1), -EBADF);
  t.equal(raw.readv(-1, A, 1), -EBADF);
  t.equal(raw.writev(-1, A, 1), -EBADF);
  t.equal(raw.pread(-1, A, 1, 0), -EBADF);
  t.equal(raw.pwrite(-1, A, 1, 0), -EBADF);
  t.equal(raw.preadv(-1, A, 1, 0), -EBADF);
  t.equal(raw.pwritev(-1, A, 1, 0), -EBADF);
  t.equal(raw.preadv2(-1, A, 1, 0, 0), -EBADF);
  t.equal(raw.pwritev2(-1, A, 1, 0, 0), -EBADF);
  t.equal(raw.recv(-1, A, 1, 0), -EBADF);
  t.equal(raw.send(-1, A, 1, 0), -EBADF);
  t.equal(raw.recvmsg(-1, A, 0), -EBADF);
  t.equal(raw.sendmsg(-1, A, 0), -EBADF);
  t.equal(raw.recvmmsg(-1, A, 1, 0), -EBADF);
  t.equal(raw.sendmmsg(-1, A, 1, 0), -EBADF);
  t.equal(raw.accept(-1), -EBADF);
  t.equal(raw.close(-1), -EBADF);
  t.equal(raw.fsync(-1), -EBADF);
  t.equal(raw.fdatasync(-1), -EBADF);
  t.equal(raw.ftruncate(-1, 0), -EBADF);
  t.equal(raw.fallocate(-1, 0, 0, 1), -EBADF);
  t.equal(raw.lseek(-1, 0, raw.SEEK_SET), -EBADF);
  t.equal(raw.shutdown(-1, raw.SHUT_WR), -EBADF);
});

await t.test('a bad address is EFAULT, not a crash', async t => {
  const zero = openFile('/dev/zero', O_RDWR);
  t.equal(raw.read(zero, 4096, 16), -EFAULT);
  raw.close(zero);
});

await t.test('positioned and vectored, also beyond 4 GiB', async t => {
  const fd = openFile(`${t.testdir({})}/file`, O_RDWR | O_CREAT);
  const far = 5 * 2 ** 32 + 7;
  const vector = new IoVector(2);
  put(0, 'hello ');
  put(100, 'world');
  vector.set(0, A, 6);
  vector.set(1, A + 100, 5);
  t.equal(raw.pwritev(fd, vector.address, 2, far), 11);
  t.equal(raw.pread(fd, A + 200, 50, far), 11);
  t.equal(text(200, 11), 'hello world');
  t.equal(raw.lseek(fd, 0, raw.SEEK_END), far + 11);

  put(300, 'J');
  t.equal(raw.pwrite(fd, A + 300, 1, far), 1);
  memory.bytes.fill(0, 0, 200);
  t.equal(raw.preadv2(fd, vector.address, 2, far, 0), 11);
  t.equal(text(0, 6) + text(100, 5), 'Jello world');
  memory.bytes.fill(0, 0, 200);
  t.equal(raw.preadv(fd, vector.address, 2, far), 11);
  t.equal(text(0, 6), 'Jello ');
  put(0, 'Hello!');
  t.equal(raw.pwritev2(fd, vector.address, 1, 0, raw.RWF_DSYNC), 6);
  t.equal(raw.lseek(fd, 0, raw.SEEK_SET), 0);
  t.equal(raw.read(fd, A + 400, 6), 6);
  t.equal(text(400, 6), 'Hello!');
  const hot = raw.preadv2(fd, vector.address, 1, 0, raw.RWF_NOWAIT);
  t.ok(hot === 6 || raw.isUnsupported(hot), 'what was just written is in the cache');
  t.equal(raw.ftruncate(fd, 3), 0);
  t.equal(raw.fdatasync(fd), 0);
  t.equal(raw.readv(fd, vector.address, 2), 0, 'beyond the end');
  vector.close();
  raw.close(fd);
});

await t.test('streams', async t => {
  const [a, b] = unixPair();
  t.equal(raw.recv(b, A, 10, 0), -EAGAIN);
  put(0, 'abcdef');
  t.equal(raw.send(a, A, 6, raw.MSG_NOSIGNAL), 6);
  t.equal(raw.recv(b, A + 50, 10, raw.MSG_PEEK), 6);
  t.equal(raw.read(b, A + 100, 10), 6);
  t.equal(text(100, 6), 'abcdef');
  t.equal(raw.shutdown(a, raw.SHUT_WR), 0);
  t.equal(raw.recv(b, A, 10, 0), 0, 'end of stream');
  raw.close(a);
  t.equal(raw.send(b, A, 1, raw.MSG_NOSIGNAL), -EPIPE);
  t.equal(raw.write(b, A, 1), -EPIPE, 'and no SIGPIPE');
  raw.close(b);
});

await t.test('many datagrams by one call', async t => {
  const [a, b] = unixPair('dgram');
  const out = new MessageVector(3);
  const into = new MessageVector(8);
  for (let i = 0; i < 3; i++) {
    put(i * 100, 'x'.repeat(i + 1));
    out.set(i, A + i * 100, i + 1);
  }
  for (let i = 0; i < 8; i++) into.set(i, A + 1000 + i * 100, 100);
  t.equal(raw.sendmmsg(a, out.address, 3, 0), 3);
  t.equal(out.length_bytes(2), 3);
  t.equal(raw.recvmmsg(b, into.address, 8, 0), 3);
  t.same(
    [0, 1, 2].map(i => into.length_bytes(i)),
    [1, 2, 3],
  );
  t.equal(text(1200, 3), 'xxx');
  t.equal(raw.recvmmsg(b, into.address, 8, 0), -EAGAIN);
  out.close();
  into.close();
  raw.close(a);
  raw.close(b);
});

await t.test('an iovec knows how far a short write came', async t => {
  const vector = new IoVector(3);
  const lay = () => [4, 0, 6].forEach((length, i) => vector.set(i, A + i * 16, length));
  for (const [done, index, base, length] of [
    [0, 0, A, 4],
    [3, 0, A + 3, 1],
    [4, 2, A + 32, 6],
    [9, 2, A + 37, 1],
  ] as const) {
    lay();
    t.equal(vector.advance(0, 3, done), index);
    t.equal(vector.base(index), base);
    t.equal(vector.length_bytes(index), length);
  }
  lay();
  t.equal(vector.advance(0, 3, 10), 3);
  const big = 2 ** 33 + 5;
  vector.set(1, big, big);
  t.equal(vector.base(1), big);
  t.equal(vector.length_bytes(1), big);
  t.throws(() => new IoVector(1025), { code: 'EINVAL' });
  t.throws(() => new MessageVector(0), { code: 'EINVAL' });
  vector.close();
});
