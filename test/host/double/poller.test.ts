/** The double and the kernel sit the same exam, so that the double cannot drift from what it stands for. */
import t from 'tap';
import { HandWoundPoller } from '../../../host/double/poller.js';
import { EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, Epoll } from '../../../host/epoll.js';
import type { Poller } from '../../../host/epoll.js';
import { EventFd } from '../../../host/eventfd.js';
import type { Signal } from '../../../host/eventfd.js';
import { TimerFd, monotonicNow_ms } from '../../../host/timerfd.js';
import type { Timer } from '../../../host/timerfd.js';

interface Bench {
  poller: Poller;
  readonly signal: () => Signal;
  readonly timer: () => Timer;
  readonly now_ms: () => number;
  /** Enough for a timer of 5 ms. */
  readonly pass: () => void;
}

function real(): Bench {
  const poller = new Epoll(2);
  return {
    poller,
    signal: () => EventFd.create(),
    timer: () => new TimerFd(),
    now_ms: monotonicNow_ms,
    pass: () => {
      const until = monotonicNow_ms() + 6;
      while (monotonicNow_ms() < until);
    },
  };
}

function double(): Bench {
  const poller = new HandWoundPoller(2);
  return {
    poller,
    signal: () => poller.signal(),
    timer: () => poller.timer(),
    now_ms: () => poller.now_ms,
    pass: () => poller.advance_ms(6),
  };
}

for (const [name, make] of [
  ['the kernel', real],
  ['the double', double],
] as const)
  await t.test(name, async t => {
    const { poller, signal, timer, now_ms, pass } = make();
    const [one, two, three] = [signal(), signal(), signal()];
    poller.add(one.fd, EPOLLIN, -1);
    t.throws(() => poller.add(one.fd, EPOLLIN, 1), { code: 'EEXIST', syscall: 'epoll_ctl' });
    t.throws(() => poller.modify(two.fd, EPOLLIN, 1), { code: 'ENOENT' });
    t.throws(() => poller.remove(two.fd), { code: 'ENOENT' });
    t.throws(() => poller.add(999_999, EPOLLIN, 1), { code: 'EBADF' });
    t.equal(poller.wait(0), 0);
    one.signal();
    one.signal();
    t.equal(poller.wait(0), 1);
    t.equal(poller.wait(0), 1, 'level-triggered');
    t.same([poller.tokens[0], poller.events[0]], [-1, EPOLLIN]);
    poller.modify(one.fd, 0, 5);
    t.equal(poller.wait(0), 0, 'asked for nothing');
    poller.modify(one.fd, EPOLLIN, 5);
    poller.add(two.fd, EPOLLIN, 2);
    poller.add(three.fd, EPOLLIN, 3);
    two.signal();
    three.signal();
    t.equal(poller.wait(0), 2, 'no more than fits');
    t.equal(one.drain(), 2);
    t.equal(one.drain(), 0);
    t.equal(poller.wait(0), 2);
    t.same(new Set(poller.tokens), new Set([2, 3]));
    poller.remove(two.fd);
    three.close();
    t.equal(poller.wait(0), 0, 'a closed fd leaves by itself');

    const alarm = timer();
    poller.add(alarm.fd, EPOLLIN, 9);
    alarm.armIn_ns(5e6);
    t.equal(poller.wait(0), 0);
    pass();
    t.equal(poller.wait(0), 1);
    t.equal(poller.tokens[0], 9);
    t.equal(alarm.drain(), 1);
    t.equal(alarm.drain(), 0);
    pass();
    t.equal(poller.wait(0), 0, 'once only');
    alarm.armAt_ms(now_ms() + 5);
    alarm.disarm();
    pass();
    t.equal(poller.wait(0), 0);
    alarm.armAt_ms(now_ms() + 5);
    pass();
    alarm.armAt_ms(now_ms() + 3_600_000);
    t.equal(alarm.drain(), 0, 'arming again forgets what had expired');
    alarm.armAt_ms(now_ms() - 5);
    pass();
    t.equal(alarm.drain(), 1, 'the past is due');
    alarm.close();
    one.close();
    two.close();
    poller.close();
    t.throws(() => poller.wait(0), { code: 'EINVAL' });
  });

await t.test('what only the double has', async t => {
  const poller = new HandWoundPoller();
  const fd = poller.fd();
  poller.add(fd, EPOLLOUT, 1);
  poller.set(fd, EPOLLIN | EPOLLOUT | EPOLLHUP | EPOLLERR);
  t.equal(poller.wait(250), 1);
  t.equal(poller.events[0], EPOLLOUT | EPOLLHUP | EPOLLERR, 'unasked as well');
  t.same(poller.waited_ms, [250]);
  t.throws(() => poller.modify(fd, EPOLLET, 1), { code: 'EINVAL' });
  poller.closeFd(fd);
  t.throws(() => poller.set(fd, 0), { code: 'EBADF' });
});
