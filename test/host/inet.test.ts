import t from 'tap';
import { EAGAIN, ECONNREFUSED } from '../../host/errno.js';
import { EPOLLIN, EPOLLOUT, Epoll } from '../../host/epoll.js';
import * as inet from '../../host/inet.js';
import { mapAnonymous } from '../../host/memory.js';
import * as raw from '../../host/raw.js';

const memory = mapAnonymous(4096);

function untilReady(fd: number, events: number): void {
  const epoll = new Epoll(1);
  epoll.add(fd, events, 0);
  epoll.wait(10_000);
  epoll.close();
}

for (const host of ['127.0.0.1', '::1'])
  await t.test(`a connection over ${host}`, async t => {
    const listener = inet.listenTcp(host, 0);
    const port = inet.localPort(listener);
    t.same(inet.localEndpoint(listener), { host, port });
    t.equal(inet.accept(listener), -EAGAIN);
    const client = inet.connectTcp(host, port);
    untilReady(client, EPOLLOUT);
    t.equal(inet.connectResult(client), 0);
    untilReady(listener, EPOLLIN);
    const server = inet.accept(listener);
    t.ok(server > 2);
    t.same(inet.peerEndpoint(server), inet.localEndpoint(client));
    t.same(inet.peerEndpoint(client), { host, port });
    inet.setNoDelay(client);
    inet.setKeepAlive(client, 60, 10);
    inet.setSockBuf(client, { send_bytes: 100_000, receive_bytes: 100_000 });
    memory.bytes.set([7, 8, 9]);
    t.equal(raw.send(client, memory.address, 3, 0), 3);
    untilReady(server, EPOLLIN);
    t.equal(raw.recv(server, memory.address + 100, 10, 0), 3);
    t.same([...memory.bytes.subarray(100, 103)], [7, 8, 9]);
    t.throws(() => inet.listenTcp(host, port), { code: 'EADDRINUSE', message: /choose a different one/ });
    for (const fd of [client, server, listener]) raw.close(fd);
    const again = inet.listenTcp(host, port);
    t.equal(inet.localPort(again), port, 'TIME_WAIT does not hold it up');
    raw.close(again);
  });

await t.test('nobody there', async t => {
  const listener = inet.listenTcp('127.0.0.1', 0);
  const port = inet.localPort(listener);
  raw.close(listener);
  let refused: unknown;
  try {
    const fd = inet.connectTcp('127.0.0.1', port);
    untilReady(fd, EPOLLOUT);
    refused = inet.connectResult(fd);
    raw.close(fd);
  } catch (error) {
    refused = error;
  }
  t.ok(refused === -ECONNREFUSED || (refused instanceof Error && /ECONNREFUSED/.test(refused.message)));
});

await t.test('"::" takes IPv4 as well', async t => {
  const listener = inet.listenTcp('::', 0);
  const client = inet.connectTcp('127.0.0.1', inet.localPort(listener));
  untilReady(listener, EPOLLIN);
  const server = inet.accept(listener);
  t.equal(inet.peerEndpoint(server).host, '::ffff:127.0.0.1');
  for (const fd of [client, server, listener]) raw.close(fd);
});

await t.test('addresses that are none', async t => {
  t.throws(() => inet.listenTcp('localhost', 1), { code: 'EINVAL', message: /an IP address, not a name/ });
  for (const port of [-1, 65_536, 1.5]) t.throws(() => inet.listenTcp('127.0.0.1', port), { code: 'EINVAL' });
  t.throws(() => inet.listenTcp('192.0.2.1', 0), { code: 'EADDRNOTAVAIL' });
  t.throws(() => inet.setNoDelay(-1), { code: 'EBADF', message: /setsockopt/ });
  t.equal(inet.formatEndpoint({ host: '::1', port: 80 }), '[::1]:80');
  t.equal(inet.formatEndpoint({ host: '192.0.2.1', port: 80 }), '192.0.2.1:80');
});
