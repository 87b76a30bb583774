/**
 * packet(7): Ethernet frames as they are, in and out of one interface, for raw `recv`, `send`, `recvmmsg`
 * and `sendmmsg`. Needs CAP_NET_RAW.
 *
 * struct sockaddr_ll, 20 bytes: 0 family(u16)  2 protocol(u16, big-endian)  4 ifindex(i32)  8 hatype(u16)
 *                               10 pkttype(u8)  11 halen(u8)  12 addr[8]
 *
 * With `vnetHdr` each frame has a virtio-net header of 10 bytes in front, both ways, and TCP passes in super-frames
 * of up to 64 KiB as through a tap. The kernel takes the outermost VLAN tag out of a frame before anybody sees it;
 * with `auxdata` a control message says what it was (`strippedTag`).
 *
 *   struct tpacket_auxdata, 20 bytes: 0 status  4 len  8 snaplen  12 mac(u16)  14 net(u16)  16 tci(u16)  18 tpid(u16)
 *   struct packet_mreq, 16 bytes:     0 ifindex(i32)  4 type(u16)  6 alen(u16)  8 address[8]
 */
import { HostError, check } from './errno.js';
import { bind, cString, negativeErrno, orErrno } from './libc.js';
import { mapAnonymous } from './memory.js';
import { findControl } from './messages.js';
import type { MessageBatch } from './messages.js';
import { close } from './raw.js';

const AF_PACKET = 17;
const SOCK_RAW = 3;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;
const SOL_PACKET = 263;
const PACKET_ADD_MEMBERSHIP = 1;
const PACKET_AUXDATA = 8;
const PACKET_VNET_HDR = 15;
const PACKET_QDISC_BYPASS = 20;
const PACKET_IGNORE_OUTGOING = 23;
const PACKET_MR_PROMISC = 1;
const MREQ_BYTES = 16;
const TP_STATUS_VLAN_VALID = 1 << 4;
const TP_STATUS_VLAN_TPID_VALID = 1 << 6;
const TPID_CUSTOMER = 0x8100;
const AUXDATA_BYTES = 20;
const SOCKADDR_LL_BYTES = 20;

/** Room for the control message of `auxdata`. */
export const AUXDATA_CONTROL_BYTES = 40;
/** Of the header that `vnetHdr` puts before each frame. */
export const VNET_HDR_BYTES = 10;

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
  /** A virtio-net header before each frame. */
  readonly vnetHdr?: boolean;
  /** Tell the VLAN tag that the kernel took out. */
  readonly auxdata?: boolean;
  /** Receive what others send to others, as long as the socket is open. */
  readonly promiscuous?: boolean;
  /** Not what this host sends out of the interface (Linux 4.20). */
  readonly ignoreOutgoing?: boolean;
}

/** The tag that stood in a received message, as the word (TPID, TCI) that it is in a frame; 0 for none. */
export function strippedTag(batch: MessageBatch, message: number): number {
  const at = findControl(batch, message, SOL_PACKET, PACKET_AUXDATA, AUXDATA_BYTES);
  if (at < 0) return 0;
  const { view } = batch;
  const status = view.getInt32(at, true);
  if ((status & TP_STATUS_VLAN_VALID) === 0) return 0;
  const tpid = (status & TP_STATUS_VLAN_TPID_VALID) === 0 ? TPID_CUSTOMER : view.getUint16(at + 18, true);
  return (tpid << 16) | view.getUint16(at + 16, true);
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
    const enable = (name: number, text: string): void => {
      memory.view.setInt32(0, 1, true);
      check(orErrno(cSetsockopt(fd, SOL_PACKET, name, memory.address, 4)), 'setsockopt', text);
    };
    if (options.qdiscBypass === true) enable(PACKET_QDISC_BYPASS, 'PACKET_QDISC_BYPASS');
    if (options.vnetHdr === true) enable(PACKET_VNET_HDR, 'PACKET_VNET_HDR');
    if (options.auxdata === true) enable(PACKET_AUXDATA, 'PACKET_AUXDATA');
    if (options.ignoreOutgoing === true) enable(PACKET_IGNORE_OUTGOING, 'PACKET_IGNORE_OUTGOING');
    if (options.promiscuous === true) {
      memory.bytes.fill(0, 0, MREQ_BYTES);
      memory.view.setInt32(0, ifindex, true);
      memory.view.setUint16(4, PACKET_MR_PROMISC, true);
      const joined = cSetsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, memory.address, MREQ_BYTES);
      check(orErrno(joined), 'setsockopt', 'PACKET_ADD_MEMBERSHIP');
    }
    memory.bytes.fill(0, 0, SOCKADDR_LL_BYTES);
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
