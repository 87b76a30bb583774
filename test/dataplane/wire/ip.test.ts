import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import * as checksum from '../../../dataplane/wire/checksum.js';
import * as ipv4 from '../../../dataplane/wire/ipv4.js';
import * as ipv6 from '../../../dataplane/wire/ipv6.js';
import { codecHolds, dirty, holds, record, u16, u32, u8 } from './codec.js';

void t.test('IPv4', async t => {
  const header = record({
    totalLength: u16,
    identification: u16,
    fragment: u16,
    ttl: u8,
    protocol: u8,
    source: u32,
    destination: u32,
  });
  codecHolds(
    t,
    {
      length: ipv4.LENGTH,
      emit: ipv4.emit,
      parse: ipv4.parse,
      blank: (): ipv4.Header => ({
        totalLength: 0,
        identification: 0,
        fragment: 0,
        ttl: 0,
        protocol: 0,
        source: 0,
        destination: 0,
      }),
    },
    header,
  );
  holds(
    t,
    fc.property(header, value => {
      const view = dirty(40);
      ipv4.emit(view, 0, value);
      assert.equal(checksum.sum(view, 0, ipv4.LENGTH, 0), 0xffff, 'the header sums to all ones');
    }),
  );
});

void t.test('IPv4: lengths that do not fit are refused', async t => {
  const view = dirty(60);
  const value = { identification: 1, fragment: 0, ttl: 1, protocol: 6, source: 1, destination: 2 };
  ipv4.emit(view, 0, { ...value, totalLength: 40 });
  t.ok(ipv4.check(view, 0, 40));
  t.ok(ipv4.check(view, 0, 60), 'padding behind is none of its business');
  t.notOk(ipv4.check(view, 0, 39), 'cut');
  t.notOk(ipv4.check(view, 0, 19), 'header cut');
  view.setUint8(0, 0x44);
  t.notOk(ipv4.check(view, 0, 60), 'header shorter than a header');
  view.setUint8(0, 0x4f);
  t.notOk(ipv4.check(view, 0, 60), 'header longer than the packet');
  view.setUint8(0, 0x65);
  t.notOk(ipv4.check(view, 0, 60), 'another version');
});

void t.test('IPv6', async t => {
  const address = fc.uint8Array({ minLength: 16, maxLength: 16 });
  codecHolds(
    t,
    {
      length: ipv6.LENGTH,
      emit: ipv6.emit,
      parse: ipv6.parse,
      blank: (): ipv6.Header => ({
        classAndFlow: 0,
        payloadLength: 0,
        nextHeader: 0,
        hopLimit: 0,
        source: new Uint8Array(16),
        destination: new Uint8Array(16),
      }),
    },
    record({
      classAndFlow: fc.nat({ max: 0x0fff_ffff }),
      payloadLength: u16,
      nextHeader: u8,
      hopLimit: u8,
      source: address,
      destination: address,
    }),
  );
  const view = dirty(48);
  ipv6.emit(view, 0, {
    classAndFlow: 0,
    payloadLength: 8,
    nextHeader: 17,
    hopLimit: 1,
    source: new Uint8Array(16),
    destination: new Uint8Array(16),
  });
  t.ok(ipv6.check(view, 0, 48));
  t.notOk(ipv6.check(view, 0, 47));
  t.notOk(ipv6.check(view, 0, 39));
});

void t.test('pseudo-headers as the RFCs draw them', async t => {
  // RFC 768: source, destination, zero, protocol, length.
  const drawn = new DataView(new Uint8Array([10, 0, 0, 1, 10, 0, 0, 2, 0, 17, 0, 9]).buffer);
  const view = dirty(20);
  ipv4.emit(view, 0, {
    totalLength: 29,
    identification: 0,
    fragment: 0,
    ttl: 64,
    protocol: 17,
    source: 0x0a00_0001,
    destination: 0x0a00_0002,
  });
  t.equal(ipv4.pseudoHeaderSum(view, 0, 17, 9), checksum.sum(drawn, 0, 12, 0));

  // RFC 8200 8.1: addresses, 32-bit length, zeros, next header.
  const six = new Uint8Array(40);
  six.forEach((_, i) => (six[i] = i < 32 ? i * 7 : 0));
  six.set([0, 1, 0, 9, 0, 0, 0, 6], 32);
  const header = dirty(40);
  const wanted = new Uint8Array(header.buffer);
  wanted.set(six.slice(0, 32), ipv6.SOURCE);
  t.equal(ipv6.pseudoHeaderSum(header, 0, 6, 0x1_0009), checksum.sum(new DataView(six.buffer), 0, 40, 0));
});
