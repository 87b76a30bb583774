import fc from 'fast-check';
import t from 'tap';
import * as checksum from '../../../dataplane/wire/checksum.js';
import { completeChecksum } from '../../../dataplane/wire/offload.js';
import { unfinishedChecksum } from '../../../dataplane/wire/unfinished.js';

/** A frame whose transport checksum is the sum of the pseudo-header, as a sender with offloads leaves it. */
function left(isIpv6: boolean, isTcp: boolean, payload: number, tags: number): Uint8Array {
  const ip_bytes = isIpv6 ? 40 : 20;
  const l3 = 14 + tags * 4;
  const l4 = l3 + ip_bytes;
  const transport_bytes = (isTcp ? 20 : 8) + payload;
  const bytes = new Uint8Array(l4 + transport_bytes).fill(0x5a);
  const view = new DataView(bytes.buffer);
  for (let tag = 0; tag < tags; tag++) view.setUint32(12 + tag * 4, 0x8100_0005);
  view.setUint16(l3 - 2, isIpv6 ? 0x86dd : 0x0800);
  const protocol = isTcp ? 6 : 17;
  if (isIpv6) {
    view.setUint32(l3, 0x6000_0000);
    view.setUint16(l3 + 4, transport_bytes);
    view.setUint8(l3 + 6, protocol);
  } else {
    view.setUint16(l3, 0x4500);
    view.setUint16(l3 + 2, 20 + transport_bytes);
    view.setUint32(l3 + 4, 0);
    view.setUint8(l3 + 9, protocol);
  }
  const [addressAt, address_bytes] = isIpv6 ? [l3 + 8, 32] : [l3 + 12, 8];
  const sum = checksum.sum(view, addressAt, address_bytes, 0);
  const total = checksum.fold(sum + checksum.swap(protocol) + checksum.swap(transport_bytes));
  view.setUint16(l4 + (isTcp ? 16 : 6), total, true);
  return bytes;
}

const shape = fc.tuple(fc.boolean(), fc.boolean(), fc.nat(300), fc.nat(2));

await t.test('what is left is found, and not found again once it is done', async () => {
  fc.assert(
    fc.property(shape, ([isIpv6, isTcp, payload, tags]) => {
      const bytes = left(isIpv6, isTcp, payload, tags);
      const view = new DataView(bytes.buffer);
      const found = unfinishedChecksum(view, 0, bytes.length);
      const l4 = 14 + tags * 4 + (isIpv6 ? 40 : 20);
      if (found !== (l4 | ((isTcp ? 16 : 6) << 16))) return false;
      const before = bytes.slice();
      if (!completeChecksum(view, 0, bytes.length, (found & 0xffff) << 16, found >>> 16)) return false;
      // By chance the finished sum is that of the pseudo-header; then doing it again changes nothing.
      const again = unfinishedChecksum(view, 0, bytes.length);
      return again === 0 || Buffer.from(before).equals(bytes);
    }),
  );
});

await t.test('cut short, padded, a fragment, or anything at all: no fault, nothing found', async t => {
  const bytes = left(false, true, 40, 0);
  const view = new DataView(bytes.buffer);
  for (let length = 0; length < bytes.length; length++)
    if (unfinishedChecksum(view, 0, length) !== 0) t.fail(`${length} bytes`);
  const padded = new Uint8Array([...bytes, 0]);
  t.equal(unfinishedChecksum(new DataView(padded.buffer), 0, padded.length), 0);
  view.setUint16(14 + 6, 0x2000);
  t.equal(unfinishedChecksum(view, 0, bytes.length), 0);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 120 }), random => {
      const offset = unfinishedChecksum(new DataView(random.buffer, random.byteOffset), 0, random.length);
      return offset === 0 || (offset & 0xffff) + (offset >>> 16) + 2 <= random.length;
    }),
  );
});
