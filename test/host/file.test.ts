import t from 'tap';
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import * as file from '../../host/file.js';
import { mapAnonymous } from '../../host/memory.js';
import * as raw from '../../host/raw.js';

const memory = mapAnonymous(65_536);

await t.test('space: holes, reservations, seeking', async t => {
  const fd = file.openFile(`${t.testdir({})}/f`, file.O_RDWR | file.O_CREAT, 0o640);
  file.ftruncate(fd, 1 << 20);
  t.equal(file.fstat(fd).size_bytes, 1 << 20);
  t.equal(file.fstat(fd).allocated_bytes, 0);
  t.equal(file.fstat(fd).mode, 0o640 & ~process.umask());
  t.ok(file.fstat(fd).isFile);
  t.equal(file.seekData(fd, 0), -1);
  t.equal(file.seekHole(fd, 0), 0);

  memory.bytes.fill(1);
  t.equal(raw.pwrite(fd, memory.address, 65_536, 131_072), 65_536);
  t.equal(file.seekData(fd, 0), 131_072);
  t.equal(file.seekHole(fd, 131_072), 196_608);
  t.equal(file.seekData(fd, 196_608), -1);
  t.equal(file.seekHole(fd, 1 << 20), -1);
  t.ok(file.fstat(fd).allocated_bytes >= 65_536);

  if (file.punchHole(fd, 131_072, 32_768)) t.equal(file.seekData(fd, 0), 163_840);
  else t.comment('no holes on this file system');
  if (file.zeroRange(fd, 163_840, 4096)) {
    t.equal(raw.pread(fd, memory.address, 1, 163_840), 1);
    t.equal(memory.bytes[0], 0);
  } else t.comment('no zero range on this file system');
  file.fallocate(fd, 0, 2 << 20, true);
  t.equal(file.fstat(fd).size_bytes, 1 << 20, 'keeps the size');
  file.fallocate(fd, 0, 2 << 20);
  t.equal(file.fstat(fd).size_bytes, 2 << 20);
  file.fdatasync(fd);
  file.fsync(fd);
  t.throws(() => file.fallocate(fd, 0, 0), { code: 'EINVAL', syscall: 'fallocate' });
  file.closeFile(fd);
  t.throws(() => file.fstat(fd), { code: 'EBADF' });
  t.throws(() => file.closeFile(fd), { code: 'EBADF' });
});

await t.test('a lock has one holder, who is named', async t => {
  const path = `${t.testdir({})}/lock`;
  const [one, two] = [0, 1].map(() => file.openFile(path, file.O_RDWR | file.O_CREAT)) as [number, number];
  file.flock(one, true, path);
  t.throws(() => file.flock(two, true, path), {
    code: 'EAGAIN',
    syscall: 'flock',
    message: new RegExp(`${path}.*held by process ${process.pid}`),
  });
  file.unlock(one);
  file.flock(two, false);
  file.flock(one, false);
  t.throws(() => file.flock(one, true), { code: 'EAGAIN' }, 'shared by another');
  file.closeFile(two);
  file.flock(one, true);
  file.closeFile(one);
});

await t.test('fds do not leak into children', async t => {
  const path = `${t.testdir({})}/held`;
  const fd = file.openFile(path, file.O_RDWR | file.O_CREAT);
  const child = spawn('readlink', [`/proc/self/fd/${fd}`], { stdio: ['ignore', 'pipe', 'ignore'] });
  let out = '';
  for await (const chunk of child.stdout) out += String(chunk);
  t.notMatch(out, path);
  file.closeFile(fd);
});

await t.test('durable rename', async t => {
  const dir = t.testdir({ from: 'new', to: 'old', sub: {} });
  file.renameDurably(`${dir}/from`, `${dir}/to`);
  t.equal(fs.readFileSync(`${dir}/to`, 'utf8'), 'new');
  file.renameDurably(`${dir}/to`, `${dir}/sub/to`);
  t.equal(fs.readFileSync(`${dir}/sub/to`, 'utf8'), 'new');
  t.throws(() => file.renameDurably(`${dir}/none`, `${dir}/to`), { code: 'ENOENT', syscall: 'rename' });
  t.throws(() => file.syncDirectory(`${dir}/none`), { code: 'ENOENT' });
});

await t.test('file systems', async t => {
  const { capacity_bytes, free_bytes } = file.statfs('/');
  t.ok(capacity_bytes > free_bytes && free_bytes > 0);
  t.throws(() => file.statfs('/nonexistent'), { code: 'ENOENT', syscall: 'statfs' });
  const dir = t.testdir({ f: 'x' });
  t.type(file.directIoWorks(`${dir}/f`), 'boolean');
  t.throws(() => file.directIoWorks(`${dir}/none`), { code: 'ENOENT' });
  t.equal(file.lstat(`${dir}/none`), undefined);
  t.ok(file.lstat(dir)?.isDirectory);
});
