/** What threads.test.ts runs in each worker: a little of everything, beside other threads that do the same. */
import { parentPort, workerData } from 'node:worker_threads';
import { EPOLLIN, Epoll } from '../../host/epoll.js';
import { EventFd } from '../../host/eventfd.js';
import { O_RDWR, closeFile, openFile, statfs } from '../../host/file.js';
import { inNetns } from '../../host/netns.js';
import { listenTcp, localPort } from '../../host/inet.js';
import { IoUring } from '../../host/ioUring.js';
import { mapAnonymous } from '../../host/memory.js';
import { links } from '../../host/netlink.js';
import { peerCredentials, setThreadName } from '../../host/process.js';
import * as raw from '../../host/raw.js';
import { TimerFd } from '../../host/timerfd.js';
import { recvFds, sendFds, unixPair } from '../../host/unix.js';

export interface Job {
  /** An fd of a namespace, -1 without privileges. */
  namespace: number;
  rounds: number;
}

const { namespace, rounds } = workerData as Job;
const memory = mapAnonymous(8192);
const faults: string[] = [];

function expect(name: string, seen: unknown, wanted: unknown): void {
  if (seen !== wanted) faults.push(`${name}: ${String(seen)} instead of ${String(wanted)}`);
}

function round(): void {
  const [a, b] = unixPair();
  expect('errno', raw.recv(b, memory.address, 8, 0), -11);
  expect('other errno', raw.recv(-1, memory.address, 8, 0), -9);
  expect('send', raw.send(a, memory.address, 8, 0), 8);
  expect('recv', raw.recv(b, memory.address + 4096, 8, 0), 8);
  const wake = EventFd.create();
  const timer = new TimerFd();
  const epoll = new Epoll(4);
  epoll.add(wake.fd, EPOLLIN, 1);
  epoll.add(timer.fd, EPOLLIN, 2);
  wake.signal();
  expect('wait', epoll.wait(1000), 1);
  wake.drain();
  timer.armIn_ns(1000);
  expect('timer', epoll.wait(1000), 1);
  sendFds(a, Uint8Array.of(1), [wake.fd]);
  const passed = recvFds(b, new Uint8Array(1), 1).fds;
  expect('passed', passed.length, 1);
  for (const fd of [a, b, ...passed]) raw.close(fd);
  wake.close();
  timer.close();
  epoll.close();
}

setThreadName('host-thread');
for (let i = 0; i < rounds; i++) round();
const zero = openFile('/dev/zero', O_RDWR);
expect('read', raw.read(zero, memory.address, 100), 100);
closeFile(zero);
expect('statfs', statfs('/').capacity_bytes > 0, true);
const [a, b] = unixPair();
expect('peer', peerCredentials(a).pid, process.pid);
raw.close(a);
raw.close(b);
const listener = listenTcp('127.0.0.1', 0);
expect('port', localPort(listener) > 0, true);
raw.close(listener);
if (IoUring.available().available) {
  const ring = new IoUring(4);
  ring.prepNop(9);
  ring.submitAndWait(1);
  let token = 0;
  ring.reap(done => {
    token = done;
  });
  expect('ring', token, 9);
  ring.close();
}
const outside = links().length;
if (namespace >= 0) {
  const inside = inNetns(namespace, () =>
    links()
      .map(({ name }) => name)
      .join(),
  );
  expect('namespace', inside, 'lo');
  expect('home', links().length, outside);
}
parentPort?.postMessage(faults);
