import t from 'tap';
import { constants } from 'node:os';
import * as errno from '../../host/errno.js';
import { openFile } from '../../host/file.js';

await t.test('names agree with the platform', async t => {
  for (const [name, number] of Object.entries(constants.errno)) {
    // Linux has these twice under one number.
    if (['EWOULDBLOCK', 'ENOTSUP', 'EDEADLOCK'].includes(name)) continue;
    t.equal(errno.errnoName(number), name);
    t.equal(errno.errnoName(-number), name);
  }
  t.equal(errno.errnoName(41), 'E41');
  t.equal(errno.errnoName(9999), 'E9999');
});

await t.test('every exported constant has the number of its name', async t => {
  let seen = 0;
  for (const [name, value] of Object.entries(errno)) {
    if (typeof value !== 'number') continue;
    t.equal(errno.errnoName(value), name);
    seen++;
  }
  t.ok(seen >= 50);
});

await t.test('a refusal says what, where and why', async t => {
  t.throws(() => openFile('/nonexistent/file', 0), {
    name: 'HostError',
    code: 'ENOENT',
    errno: 2,
    syscall: 'open',
    message: 'open /nonexistent/file: ENOENT, no such file or directory',
  });
  const error = new errno.HostError('bind', errno.EADDRINUSE, '/run/a.sock', 'stop the other one');
  t.equal(error.message, 'bind /run/a.sock: EADDRINUSE, address already in use; stop the other one');
  t.equal(errno.check(7, 'read'), 7);
  t.throws(() => errno.check(-errno.EPIPE, 'write', 'fd 3'), { code: 'EPIPE', syscall: 'write' });
  t.throws(() => errno.fromNodeError(new TypeError('not ours'), ''), { name: 'TypeError' });
});
