import assert from 'node:assert';
import * as ipv4 from '../../../dataplane/wire/ipv4.js';
import * as ipv6 from '../../../dataplane/wire/ipv6.js';
import {
  SEGMENTS_MAX_COUNT,
  SEGMENT_HEADER_MAX_BYTES,
  Segmenter,
  completeChecksum,
} from '../../../dataplane/wire/offload.js';
import * as tcp from '../../../dataplane/wire/tcp.js';
import * as udp from '../../../dataplane/wire/udp.js';
import * as virtioNet from '../../../dataplane/wire/virtioNet.js';
import type { Target } from '../harness.js';

/** A vnet header and a super-frame behind it. */
function superFrame(
  isIpv6: boolean,
  isTcp: boolean,
  tags: number,
  payload: number,
  gsoSize: number,
): Uint8Array {
  const l3 = 14 + tags * 4;
  const l4 = l3 + (isIpv6 ? ipv6.LENGTH : ipv4.LENGTH);
  const header = l4 + (isTcp ? tcp.LENGTH : udp.LENGTH);
  const bytes = new Uint8Array(virtioNet.LENGTH + header + payload).fill(0x5a);
  const view = new DataView(bytes.buffer);
  virtioNet.emit(view, 0, {
    flags: virtioNet.F_NEEDS_CSUM,
    gsoType: isTcp ? (isIpv6 ? virtioNet.GSO_TCPV6 : virtioNet.GSO_TCPV4) : virtioNet.GSO_UDP_L4,
    hdrLen: header,
    gsoSize,
    csumStart: l4,
    csumOffset: isTcp ? tcp.CHECKSUM : udp.CHECKSUM,
  });
  const at = virtioNet.LENGTH;
  for (let tag = 0; tag < tags; tag++) view.setUint32(at + 12 + tag * 4, 0x8100_000a);
  view.setUint16(at + l3 - 2, isIpv6 ? 0x86dd : 0x0800);
  view.setUint8(at + l3, isIpv6 ? 0x60 : 0x45);
  view.setUint8(at + l3 + (isIpv6 ? ipv6.NEXT_HEADER : ipv4.PROTOCOL), isTcp ? 6 : 17);
  if (isTcp) view.setUint8(at + l4 + tcp.DATA_OFFSET, 0x50);
  return bytes;
}

export const target: Target = {
  says: 'vnet headers and super-frames: refused, or cut so that all payload is there once; nothing read outside',
  samples: [
    superFrame(false, true, 0, 5000, 1448),
    superFrame(true, true, 1, 3000, 1428),
    superFrame(false, false, 2, 4000, 1000),
    superFrame(true, false, 0, 100, 99),
  ],
  run(input) {
    if (!virtioNet.check(0, input.length)) return;
    const header = { flags: 0, gsoType: 0, hdrLen: 0, gsoSize: 0, csumStart: 0, csumOffset: 0 };
    virtioNet.parse(new DataView(input.buffer, input.byteOffset, input.length), 0, header);
    const [w0, w1, w2] = [virtioNet.word0(header), virtioNet.word1(header), virtioNet.word2(header)];
    const length = input.length - virtioNet.LENGTH;
    // Room for a segment's headers, then the frame, then nothing: reading on behind it throws.
    const bytes = new Uint8Array(SEGMENT_HEADER_MAX_BYTES + length);
    const at = SEGMENT_HEADER_MAX_BYTES;
    bytes.set(input.subarray(virtioNet.LENGTH), at);
    const view = new DataView(bytes.buffer);
    const before = bytes.slice(at);

    const segmenter = new Segmenter();
    const count = segmenter.plan(view, at, length, w0, w1);
    assert(count === -1 || (count >= 1 && count <= SEGMENTS_MAX_COUNT));
    let payloadAt = at + segmenter.header_bytes;
    for (let index = 0; index < count; index++) {
      assert(segmenter.header_bytes <= SEGMENT_HEADER_MAX_BYTES);
      // The first few and the last: a frame may make thousands.
      if (index < 8 || index === count - 1) segmenter.emitHeader(view, index, 0);
      assert.equal(segmenter.payloadAt(index), payloadAt);
      assert(segmenter.payloadLength(index) >= 1 && segmenter.payloadLength(index) <= header.gsoSize);
      payloadAt += segmenter.payloadLength(index);
    }
    if (count > 0) assert.equal(payloadAt, at + length, 'payload left over, or too much');
    assert.deepEqual(bytes.subarray(at), before, 'the frame itself was touched');

    if (completeChecksum(view, at, length, w1, w2))
      assert(header.csumStart + header.csumOffset + 2 <= length);
    else assert.deepEqual(bytes.subarray(at), before);
  },
};
