/**
 * A tap without a kernel interface or privileges: `tap` is what openTap would return, and `wire` is the fd on
 * which a test stands where the host's network stack would be. Each read and write is one frame, as on a tap:
 * both are ends of a SOCK_SEQPACKET pair, so raw calls and epoll work on them as on the real one.
 *
 * What differs: with a vnet header the other side sees it too (a real kernel consumes it), an oversized read
 * truncates silently on both, and a full queue is -EAGAIN where a real tap would drop.
 */
import { VNET_HDR_BYTES } from '../tap.js';
import type { Tap, TapOptions } from '../tap.js';
import { close } from '../raw.js';
import { unixPair } from '../unix.js';

export interface TapPair {
  tap: Tap;
  wire: number;
  readonly close: () => void;
}

export function tapPair(
  options: Pick<TapOptions, 'ifname' | 'vnetHdr' | 'vnetHdrSize' | 'offloads'>,
): TapPair {
  const [fd, wire] = unixPair('seqpacket');
  const { checksum = false, tso = false, uso = false } = options.offloads ?? {};
  const offloads = options.vnetHdr ? { checksum, tso, uso } : { checksum: false, tso: false, uso: false };
  const vnetHdrSize = options.vnetHdr ? (options.vnetHdrSize ?? VNET_HDR_BYTES) : 0;
  return {
    tap: { fd, ifname: options.ifname, vnetHdrSize, offloads, shortfalls: [] },
    wire,
    close: () => {
      close(fd);
      close(wire);
    },
  };
}
