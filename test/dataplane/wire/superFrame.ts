/** TCP and UDP super-frames for tests, and the slow, obvious way to cut them. */
import fc from 'fast-check';
import type { Header } from '../../../dataplane/wire/virtioNet.js';

export interface GsoFrame {
  bytes: Uint8Array;
  header: Header;
  l3: number;
  l4: number;
  isIpv6: boolean;
  isTcp: boolean;
  /** Of the transport header. */
  transport_bytes: number;
}

function onesSum(parts: number[]): number {
  let sum = 0;
  for (let i = 0; i < parts.length; i += 2) sum += (parts[i]! << 8) + (parts[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return sum;
}

function pseudoHeader(bytes: Uint8Array, frame: GsoFrame): number[] {
  const length = bytes.length - frame.l4;
  const protocol = frame.isTcp ? 6 : 17;
  const addresses = frame.isIpv6
    ? bytes.slice(frame.l3 + 8, frame.l3 + 40)
    : bytes.slice(frame.l3 + 12, frame.l3 + 20);
  return [
    ...addresses,
    length >>> 24,
    (length >>> 16) & 255,
    (length >>> 8) & 255,
    length & 255,
    0,
    protocol,
  ];
}

export function transportChecksumIsRight(bytes: Uint8Array, frame: GsoFrame): boolean {
  return onesSum([...pseudoHeader(bytes, frame), ...bytes.slice(frame.l4)]) === 0xffff;
}

/** RFC by RFC, with arrays. */
export function slowSegments(frame: GsoFrame): Uint8Array[] {
  const headers = frame.bytes.slice(0, frame.l4 + frame.transport_bytes);
  const payload = frame.bytes.slice(headers.length);
  const segments: Uint8Array[] = [];
  for (let from = 0; from < payload.length; from += frame.header.gsoSize) {
    const part = payload.slice(from, from + frame.header.gsoSize);
    const bytes = new Uint8Array([...headers, ...part]);
    const view = new DataView(bytes.buffer);
    const isFirst = from === 0;
    const isLast = from + part.length === payload.length;
    if (frame.isIpv6) {
      view.setUint16(frame.l3 + 4, bytes.length - frame.l3 - 40);
    } else {
      view.setUint16(frame.l3 + 2, bytes.length - frame.l3);
      view.setUint16(frame.l3 + 4, view.getUint16(frame.l3 + 4) + segments.length);
      view.setUint16(frame.l3 + 10, 0);
      view.setUint16(frame.l3 + 10, onesSum(Array.from(bytes.slice(frame.l3, frame.l4))) ^ 0xffff);
    }
    if (frame.isTcp) {
      view.setUint32(frame.l4 + 4, view.getUint32(frame.l4 + 4) + from);
      let flags = bytes[frame.l4 + 13]!;
      if (!isLast) flags &= 0xf6;
      if (!isFirst) flags &= 0x7f;
      bytes[frame.l4 + 13] = flags;
    } else {
      view.setUint16(frame.l4 + 4, bytes.length - frame.l4);
    }
    const at = frame.l4 + frame.header.csumOffset;
    view.setUint16(at, 0);
    const sum = onesSum([...pseudoHeader(bytes, frame), ...bytes.slice(frame.l4)]) ^ 0xffff;
    view.setUint16(at, sum === 0 ? 0xffff : sum);
    segments.push(bytes);
  }
  return segments;
}

interface Shape {
  tags: number;
  isIpv6: boolean;
  isTcp: boolean;
  ipOptionWords: number;
  tcpOptionWords: number;
  flags: number;
  gsoSize: number;
  payload: number;
  fill: Uint8Array;
}

function build(shape: Shape): GsoFrame {
  const { tags, isIpv6, isTcp, payload, fill, gsoSize } = shape;
  const ip_bytes = isIpv6 ? 40 : 20 + shape.ipOptionWords * 4;
  const transport_bytes = isTcp ? 20 + shape.tcpOptionWords * 4 : 8;
  const l3 = 14 + tags * 4;
  const l4 = l3 + ip_bytes;
  const bytes = new Uint8Array(l4 + transport_bytes + payload);
  bytes.forEach((_, i) => (bytes[i] = (fill[i % fill.length]! + i) & 0xff));
  const view = new DataView(bytes.buffer);
  for (let tag = 0; tag < tags; tag++)
    view.setUint16(12 + tag * 4, tag === 0 && tags === 2 ? 0x88a8 : 0x8100);
  view.setUint16(l3 - 2, isIpv6 ? 0x86dd : 0x0800);
  if (isIpv6) {
    view.setUint8(l3, 0x60);
    view.setUint8(l3 + 6, isTcp ? 6 : 17);
  } else {
    view.setUint8(l3, 0x40 | (ip_bytes / 4));
    view.setUint8(l3 + 9, isTcp ? 6 : 17);
  }
  if (isTcp) {
    view.setUint8(l4 + 12, (transport_bytes / 4) << 4);
    view.setUint8(l4 + 13, shape.flags);
  }
  const csumOffset = isTcp ? 16 : 6;
  const gsoType = isTcp ? (isIpv6 ? 4 : 1) : 5;
  const frame: GsoFrame = {
    bytes,
    header: { flags: 1, gsoType, hdrLen: l4 + transport_bytes, gsoSize, csumStart: l4, csumOffset },
    l3,
    l4,
    isIpv6,
    isTcp,
    transport_bytes,
  };
  // As the kernel hands it over: the field holds the folded sum of the pseudo-header.
  view.setUint16(l4 + csumOffset, onesSum(pseudoHeader(bytes, frame)));
  return frame;
}

export const gsoFrame: fc.Arbitrary<GsoFrame> = fc
  .record({
    tags: fc.nat({ max: 2 }),
    isIpv6: fc.boolean(),
    isTcp: fc.boolean(),
    ipOptionWords: fc.nat({ max: 3 }),
    tcpOptionWords: fc.nat({ max: 10 }),
    flags: fc.nat({ max: 255 }),
    gsoSize: fc.integer({ min: 1, max: 1460 }),
    segments: fc.integer({ min: 1, max: 6 }),
    last: fc.nat(),
    fill: fc.uint8Array({ minLength: 1, maxLength: 64 }),
  })
  .map(({ segments, last, ...shape }) =>
    build({ ...shape, payload: shape.gsoSize * (segments - 1) + (last % shape.gsoSize) + 1 }),
  );
