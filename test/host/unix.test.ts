import t from 'tap';
import * as fs from 'node:fs';
import * as net from 'node:net';
import { EAGAIN } from '../../host/errno.js';
import { O_CREAT, O_RDWR, fstat, openFile } from '../../host/file.js';
import { mapAnonymous } from '../../host/memory.js';
import * as raw from '../../host/raw.js';
import * as unix from '../../host/unix.js';

const memory = mapAnonymous(4096);
// Not t.testdir: its path may be longer than a socket's path can be.
const dir = fs.mkdtempSync('/tmp/host-unix-');
t.teardown(() => fs.rmSync(dir, { recursive: true }));
const root = process.getuid?.() === 0;

await t.test('listen, connect, accept', async t => {
  const path = `${dir}/a.sock`;
  const listener = unix.listenUnix(path);
  t.equal(fs.statSync(path).mode & 0o777, 0o600);
  t.equal(unix.accept(listener), -EAGAIN);
  const client = unix.connectUnix(path);
  const server = unix.accept(listener);
  t.ok(server > 2);
  memory.bytes.set([1, 2, 3]);
  t.equal(raw.send(client, memory.address, 3, 0), 3);
  t.equal(raw.recv(server, memory.address, 9, 0), 3);
  t.equal(raw.recv(server, memory.address, 9, 0), -EAGAIN, 'not blocking');
  for (const fd of [client, server, listener]) raw.close(fd);
  t.throws(() => unix.connectUnix(path), { code: 'ECONNREFUSED', message: /nobody serves it/ });
  t.throws(() => unix.connectUnix(`${dir}/none`), { code: 'ENOENT', message: new RegExp(`${dir}/none`) });
});

await t.test('mode and owner are exact', async t => {
  const old = process.umask(0o077);
  const wide = unix.listenUnix(`${dir}/wide`, { mode: 0o666 });
  process.umask(0);
  const narrow = unix.listenUnix(`${dir}/narrow`, { mode: 0o600 });
  process.umask(old);
  t.equal(fs.statSync(`${dir}/wide`).mode & 0o777, 0o666);
  t.equal(fs.statSync(`${dir}/narrow`).mode & 0o777, 0o600);
  raw.close(wide);
  raw.close(narrow);
});

await t.test('given away', { skip: root ? false : 'needs root' }, async t => {
  const fd = unix.listenUnix(`${dir}/given`, { owner: { uid: 12_345, gid: 23_456 } });
  const stats = fs.statSync(`${dir}/given`);
  t.same([stats.uid, stats.gid, stats.mode & 0o777], [12_345, 23_456, 0o600]);
  raw.close(fd);
});

await t.test('what is there already', async t => {
  const path = `${dir}/b.sock`;
  const live = unix.listenUnix(path);
  t.throws(() => unix.listenUnix(path), { code: 'EADDRINUSE', syscall: 'bind' });
  t.throws(() => unix.listenUnix(path, { replaceStale: true }), { code: 'EADDRINUSE', message: /serves it/ });
  t.ok(unix.isServed(path));
  raw.close(live);
  t.notOk(unix.isServed(path));
  t.throws(() => unix.listenUnix(path), { code: 'EADDRINUSE', message: /exists already/ });
  const again = unix.listenUnix(path, { replaceStale: true });
  t.ok(unix.isServed(path));
  raw.close(again);

  fs.writeFileSync(`${dir}/file`, 'precious');
  t.throws(() => unix.listenUnix(`${dir}/file`, { replaceStale: true }), { code: 'EEXIST' });
  t.equal(fs.readFileSync(`${dir}/file`, 'utf8'), 'precious');
  fs.symlinkSync(`${dir}/file`, `${dir}/link`);
  t.throws(() => unix.listenUnix(`${dir}/link`, { replaceStale: true }), { code: 'EEXIST' });
  t.ok(fs.lstatSync(`${dir}/link`).isSymbolicLink());
  t.equal(raw.close(unix.listenUnix(`${dir}/fresh`, { replaceStale: true })), 0);
});

await t.test('paths that do not fit', async t => {
  const room = unix.UNIX_PATH_MAX_BYTES - dir.length - 1;
  const longest = `${dir}/${'x'.repeat(room)}`;
  raw.close(unix.listenUnix(longest));
  t.ok(fs.lstatSync(longest).isSocket());
  t.throws(() => unix.listenUnix(`${longest}x`), {
    code: 'ENAMETOOLONG',
    message: /107 bytes and this has 108/,
  });
  t.throws(() => unix.connectUnix(`${longest}x`), { code: 'ENAMETOOLONG' });
  t.throws(() => unix.connectUnix(''), { code: 'EINVAL' });
  t.throws(() => unix.connectUnix('a\0b'), { code: 'EINVAL' });
  t.throws(() => unix.listenUnix('/nonexistent/a.sock'), { code: 'ENOENT', syscall: 'bind' });
  t.ok(unix.uniqueSocketPath(dir).startsWith(`${dir}/`));
});

await t.test('node:net and we understand each other', async t => {
  const path = `${dir}/net.sock`;
  const server = net.createServer(socket => socket.end('hello'));
  await new Promise<void>(resolve => server.listen(path, resolve));
  const fd = unix.connectUnix(path);
  let n: number;
  do {
    await new Promise(resolve => setTimeout(resolve, 2));
    n = raw.recv(fd, memory.address, 100, 0);
  } while (n === -EAGAIN);
  t.equal(Buffer.from(memory.bytes.subarray(0, n)).toString(), 'hello');
  raw.close(fd);
  await new Promise(resolve => server.close(resolve));
});

const isOpen = (fd: number) => fs.existsSync(`/proc/self/fd/${fd}`);
const openCount = () => fs.readdirSync('/proc/self/fd').length;

await t.test('fds travel', async t => {
  const [a, b] = unix.unixPair();
  const path = `${dir}/passed`;
  const fd = openFile(path, O_RDWR | O_CREAT);
  t.equal(unix.sendFds(a, Buffer.from('take'), [fd, fd]), 4);
  const into = new Uint8Array(16);
  const got = unix.recvFds(b, into, 2);
  t.equal(got.length_bytes, 4);
  t.notOk(got.truncated);
  t.equal(Buffer.from(into.subarray(0, 4)).toString(), 'take');
  t.equal(got.fds.length, 2);
  for (const passed of got.fds) {
    t.not(passed, fd);
    t.equal(fstat(passed).inode, fstat(fd).inode);
    t.match(fs.readFileSync(`/proc/self/fdinfo/${passed}`, 'utf8'), /flags:\s+0?2\d{6}\b/, 'close on exec');
    raw.close(passed);
  }
  t.same(unix.recvFds(b, into, 2), { length_bytes: -EAGAIN, fds: [], truncated: false });
  t.equal(unix.sendFds(a, Buffer.from('no fd'), []), 5);
  t.same(unix.recvFds(b, into, 0), { length_bytes: 5, fds: [], truncated: false });
  t.throws(() => unix.sendFds(a, Buffer.from('x'), [-1]), { code: 'EBADF' });
  t.throws(() => unix.sendFds(a, new Uint8Array(0), [fd]), { code: 'EINVAL' });
  t.throws(() => unix.recvFds(b, into, 254), { code: 'EINVAL' });
  raw.close(fd);
  raw.close(a);
  t.same(unix.recvFds(b, into, 1), { length_bytes: 0, fds: [], truncated: false });
  raw.close(b);
});

await t.test('surplus fds are closed, whatever the padding lets through', async t => {
  const [a, b] = unix.unixPair();
  const before = openCount();
  for (const [sent, max] of [
    [1, 0],
    [2, 1],
    [3, 1],
    [4, 3],
    [253, 8],
    [253, 253],
  ] as const) {
    unix.sendFds(
      a,
      Buffer.from('x'),
      Array.from({ length: sent }, () => a),
    );
    const got = unix.recvFds(b, new Uint8Array(1), max);
    t.equal(got.fds.length, Math.min(sent, max), `${sent} sent, ${max} taken`);
    t.equal(got.truncated, sent > max);
    t.ok(got.fds.every(isOpen));
    for (const fd of got.fds) raw.close(fd);
    t.equal(openCount(), before);
  }
  raw.close(a);
  raw.close(b);
});
