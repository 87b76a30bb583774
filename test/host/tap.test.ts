import t from 'tap';
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import { EPOLLIN, Epoll } from '../../host/epoll.js';
import { EINVAL } from '../../host/errno.js';
import { formatIp, formatMac } from '../../host/ip.js';
import { mapAnonymous } from '../../host/memory.js';
import { addAddress, linkByName, setLink } from '../../host/netlink.js';
import { createNetns, inNetns } from '../../host/netns.js';
import * as raw from '../../host/raw.js';
import * as tap from '../../host/tap.js';

const skip =
  process.getuid?.() !== 0
    ? 'taps need root'
    : fs.existsSync('/dev/net/tun')
      ? false
      : 'there is no /dev/net/tun';

await t.test('names that are none', async t => {
  for (const ifname of ['', 'x'.repeat(16), 'a b', 'a/b', '.', '..', 'a:b', 'a\0b'])
    t.throws(() => tap.openTap({ ifname, vnetHdr: false }), { code: 'EINVAL', syscall: 'TUNSETIFF' });
});

await t.test('a tap with headers and offloads', { skip }, async t => {
  const namespace = createNetns();
  const open = (options: Partial<tap.TapOptions>) =>
    inNetns(namespace, () => tap.openTap({ ifname: 'hosttap', vnetHdr: true, ...options }));
  const one = open({ ifname: 'host%d', offloads: { checksum: true, tso: true } });
  t.equal(one.ifname, 'host0');
  t.equal(one.vnetHdrSize, 12);
  t.same(one.offloads, { checksum: true, tso: true, uso: false });
  t.same(one.shortfalls, []);
  t.equal(tap.tapIfname(one.fd), 'host0');
  const info = fs.readFileSync(`/proc/self/fdinfo/${one.fd}`, 'utf8');
  const flags = Number.parseInt(/flags:\s+(\d+)/.exec(info)![1]!, 8);
  t.equal(flags & 0o2004000, 0o2004000, 'close-on-exec and non-blocking');
  t.throws(() => open({ ifname: 'host0' }), { code: 'EBUSY', message: /host0.*another process/ });
  t.throws(() => tap.setTapOffloads(one.fd, { tso: true }), { code: 'EINVAL', message: /need checksum/ });
  const uso = tap.setTapOffloads(one.fd, { checksum: true, tso: true, uso: true });
  t.ok(uso.checksum && uso.tso, 'with or without uso');
  t.same(tap.setTapOffloads(one.fd, {}), { checksum: false, tso: false, uso: false });
  raw.close(one.fd);

  const padded = open({ vnetHdrSize: 16 });
  t.equal(padded.vnetHdrSize, 16);
  raw.close(padded.fd);
  t.throws(() => open({ vnetHdrSize: 4 }), { code: 'EINVAL', message: /TUNSETVNETHDRSZ hosttap/ });

  const plain = open({ vnetHdr: false });
  t.equal(plain.vnetHdrSize, 0);
  tap.setTapPersistent(plain.fd, true);
  tap.setTapOwner(plain.fd, 12_345);
  raw.close(plain.fd);
  t.throws(() => open({ exclusive: true }), { code: 'EBUSY' });
  const again = open({});
  tap.setTapPersistent(again.fd, false);
  raw.close(again.fd);
  t.throws(() => open({ ifname: 'lo' }), { code: 'EINVAL', message: /another kind of interface/ });

  const queues = [0, 1].map(() => open({ multiQueue: true }));
  t.equal(queues[0]?.ifname, queues[1]?.ifname);
  tap.setTapQueueAttached(queues[1]!.fd, false);
  tap.setTapQueueAttached(queues[1]!.fd, true);
  for (const { fd } of queues) raw.close(fd);
  raw.close(namespace);
});

await t.test('frames pass both ways, behind their headers', { skip }, async t => {
  const namespace = createNetns();
  const device = inNetns(namespace, () => {
    const opened = tap.openTap({ ifname: 'hosttap', vnetHdr: true, offloads: { checksum: true, tso: true } });
    setLink('hosttap', { up: true, mac: '02:00:00:00:00:01' });
    addAddress('hosttap', '10.9.8.1/24');
    return opened;
  });
  const memory = mapAnonymous(70_000);
  const epoll = new Epoll(1);
  epoll.add(device.fd, EPOLLIN, 0);
  inNetns(namespace, () =>
    execFileSync(process.execPath, [
      '-e',
      `const s = require('dgram').createSocket('udp4'); s.send('x', 9, '10.9.8.2', () => s.close());`,
    ]),
  );
  // The kernel asks who has 10.9.8.2; IPv6 chatter of the new interface may come before it.
  let frame: Uint8Array | undefined;
  while (frame === undefined && epoll.wait(5000) > 0) {
    const length = raw.read(device.fd, memory.address, 70_000);
    const view = memory.view;
    if (length >= 12 + 42 && view.getUint16(12 + 12) === 0x0806) frame = memory.bytes.slice(0, length);
  }
  t.ok(frame !== undefined, 'an ARP request came');
  t.same(
    [...frame!.subarray(0, 10)],
    Array.from({ length: 10 }, () => 0),
    'the vnet header asks for nothing',
  );
  t.equal(formatMac(frame!.subarray(12 + 6, 12 + 12)), '02:00:00:00:00:01');
  t.equal(formatIp(frame!.subarray(12 + 38, 12 + 42)), '10.9.8.2');

  const received = () => inNetns(namespace, () => linkByName('hosttap')!.counters!.rx_packets);
  const before = received();
  t.equal(raw.write(device.fd, memory.address, 12 + 60), 12 + 60);
  t.equal(received(), before + 1);
  t.equal(raw.write(device.fd, memory.address, 11), -EINVAL, 'shorter than its header');
  epoll.close();
  raw.close(device.fd);
  t.equal(
    inNetns(namespace, () => linkByName('hosttap')),
    undefined,
    'gone with its fd',
  );
  raw.close(namespace);
});
