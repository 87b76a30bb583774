import t from 'tap';
import { Worker } from 'node:worker_threads';
import { EPOLLIN, EPOLLOUT, Epoll } from '../../host/epoll.js';
import { EventFd } from '../../host/eventfd.js';
import { mapAnonymous } from '../../host/memory.js';
import * as raw from '../../host/raw.js';
import { unixPair } from '../../host/unix.js';

await t.test('tokens and events come back', async t => {
  const epoll = new Epoll(4);
  const [a, b] = unixPair();
  const wake = EventFd.create();
  epoll.add(a, EPOLLIN | EPOLLOUT, 0x12345678);
  epoll.add(b, EPOLLIN, -2);
  epoll.add(wake.fd, EPOLLIN, 3);
  t.equal(epoll.wait(0), 1);
  t.equal(epoll.tokens[0], 0x12345678);
  t.equal(epoll.events[0], EPOLLOUT);
  raw.write(a, mapAnonymous(1).address, 1);
  wake.signal();
  t.equal(epoll.wait(-1), 3);
  t.same(new Set(epoll.tokens.subarray(0, 3)), new Set([0x12345678, -2, 3]));
  epoll.modify(a, EPOLLIN, 9);
  epoll.remove(b);
  t.equal(wake.drain(), 1);
  t.equal(epoll.wait(0), 0);
  raw.close(b);
  t.equal(epoll.wait(0), 1);
  t.equal(epoll.tokens[0], 9);
  t.throws(() => epoll.remove(b), { code: 'EBADF', syscall: 'epoll_ctl' });
  t.throws(() => epoll.add(a, EPOLLIN, 1), { code: 'EEXIST' });
  raw.close(a);
  wake.close();
  epoll.close();
  epoll.close();
  t.throws(() => epoll.wait(0), { code: 'EINVAL' });
});

await t.test('more ready fds than capacity are told in turns', async t => {
  const epoll = new Epoll(2);
  const wakes = [1, 2, 3].map(() => EventFd.create());
  wakes.forEach((wake, i) => {
    epoll.add(wake.fd, EPOLLIN, i);
    wake.signal();
  });
  t.equal(epoll.wait(0), 2);
  const seen = new Set(epoll.tokens);
  t.equal(epoll.wait(0), 2);
  for (const token of epoll.tokens) seen.add(token);
  t.equal(seen.size, 3);
  for (const wake of wakes) wake.close();
  epoll.close();
  t.throws(() => new Epoll(0), { code: 'EINVAL' });
});

await t.test('eventfd counts and never blocks', async t => {
  const wake = EventFd.create();
  t.equal(wake.drain(), 0);
  wake.signal();
  wake.signal();
  t.equal(wake.drain(), 2);
  t.equal(wake.drain(), 0);
  const other = EventFd.of(wake.fd);
  other.signal();
  other.close();
  t.equal(wake.drain(), 1, 'closing what was not made here leaves it open');
  wake.close();
  wake.close();
  t.throws(() => wake.signal(), { code: 'EBADF' });
});

await t.test('a worker that sleeps in epoll is woken by another thread', async t => {
  const [wake, answer] = [EventFd.create(), EventFd.create()];
  const worker = new Worker(
    `const { workerData } = require('node:worker_threads');
     Promise.all([import(workerData.root + 'epoll.js'), import(workerData.root + 'eventfd.js')]).then(
       ([{ Epoll, EPOLLIN }, { EventFd }]) => {
         const epoll = new Epoll();
         epoll.add(workerData.wake, EPOLLIN, 77);
         EventFd.of(workerData.answer).signal();
         const count = epoll.wait(-1);
         if (count === 1 && epoll.tokens[0] === 77) EventFd.of(workerData.answer).signal();
         epoll.close();
       });`,
    {
      eval: true,
      workerData: { root: new URL('../../host/', import.meta.url).href, wake: wake.fd, answer: answer.fd },
    },
  );
  const exited = new Promise(resolve => worker.once('exit', resolve));
  const here = new Epoll();
  here.add(answer.fd, EPOLLIN, 1);
  while (answer.drain() === 0) await new Promise(resolve => setTimeout(resolve, 5));
  wake.signal();
  t.equal(here.wait(10_000), 1, 'it answered');
  t.equal(answer.drain(), 1);
  await exited;
  here.close();
  wake.close();
  answer.close();
});
