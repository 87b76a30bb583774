/**
 * packet(7): Ethernet frames as they are, in and out of one interface, for raw `recv`, `send`, `recvmmsg`
 * and `sendmmsg`. Needs CAP_NET_RAW.
 *
 * struct sockaddr_ll, 20 bytes: 0 family(u16)  2 protocol(u16, big-endian)  4 ifindex(i32)  8 hatype(u16)
 *                               10 pkttype(u8)  11 halen(u8)  12 addr[8]
 *
 * A tap is the better port for a switch (an offload header, no second copy in the host's stack); this is for
 * interfaces that are there already, and for the frames of tests.
 */
import { HostError, check } from './errno.js';
import { bind, cString, negativeErrno, orErrno } from './libc.js';
import { mapAnonymous } from './memory.js';
import { close } from './raw.js';

const AF_PACKET = 17;
const SOCK_RAW = 3;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;
const SOL_PACKET = 263;
const PACKET_QDISC_BYPASS = 20;
const SOCKADDR_LL_BYTES = 20;

/** All protocols; as an argument of bind, it starts reception. */
export const ETH_P_ALL = 0x0003;

const cSocket = bind<(family: number, type: number, protocol: number) => number>('socket', 'int', [
  'int',
  'int',
  'int',
]);
const cBind = bind<(fd: number, address: number, length: number) => number>('bind', 'int', [
  'int',
  'uintptr_t',
  'uint',
]);
const cSetsockopt = bind<(fd: number, level: number, name: number, value: number, length: number) => number>(
  'setsockopt',
  'int',
  ['int', 'int', 'int', 'uintptr_t', 'uint'],
);
const cIfNameToIndex = bind<(name: string) => number>('if_nametoindex', 'uint', ['str']);

export interface PacketSocketOptions {
  /** Of this process's network namespace. */
  readonly ifname: string;
  /** False: only sends, and the kernel copies no frame into it. */
  readonly receive: boolean;
  /** Straight to the driver: faster, and a frame that the driver has no room for is lost (-ENOBUFS). */
  readonly qdiscBypass?: boolean;
  readonly nonBlocking?: boolean;
}

/** A socket bound to the interface; close it with raw `close`. */
export function openPacketSocket(options: PacketSocketOptions): number {
  const { ifname, receive } = options;
  const ifindex = cIfNameToIndex(cString(ifname, 'if_nametoindex'));
  if (ifindex === 0) throw new HostError('if_nametoindex', -negativeErrno(), ifname);
  const flags = SOCK_CLOEXEC | (options.nonBlocking === true ? SOCK_NONBLOCK : 0);
  // Protocol 0 until bound: else it would receive from every interface for a moment.
  const fd = check(orErrno(cSocket(AF_PACKET, SOCK_RAW | flags, 0)), 'socket', 'AF_PACKET');
  const memory = mapAnonymous(SOCKADDR_LL_BYTES);
  try {
    if (options.qdiscBypass === true) {
      memory.view.setInt32(0, 1, true);
      const set = orErrno(cSetsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, memory.address, 4));
      check(set, 'setsockopt', 'PACKET_QDISC_BYPASS');
    }
    memory.view.setUint16(0, AF_PACKET, true);
    memory.view.setUint16(2, receive ? ETH_P_ALL : 0, false);
    memory.view.setInt32(4, ifindex, true);
    check(orErrno(cBind(fd, memory.address, SOCKADDR_LL_BYTES)), 'bind', ifname);
  } catch (error) {
    close(fd);
    throw error;
  } finally {
    memory.unmap();
  }
  return fd;
}
