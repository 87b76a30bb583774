import t from 'tap';
import fc from 'fast-check';
import * as nl from '../../host/netlinkCodec.js';

const same = (a: Uint8Array, b: Uint8Array | undefined) => b !== undefined && Buffer.from(a).equals(b);

await t.test('what is written is read', async () => {
  const attribute = fc.tuple(fc.nat(0x3fff), fc.uint8Array({ maxLength: 300 }));
  fc.assert(
    fc.property(
      fc.nat(0xffff),
      fc.nat(0xffff),
      fc.nat(0xffffffff),
      fc.uniqueArray(attribute, { selector: ([type]) => type, maxLength: 20 }),
      (type, flags, seq, attributes) => {
        const writer = new nl.MessageWriter(type, flags, seq).ifinfomsg(7, 1, 1);
        for (const [kind, value] of attributes) writer.attribute(kind, value);
        const { messages, wellFormed } = nl.readMessages(writer.finish());
        const message = messages[0]!;
        const read = nl.readAttributes(message.body.subarray(nl.IFINFOMSG_BYTES))!;
        return (
          wellFormed &&
          messages.length === 1 &&
          message.type === type &&
          message.flags === flags &&
          message.seq === seq &&
          message.pid === 0 &&
          read.size === attributes.length &&
          attributes.every(([kind, value]) => same(value, read.get(kind)))
        );
      },
    ),
  );
});

await t.test('nesting', async t => {
  const bytes = new nl.MessageWriter(nl.RTM_NEWLINK, 0, 1)
    .nest(5, outer => {
      outer.string(1, 'veth').nest(2, inner => inner.u32(3, 0xdeadbeef));
    })
    .finish();
  const outer = nl.readAttributes(nl.readAttributes(nl.readMessages(bytes).messages[0]!.body)!.get(5)!)!;
  t.equal(Buffer.from(outer.get(1)!).toString(), 'veth\0');
  t.same([...nl.readAttributes(outer.get(2)!)!.get(3)!], [0xef, 0xbe, 0xad, 0xde]);
  const big = new Uint8Array(65_532);
  t.throws(() => new nl.MessageWriter(1, 0, 0).attribute(1, big), RangeError);
  t.throws(() => new nl.MessageWriter(1, 0, 0).nest(1, w => w.attribute(1, big.subarray(1))), RangeError);
});

await t.test('several messages of one datagram, and where it breaks', async t => {
  const one = new nl.MessageWriter(1, 2, 3).attribute(1, Uint8Array.of(1)).finish();
  const two = new nl.MessageWriter(4, 5, 6).finish();
  const both = Buffer.concat([one, two]);
  t.equal(nl.readMessages(both).messages.length, 2);
  for (let cut = 1; cut < both.length; cut++) {
    const { messages, wellFormed } = nl.readMessages(both.subarray(0, cut));
    t.equal(messages.length, cut < one.length ? 0 : 1);
    t.equal(wellFormed, cut === one.length);
  }
  const zero = Uint8Array.from(both);
  zero.fill(0, 0, 4);
  t.same(nl.readMessages(zero), { messages: [], wellFormed: false }, 'length 0 does not loop');
});

await t.test('random bytes never throw, and never reach outside', async () => {
  const body = fc.uint8Array({ maxLength: 200 });
  fc.assert(
    fc.property(body, fc.nat(0xffff), (bytes, flags) => {
      for (const { body } of nl.readMessages(bytes).messages) nl.readAttributes(body);
      nl.readAttributes(bytes);
      nl.readLink(bytes);
      nl.readAddress(bytes);
      nl.readError(bytes, flags);
    }),
    { numRuns: 2000 },
  );
});

await t.test('a link', async t => {
  const counters = new Uint8Array(8 * 24);
  new DataView(counters.buffer).setBigUint64(16, 2n ** 40n, true);
  const bytes = new nl.MessageWriter(nl.RTM_NEWLINK, 0, 1)
    .ifinfomsg(3, 0x11043, 0)
    .string(nl.IFLA_IFNAME, 'eth0')
    .u32(nl.IFLA_MTU, 1500)
    .u32(nl.IFLA_MASTER, 9)
    .u32(nl.IFLA_LINK, 4)
    .attribute(nl.IFLA_ADDRESS, Uint8Array.of(2, 0, 0, 0, 0, 0xab))
    .attribute(nl.IFLA_STATS64, counters)
    .nest(nl.IFLA_LINKINFO, info => info.string(nl.IFLA_INFO_KIND, 'veth'))
    .finish();
  const link = nl.readLink(nl.readMessages(bytes).messages[0]!.body)!;
  t.match(link, {
    index: 3,
    name: 'eth0',
    up: true,
    running: true,
    mtu_bytes: 1500,
    mac: '02:00:00:00:00:ab',
    master: 9,
    kind: 'veth',
    peer: 4,
    counters: { rx_packets: 0, rx_bytes: 2 ** 40 },
  });
  t.equal(nl.readLink(new Uint8Array(16)), undefined, 'a link without a name is none');
});

await t.test('refusals, with and without words', async t => {
  const refuse = (flags: number, requestBytes: number, text: string) => {
    const tail = new nl.MessageWriter(0, 0, 0).string(1, text).finish().subarray(16);
    const body = new Uint8Array(4 + requestBytes + tail.length);
    const view = new DataView(body.buffer);
    view.setInt32(0, -17, true);
    view.setUint32(4, requestBytes, true);
    body.set(tail, 4 + requestBytes);
    return nl.readError(body, flags);
  };
  t.same(refuse(0x300, 16, 'no'), { errno: 17, text: 'no' });
  t.same(refuse(0x200, 40, 'echoed'), { errno: 17, text: 'echoed' });
  t.same(refuse(0x000, 40, 'unannounced'), { errno: 17, text: '' });
  t.same(nl.readError(new Uint8Array(20), 0), { errno: 0, text: '' });
  t.equal(nl.readError(new Uint8Array(19), 0), undefined);
  const positive = new Uint8Array(20);
  positive[0] = 1;
  t.equal(nl.readError(positive, 0), undefined);
});
