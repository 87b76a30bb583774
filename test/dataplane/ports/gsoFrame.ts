/** A super-frame of TCP over IPv4, as a sender with offloads gives it: the pseudo-header's sum in its checksum. */
import * as checksum from '../../../dataplane/wire/checksum.js';
import * as ipv4 from '../../../dataplane/wire/ipv4.js';
import * as virtioNet from '../../../dataplane/wire/virtioNet.js';

export interface MadeFrame {
  bytes: Uint8Array;
  payload: Buffer;
  words: readonly [number, number, number];
}

export function makeGsoFrame(payload_bytes: number, gsoSize: number): MadeFrame {
  const bytes = Uint8Array.from({ length: 54 + payload_bytes }, (_, i) => (i * 7 + (i >> 8)) & 255);
  const view = new DataView(bytes.buffer);
  bytes.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0], 0);
  bytes.set([0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2], 14);
  view.setUint16(16, 40 + payload_bytes);
  bytes.set([0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10, 0, 0, 0, 0, 0, 0], 34);
  view.setUint16(50, checksum.fold(ipv4.pseudoHeaderSum(view, 14, 6, 20 + payload_bytes)), true);
  const header = { flags: 1, gsoType: 1, hdrLen: 54, gsoSize, csumStart: 34, csumOffset: 16 };
  return {
    bytes,
    payload: Buffer.from(bytes.slice(54)),
    words: [virtioNet.word0(header), virtioNet.word1(header), virtioNet.word2(header)],
  };
}
