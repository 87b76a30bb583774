/**
 *   namespace a                      namespace b
 *   bridge hostbr0 --- hostv0 ======= hostv1 10.9.8.2/24 fd09::2/64
 *   10.9.8.1/24 fd09::1/64
 */
import t from 'tap';
import { execFileSync } from 'node:child_process';
import { createNetns, inNetns } from '../../host/netns.js';
import * as netlink from '../../host/netlink.js';
import * as raw from '../../host/raw.js';

const skip = process.getuid?.() === 0 ? false : 'network namespaces need root';

const UDP_TO = `const s = require('dgram').createSocket('udp4');
  s.send('x', 9, process.argv[1], () => s.close());`;

await t.test('everyone may look', async t => {
  const lo = netlink.linkByName('lo');
  t.match(lo, { name: 'lo', mac: '00:00:00:00:00:00', kind: undefined, master: undefined });
  t.equal(netlink.links().filter(link => link.name === 'lo').length, 1);
  t.equal(netlink.linkByName('hostnone'), undefined);
  t.throws(() => netlink.linkByName('too long for a name'), { code: 'EINVAL' });
});

await t.test('links and addresses', { skip }, async t => {
  const [a, b] = [createNetns(), createNetns()];
  t.same(
    inNetns(a, () => netlink.links().map(link => link.name)),
    ['lo'],
  );

  inNetns(a, () => {
    netlink.addBridge('hostbr0');
    netlink.addVeth('hostv0', 'hostv1');
    const peer = netlink.linkByName('hostv1')!;
    t.match(netlink.linkByName('hostv0'), { kind: 'veth', up: false, peer: peer.index, mtu_bytes: 1500 });
    netlink.moveToNetns('hostv1', { fd: b });
    t.equal(netlink.linkByName('hostv1'), undefined);
    netlink.setLink('hostv0', { mac: '02:00:00:00:00:01', mtu_bytes: 9000, master: 'hostbr0', up: true });
    t.match(netlink.linkByName('hostv0'), {
      mac: '02:00:00:00:00:01',
      mtu_bytes: 9000,
      master: netlink.linkByName('hostbr0')!.index,
      up: true,
    });
    netlink.setLink('hostbr0', { up: true });
    netlink.addAddress('hostbr0', '10.9.8.1/24');
    netlink.addAddress('hostbr0', 'fd09::1/64', { noDad: true });
    const cidrs = netlink.addresses('hostbr0').map(({ cidr }) => cidr);
    t.ok(cidrs.includes('10.9.8.1/24') && cidrs.includes('fd09::1/64'), cidrs.join(' '));
  });
  inNetns(b, () => {
    netlink.setLink('hostv1', { up: true });
    netlink.addAddress('hostv1', '10.9.8.2/24');
    netlink.addRoute('0.0.0.0/0', { gateway: '10.9.8.1' });
    netlink.addRoute('192.0.2.0/24', { ifname: 'hostv1' });
    netlink.addRoute('2001:db8::/32', { ifname: 'hostv1' });
    t.ok(netlink.linkByName('hostv1')!.running);
  });

  // Proof by another's eyes: traffic, and the routes as /proc tells them.
  const routes = inNetns(b, () => execFileSync('cat', ['/proc/net/route'], { encoding: 'utf8' }));
  t.match(routes, /hostv1\s+00000000\s+0108090A/);
  t.match(routes, /hostv1\s+000200C0\s+00000000/);
  const before = inNetns(b, () => netlink.linkByName('hostv1')!.counters!.tx_packets);
  inNetns(b, () => execFileSync(process.execPath, ['-e', UDP_TO, '10.9.8.1']));
  t.ok(inNetns(b, () => netlink.linkByName('hostv1')!.counters!.tx_packets) > before);

  inNetns(b, () => {
    netlink.deleteAddress('hostv1', '10.9.8.2/24');
    t.notOk(netlink.addresses('hostv1').some(({ cidr }) => cidr.startsWith('10.')));
    netlink.setLink('hostv1', { up: false });
    netlink.setLink('hostv1', { name: 'hostnew' });
    t.ok(netlink.linkByName('hostnew'));
    netlink.deleteLink('hostnew');
  });
  inNetns(a, () => {
    t.equal(netlink.linkByName('hostv0'), undefined, 'it went with its peer');
    netlink.addVeth('hostv2', 'hostv3', { peerNetns: b });
    netlink.setLink('hostv2', { master: 'hostbr0' });
    netlink.setLink('hostv2', { master: null });
    t.equal(netlink.linkByName('hostv2')!.master, undefined);
  });
  t.ok(inNetns(b, () => netlink.linkByName('hostv3')));
  raw.close(a);
  raw.close(b);
});

await t.test('refusals name the interface and say why', { skip }, async t => {
  const namespace = createNetns();
  inNetns(namespace, () => {
    netlink.addBridge('hostbr0');
    t.throws(() => netlink.addBridge('hostbr0'), { code: 'EEXIST', message: /bridge hostbr0/ });
    t.throws(() => netlink.deleteLink('hostnone'), { code: 'ENODEV', message: /hostnone/ });
    t.throws(() => netlink.setLink('hostnone', { up: true }), { code: 'ENODEV' });
    t.throws(() => netlink.setLink('hostbr0', { master: 'hostnone' }), {
      code: 'ENODEV',
      message: /hostnone/,
    });
    t.throws(() => netlink.setLink('hostbr0', { mac: '02:00' }), { code: 'EINVAL' });
    t.throws(() => netlink.setLink('hostbr0', { mtu_bytes: 1_000_000 }), {
      code: 'EINVAL',
      message: /hostbr0.*mtu/,
    });
    t.throws(() => netlink.addAddress('hostbr0', '10.0.0.1/33'), { code: 'EINVAL' });
    netlink.addAddress('hostbr0', '10.0.0.1/8');
    t.throws(() => netlink.addAddress('hostbr0', '10.0.0.1/8'), {
      code: 'EEXIST',
      message: /10.0.0.1\/8 on hostbr0/,
    });
    t.throws(() => netlink.addRoute('10.0.0.0/8', { gateway: '::1' }), { code: 'EINVAL' });
    t.throws(() => netlink.addVeth('hostv0', 'a/b'), { code: 'EINVAL' });
    t.throws(() => netlink.moveToNetns('hostbr0', { pid: 2 ** 22 + 1 }), {
      code: 'ESRCH',
      message: /hostbr0/,
    });
  });
  raw.close(namespace);
});

await t.test('a dump of many links', { skip }, async t => {
  const namespace = createNetns();
  inNetns(namespace, () => {
    for (let i = 0; i < 40; i++) netlink.addVeth(`hosta${i}`, `hostb${i}`);
    t.equal(netlink.links().length, 81);
    t.equal(new Set(netlink.links().map(({ index }) => index)).size, 81);
  });
  raw.close(namespace);
});
