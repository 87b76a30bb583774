import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { MAX_LOG_BYTES, RunDirectories } from '../../../control/vmm/files/process.js';
import { isGuestUser } from '../../../control/vmm/user.js';

const isRoot = process.getuid?.() === 0;
const needsRoot = isRoot ? false : 'only root gives guests users of their own';

function place(t: Test, mode = 0o711): string {
  const directory = fs.mkdtempSync(join(tmpdir(), 'weft-files-'));
  fs.chmodSync(directory, mode);
  t.teardown(() => fs.rmSync(directory, { recursive: true, force: true }));
  return directory;
}

await t.test('as an ordinary user the directory is ours alone', async t => {
  const files = new RunDirectories(join(place(t), 'run/machines'), false);
  t.same(files.names(), []);
  t.throws(() => files.owner('alice'), { code: 'VMM_UNKNOWN' });
  files.prepare('alice');
  t.equal(files.owner('alice'), null);
  t.equal(fs.statSync(files.path('alice')).mode & 0o7777, 0o700);
  files.prepare('alice');
  t.same(files.names(), ['alice']);
  files.remove('alice');
  t.same(files.names(), []);
  t.throws(() => files.owner('alice'), { code: 'VMM_UNKNOWN' });
});

await t.test('as root each guest has a user, and keeps it', { skip: needsRoot }, async t => {
  const root = join(place(t), 'run/machines');
  const files = new RunDirectories(root, true);
  for (const name of ['alice', 'bob']) files.prepare(name);
  const [alice, bob] = [files.owner('alice'), files.owner('bob')];
  t.ok(isGuestUser(alice!.uid));
  t.not(alice?.uid, bob?.uid);
  const stat = fs.statSync(files.path('alice'));
  t.equal(stat.mode & 0o7777, 0o1770);
  t.match(stat, { uid: 0, gid: alice?.gid });
  t.equal(fs.statSync(root).mode & 0o777, 0o711);
  const later = new RunDirectories(root, true);
  later.prepare('alice');
  t.same(later.owner('alice'), alice);
  fs.lchownSync(files.path('bob'), 0, alice!.gid + 1);
  const third = new RunDirectories(root, true);
  third.prepare('bob');
  t.equal(third.owner('bob')?.uid, alice!.uid + 1, 'what was recorded counts, not what would be chosen');
});

await t.test('a made but not yet given directory is finished', { skip: needsRoot }, async t => {
  const root = join(place(t), 'run/machines');
  fs.mkdirSync(join(root, 'alice'), { recursive: true, mode: 0o700 });
  const files = new RunDirectories(root, true);
  files.prepare('alice');
  t.ok(isGuestUser(files.owner('alice')!.uid));
  t.equal(fs.statSync(files.path('alice')).mode & 0o7777, 0o1770);
});

await t.test('what is in the way is said', async t => {
  const base = place(t);
  const root = join(base, 'run/machines');
  fs.mkdirSync(root, { recursive: true });
  fs.writeFileSync(join(root, 'file'), '');
  fs.symlinkSync('/etc', join(root, 'link'));
  const files = new RunDirectories(root, false);
  t.throws(() => files.prepare('file'), { code: 'VMM_DIRECTORY', message: /is not a directory/ });
  t.throws(() => files.prepare('link'), { code: 'VMM_DIRECTORY', message: /is not a directory/ });
  if (isRoot) {
    fs.mkdirSync(join(root, 'other'));
    fs.chownSync(join(root, 'other'), 1000, 1000);
    t.throws(() => files.prepare('other'), {
      code: 'VMM_DIRECTORY',
      message: /belongs to user 1000, not to 0/,
    });
    const closed = place(t, 0o700);
    const below = new RunDirectories(join(closed, 'run/machines'), true);
    t.throws(() => below.prepare('alice'), {
      code: 'VMM_DIRECTORY',
      message: new RegExp(`${closed} \\(mode 0700\\) lets no other user pass.*chmod o\\+x`),
    });
  }
});

await t.test('files that a guest may have put there are not followed', async t => {
  const files = new RunDirectories(join(place(t), 'run/machines'), false);
  files.prepare('alice');
  const secret = join(files.root, 'secret');
  fs.writeFileSync(secret, 'secret');
  for (const name of ['serial.log', 'qemu.log', 'plan.json', 'pid'])
    fs.symlinkSync(secret, files.path('alice', name));
  t.equal(files.tail(files.path('alice', 'qemu.log'), 100), '');
  t.equal(files.readRecord('alice'), undefined);
  t.equal(files.readIdentity('alice'), undefined);
  files.writeIdentity('alice', { pid: 5, startTicks: '1', hostBootId: '0'.repeat(36) });
  t.equal(fs.readFileSync(secret, 'utf8'), 'secret', 'written beside it, not through it');
  t.match(files.readIdentity('alice'), { pid: 5 });
  fs.closeSync(files.openLog(files.path('alice', 'qemu.log')));
  t.equal(fs.readFileSync(secret, 'utf8'), 'secret');
  t.ok(fs.lstatSync(files.path('alice', 'qemu.log')).isFile());
  fs.symlinkSync(secret, files.path('alice', 'pid.next'));
  files.writeIdentity('alice', { pid: 6, startTicks: '1', hostBootId: '0'.repeat(36) });
  t.equal(fs.readFileSync(secret, 'utf8'), 'secret');
  fs.truncateSync(secret, MAX_LOG_BYTES + 1);
  files.boundLog(files.path('alice', 'serial.log'));
  t.equal(fs.statSync(secret).size, MAX_LOG_BYTES + 1, 'nor cut');
});

await t.test('a log that grew too large moves on, its writer notices nothing', async t => {
  const files = new RunDirectories(join(place(t), 'run/machines'), false);
  files.prepare('alice');
  const log = files.path('alice', 'serial.log');
  const fd = fs.openSync(log, 'a');
  t.teardown(() => fs.closeSync(fd));
  const block = Buffer.alloc(MAX_LOG_BYTES / 2, 'x');
  fs.writeSync(fd, block);
  fs.writeSync(fd, block);
  files.boundLog(log);
  t.equal(fs.statSync(log).size, MAX_LOG_BYTES, 'not yet');
  fs.writeSync(fd, 'the end');
  files.boundLog(log);
  t.equal(fs.statSync(log).size, 0);
  t.equal(fs.statSync(`${log}.1`).size, MAX_LOG_BYTES);
  t.equal(files.tail(`${log}.1`, 7), 'the end');
  fs.writeSync(fd, 'and on');
  t.equal(fs.readFileSync(log, 'utf8'), 'and on');
});
