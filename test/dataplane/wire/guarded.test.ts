/** Codecs of what port security inspects: ARP, DHCP of both versions, neighbour discovery. */
import t from 'tap';
import assert from 'node:assert/strict';
import fc from 'fast-check';
import * as arp from '../../../dataplane/wire/arp.js';
import * as dhcp from '../../../dataplane/wire/dhcp.js';
import * as dhcp6 from '../../../dataplane/wire/dhcp6.js';
import * as nd from '../../../dataplane/wire/neighbourDiscovery.js';
import { codecHolds, holds, record, u16, u8 } from './codec.js';

const i32 = fc.integer({ min: -0x8000_0000, max: 0x7fff_ffff });

void t.test('ARP', async t => {
  const blank = (): arp.Packet => ({
    operation: 0,
    senderMacHigh: 0,
    senderMacLow: 0,
    senderIp: 0,
    targetMacHigh: 0,
    targetMacLow: 0,
    targetIp: 0,
  });
  codecHolds(
    t,
    { length: arp.LENGTH, emit: arp.emit, parse: arp.parse, blank },
    record<arp.Packet>({
      operation: u16,
      senderMacHigh: u16,
      senderMacLow: i32,
      senderIp: i32,
      targetMacHigh: u16,
      targetMacLow: i32,
      targetIp: i32,
    }),
  );
  const view = new DataView(new ArrayBuffer(28));
  arp.emit(view, 0, blank());
  t.ok(arp.check(view, 0, 28));
  t.notOk(arp.check(view, 0, 27));
  view.setUint8(arp.HARDWARE_LENGTH, 8);
  t.notOk(arp.check(view, 0, 28), 'addresses of other lengths');
});

const blankLease = (): dhcp.Message => ({
  op: 0,
  xid: 0,
  clientHigh: 0,
  clientLow: 0,
  ciaddr: 0,
  yiaddr: 0,
  giaddr: 0,
  type: 0,
  lease_s: 0,
});

void t.test('DHCP: what is told is read again', async t => {
  holds(
    t,
    fc.property(
      record<dhcp.Message>({
        op: fc.constantFrom(1, 2),
        xid: i32,
        clientHigh: u16,
        clientLow: i32,
        ciaddr: i32,
        yiaddr: i32,
        giaddr: i32,
        type: u8,
        lease_s: fc.integer({ min: 0, max: 0xffff_ffff }),
      }),
      message => {
        const view = new DataView(new ArrayBuffer(400));
        const end = 3 + dhcp.emit(view, 3, message);
        const out = blankLease();
        assert.ok(dhcp.parse(view, 3, end, out));
        assert.deepEqual(out, message);
      },
    ),
  );
});

void t.test('DHCP: options elsewhere, and none that run over', async t => {
  const view = new DataView(new ArrayBuffer(260));
  dhcp.emit(view, 0, { ...blankLease(), op: 2 });
  const options = (...bytes: number[]): void =>
    bytes.forEach((byte, i) => view.setUint8(dhcp.OPTIONS + i, byte));
  const out = blankLease();
  // RFC 2132 9.3: `file` and `sname` hold options as well.
  options(52, 1, 3, 255);
  for (const [i, byte] of [53, 1, 5, 255].entries()) view.setUint8(dhcp.FILE + i, byte);
  for (const [i, byte] of [0, 51, 4, 0, 0, 1, 0, 255].entries()) view.setUint8(dhcp.SNAME + i, byte);
  t.ok(dhcp.parse(view, 0, 260, out));
  t.match(out, { type: dhcp.ACK, lease_s: 256 });
  view.setUint8(dhcp.SNAME + 2, 200);
  t.notOk(dhcp.parse(view, 0, 260, out), 'beyond sname');
  options(53, 30);
  t.notOk(dhcp.parse(view, 0, 260, out), 'beyond the message');
  options(255);
  t.ok(dhcp.parse(view, 0, 260, out));
  view.setUint8(dhcp.HLEN, 16);
  t.notOk(dhcp.parse(view, 0, 260, out), 'not an Ethernet client');
});

void t.test('DHCPv6', async t => {
  const address = Array.from({ length: 16 }, (_, i) => i);
  const ia = (code: number, head: number, valid: number): number[] => {
    const inner = [0, 5, 0, 24, ...address, 0, 0, 0, 0, 0, 0, 0, valid];
    return [0, code, 0, head + inner.length, ...Array.from({ length: head }, () => 0), ...inner];
  };
  const out = new dhcp6.Message();
  const read = (...bytes: number[]): boolean => {
    const all = Uint8Array.from(bytes);
    return dhcp6.parse(new DataView(all.buffer), 0, all.length, out);
  };
  t.ok(read(7, 1, 2, 3, 0, 1, 0, 2, 9, 9, ...ia(3, 12, 60), ...ia(4, 4, 0)));
  t.match(out, { type: dhcp6.REPLY, transaction: 0x01_0203, count: 2 });
  t.same(Array.from(out.addresses.slice(0, 4)), [0x0001_0203, 0x0405_0607, 0x0809_0a0b, 0x0c0d_0e0f]);
  t.same(Array.from(out.valid_s.slice(0, 2)), [60, 0]);
  t.notOk(read(7, 1, 2, 3, 0, 1, 0, 9, 0), 'an option beyond the end');
  t.notOk(read(7, 1, 2, 3, 0, 3, 0, 4, 0, 0, 0, 0), 'an association cut short');
  t.notOk(read(7, 1, 2));
  t.ok(read(13, 1, 2, 3, 4, 5), "relays' messages are other inside");
  t.ok(read(7, 0, 0, 0, ...Array.from({ length: 40 }, () => ia(3, 12, 1)).flat()));
  t.equal(out.count, dhcp6.ADDRESSES_MAX_COUNT);
});

void t.test('neighbour discovery', async t => {
  const out: nd.Found = { hasLinkLayer: false, linkLayerHigh: 0, linkLayerLow: 0 };
  const read = (...bytes: number[]): boolean => {
    const all = Uint8Array.from(bytes);
    return nd.parse(new DataView(all.buffer), 0, all.length, out);
  };
  const target = Array.from({ length: 16 }, () => 1);
  t.ok(read(136, 0, 0, 0, 0, 0, 0, 0, ...target, 1, 1, 9, 9, 9, 9, 9, 9, 2, 1, 2, 0, 0, 0, 0, 7));
  t.same(
    out,
    { hasLinkLayer: true, linkLayerHigh: 0x0200, linkLayerLow: 7 },
    "its target's, not another option",
  );
  t.ok(read(135, 0, 0, 0, 0, 0, 0, 0, ...target));
  t.equal(out.hasLinkLayer, false);
  t.notOk(read(135, 0, 0, 0, 0, 0, 0, 0, ...target, 1, 0), 'an option of no length');
  t.notOk(read(135, 0, 0, 0, 0, 0, 0, 0, ...target, 1, 2, 0, 0, 0, 0, 0, 0), 'an option beyond the end');
  t.notOk(read(135, 1, 0, 0, 0, 0, 0, 0, ...target), 'a code');
  t.notOk(read(137, 0, 0, 0, 0, 0, 0, 0, ...target), 'a redirect without a destination');
  t.notOk(read(128, 0, 0, 0, 0, 0, 0, 0));
});
