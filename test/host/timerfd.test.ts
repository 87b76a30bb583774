import t from 'tap';
import { Worker } from 'node:worker_threads';
import { EPOLLIN, Epoll } from '../../host/epoll.js';
import { TimerFd, monotonicNow_ms } from '../../host/timerfd.js';

await t.test('a timer wakes epoll, once', async t => {
  const timer = new TimerFd();
  const epoll = new Epoll(1);
  epoll.add(timer.fd, EPOLLIN, 5);
  t.equal(epoll.wait(0), 0);
  const before = monotonicNow_ms();
  timer.armAt_ms(before + 20);
  t.equal(epoll.wait(10_000), 1);
  t.ok(monotonicNow_ms() >= before + 20, 'never early');
  t.equal(timer.drain(), 1);
  t.equal(timer.drain(), 0);
  timer.armIn_ns(1_500_000);
  t.equal(epoll.wait(10_000), 1);
  t.equal(timer.drain(), 1);
  for (const past of [before - 1000, 0, -5]) {
    timer.armAt_ms(past);
    t.equal(epoll.wait(10_000), 1, 'what is due fires');
    timer.drain();
  }
  timer.armIn_ns(0);
  t.equal(epoll.wait(10_000), 1);
  timer.drain();
  timer.armIn_ns(3_600e9);
  timer.disarm();
  t.equal(epoll.wait(0), 0);
  timer.armAt_ms(monotonicNow_ms() + 3_600_000);
  timer.armIn_ns(1);
  t.equal(epoll.wait(10_000), 1, 'the later arming replaces the earlier');
  t.throws(() => timer.armAt_ms(Number.NaN), { code: 'EINVAL' });
  timer.close();
  timer.close();
  epoll.close();
});

await t.test('all threads have one clock, that of the kernel', async t => {
  const worker = new Worker(
    `const { parentPort, workerData } = require('node:worker_threads');
     import(workerData).then(({ monotonicNow_ms }) => parentPort.postMessage(monotonicNow_ms()));`,
    { eval: true, workerData: new URL('../../host/timerfd.js', import.meta.url).href },
  );
  const before = monotonicNow_ms();
  const there = await new Promise<number>((resolve, reject) =>
    worker.once('message', resolve).once('error', reject),
  );
  const after = monotonicNow_ms();
  t.ok(before <= there && there <= after, `${before} ${there} ${after}`);
  t.ok(Math.abs(Number(process.hrtime.bigint()) / 1e6 - monotonicNow_ms()) < 1000);
  await worker.terminate();
});
