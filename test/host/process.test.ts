import t from 'tap';
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import * as host from '../../host/process.js';
import * as raw from '../../host/raw.js';
import { unixPair } from '../../host/unix.js';

await t.test('the peer of a socket', async t => {
  const [a, b] = unixPair();
  const { euid, egid } = host.ownIds();
  t.same(host.peerCredentials(a), { pid: process.pid, uid: euid, gid: egid });
  raw.close(a);
  raw.close(b);
  t.throws(() => host.peerCredentials(a), { code: 'EBADF' });
});

await t.test('a pid with its start time names one process', async t => {
  const child = spawn('sleep', ['1000'], { stdio: 'ignore' });
  const pid = child.pid!;
  t.ok(host.isAlive(pid));
  const start = host.startTime_ticks(pid);
  t.type(start, 'number');
  t.equal(host.startTime_ticks(pid), start);
  const exited = new Promise(resolve => child.once('exit', resolve));
  child.kill('SIGKILL');
  await exited;
  t.notOk(host.isAlive(pid));
  t.equal(host.startTime_ticks(pid), undefined);
  t.notOk(host.isAlive(0), 'our own group is no process');
  t.notOk(host.isAlive(-1));
  t.ok(host.isAlive(1), 'also when it may not be signalled');
  t.ok(host.startTime_ticks(process.pid)! <= Number(process.hrtime.bigint() / 10_000_000n));
});

await t.test('bits of the own process', async t => {
  host.setThreadName('host-test');
  t.equal(fs.readFileSync('/proc/thread-self/comm', 'utf8').trim(), 'host-test');
  host.setParentDeathSignal(15);
  host.setParentDeathSignal(0);
  host.setDumpable(true);
  t.equal(host.getNoNewPrivs(), false);
  host.setNoNewPrivs();
  t.equal(host.getNoNewPrivs(), true);
  t.throws(() => host.setParentDeathSignal(1000), { code: 'EINVAL', syscall: 'prctl' });
});

await t.test('how long a thread waits for a processor', async t => {
  const before_ms = host.waitedForProcessor_ms();
  if (before_ms === null) return t.comment('this kernel does not say');
  t.ok(before_ms > 0, `${before_ms} ms`);
  fs.readFileSync('/proc/self/maps');
  const since_ms = host.waitedForProcessor_ms()! - before_ms;
  t.ok(since_ms >= 0 && since_ms < performance.now());
});
