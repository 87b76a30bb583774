import t from 'tap';
import * as fs from 'node:fs';
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
