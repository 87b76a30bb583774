/** What a frame comes to on a wire: a super-frame is many, each with the headers of the first. Pure. */
import * as tcp from '../wire/tcp.js';
import * as virtioNet from '../wire/virtioNet.js';

const UDP_HEADER_BYTES = 8;

/** Headers that each segment of a super-frame gets, from the frame's beginning; at most the frame. */
function segmentHeader(view: DataView, at: number, length_bytes: number, w0: number, w1: number): number {
  const l4 = virtioNet.csumStartOf(w1);
  const gsoType = virtioNet.gsoTypeOf(w0);
  const isTcp = gsoType === virtioNet.GSO_TCPV4 || gsoType === virtioNet.GSO_TCPV6;
  if (!isTcp) return Math.min(length_bytes, l4 + UDP_HEADER_BYTES);
  if (l4 + tcp.DATA_OFFSET >= length_bytes) return length_bytes;
  return Math.min(length_bytes, l4 + (view.getUint8(at + l4 + tcp.DATA_OFFSET) >>> 4) * 4);
}

/** How many frames it will be. */
export function wireFrames(view: DataView, at: number, length_bytes: number, w0: number, w1: number): number {
  const gsoSize = virtioNet.gsoSizeOf(w1);
  if ((w0 & 0x7f00) === 0 || gsoSize === 0) return 1;
  const payload_bytes = length_bytes - segmentHeader(view, at, length_bytes, w0, w1);
  return payload_bytes <= gsoSize ? 1 : Math.ceil(payload_bytes / gsoSize);
}

/** Octets of all of them; `extra_bytes` are added to each. */
export function wireBytes(
  view: DataView,
  at: number,
  length_bytes: number,
  w0: number,
  w1: number,
  extra_bytes: number,
): number {
  const frames = wireFrames(view, at, length_bytes, w0, w1);
  if (frames === 1) return length_bytes + extra_bytes;
  return length_bytes + (frames - 1) * segmentHeader(view, at, length_bytes, w0, w1) + frames * extra_bytes;
}
