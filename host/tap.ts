/**
 * Tap devices: Ethernet frames of a kernel interface by read and write.
 *
 * With IFF_VNET_HDR each frame carries a virtio_net_hdr in front (12 bytes here: the form with num_buffers,
 * which QEMU and vhost-user use as well), and with the offloads below the kernel hands over TCP segments of
 * up to 64 KB unsegmented and unchecksummed, which is where the speed of a tap comes from. A kernel that has
 * no vnet header gives a plain tap, and `vnetHdrSize` 0 says so.
 *
 *   struct ifreq   40 bytes   0 name(16)   16 flags(i16)
 */
import { EBUSY, EINVAL, ENOENT, ENXIO, EPERM, HostError, check } from './errno.js';
import { O_NONBLOCK, O_RDWR, openFile } from './file.js';
import { ioctl } from './libc.js';
import { mapAnonymous } from './memory.js';
import * as raw from './raw.js';

const DEVICE = '/dev/net/tun';

// linux/if_tun.h; _IOC encodes sizes and directions alike on x86-64 and arm64.
const TUNSETIFF = 0x400454ca;
const TUNSETPERSIST = 0x400454cb;
const TUNSETOWNER = 0x400454cc;
const TUNGETFEATURES = 0x800454cf;
const TUNSETOFFLOAD = 0x400454d0;
const TUNGETIFF = 0x800454d2;
const TUNSETVNETHDRSZ = 0x400454d8;
const TUNSETQUEUE = 0x400454d9;
const TUNGETDEVNETNS = 0x54e3;

const IFF_TAP = 0x0002;
const IFF_MULTI_QUEUE = 0x0100;
const IFF_ATTACH_QUEUE = 0x0200;
const IFF_DETACH_QUEUE = 0x0400;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
const IFF_TUN_EXCL = 0x8000;

const TUN_F_CSUM = 0x01;
const TUN_F_TSO4 = 0x02;
const TUN_F_TSO6 = 0x04;
const TUN_F_TSO_ECN = 0x08;
const TUN_F_USO4 = 0x20;
const TUN_F_USO6 = 0x40;

/** sizeof(struct virtio_net_hdr_mrg_rxbuf) = struct virtio_net_hdr_v1. */
export const VNET_HDR_BYTES = 12;

/** IFNAMSIZ less the zero that ends it. */
export const IFNAME_MAX_BYTES = 15;

const scratch = mapAnonymous(64);

/** What the other side of the tap may hand to us: what we promise to deal with. */
export interface TapOffloads {
  /** Frames without a transport checksum (NEEDS_CSUM in the vnet header). Needed for the others. */
  checksum: boolean;
  /** Unsegmented TCP of IPv4 and IPv6, with or without ECN. */
  tso: boolean;
  /** Unsegmented UDP (Linux 6.2 and newer). */
  uso: boolean;
}

export interface TapOptions {
  /** Made when absent, and then gone with its last fd. `%d` in it lets the kernel number it. */
  ifname: string;
  /** Ask for vnet headers. */
  vnetHdr: boolean;
  /** How long they are, if not VNET_HDR_BYTES: what goes beyond the header's fields is padding. */
  vnetHdrSize?: number;
  /** Each open of the same name is one queue more, up to 256. */
  multiQueue?: boolean;
  offloads?: Partial<TapOffloads>;
  /** Refuse one that exists already. */
  exclusive?: boolean;
}

export interface Tap {
  /** Non-blocking, close-on-exec. */
  fd: number;
  ifname: string;
  /** Bytes before each frame, both ways; 0 without vnet headers. */
  vnetHdrSize: number;
  /** What the kernel accepted of what was asked for. */
  offloads: TapOffloads;
  /** In words, what was asked for and not given; empty when all was. */
  shortfalls: string[];
}

export function checkIfname(ifname: string, syscall: string): void {
  const length = Buffer.byteLength(ifname);
  // The rule of dev_valid_name() in the kernel.
  if (length < 1 || length > IFNAME_MAX_BYTES || /[\s/:\0]/.test(ifname) || ifname === '.' || ifname === '..')
    throw new HostError(
      syscall,
      EINVAL,
      JSON.stringify(ifname),
      `an interface's name has 1 to ${IFNAME_MAX_BYTES} bytes, without space, "/" and ":"`,
    );
}

function layIfreq(ifname: string, flags: number): void {
  scratch.bytes.fill(0, 0, 40);
  scratch.bytes.set(Buffer.from(ifname), 0);
  scratch.view.setUint16(16, flags, true);
}

function ifnameOf(): string {
  const end = scratch.bytes.indexOf(0);
  return Buffer.from(scratch.bytes.subarray(0, Math.min(end < 0 ? 16 : end, 16))).toString();
}

function advice(errno: number, multiQueue: boolean): string {
  if (errno === EPERM) return 'making a tap needs CAP_NET_ADMIN: run as root, or use Unix sockets';
  if (errno === EBUSY) return 'another process has this tap open, or it exists and may not';
  if (errno === EINVAL)
    return multiQueue
      ? 'the name is that of another kind of interface, or of a tap with one queue'
      : 'the name is that of another kind of interface, or of a tap with several queues';
  return '';
}

export function openTap(options: TapOptions): Tap {
  const { ifname, vnetHdr, vnetHdrSize = VNET_HDR_BYTES, multiQueue = false, exclusive = false } = options;
  checkIfname(ifname, 'TUNSETIFF');
  const fd = openDevice();
  try {
    const shortfalls: string[] = [];
    check(ioctl(fd, TUNGETFEATURES, scratch.address), 'TUNGETFEATURES', DEVICE);
    const features = scratch.view.getUint32(0, true);
    const withHeader = vnetHdr && (features & IFF_VNET_HDR) !== 0;
    if (vnetHdr && !withHeader)
      shortfalls.push('this kernel has no vnet header: frames come one segment at a time');
    if (multiQueue && (features & IFF_MULTI_QUEUE) === 0)
      throw new HostError('TUNSETIFF', EINVAL, ifname, 'this kernel has no taps with several queues');

    const flags =
      IFF_TAP |
      IFF_NO_PI |
      (withHeader ? IFF_VNET_HDR : 0) |
      (multiQueue ? IFF_MULTI_QUEUE : 0) |
      (exclusive ? IFF_TUN_EXCL : 0);
    layIfreq(ifname, flags);
    const result = ioctl(fd, TUNSETIFF, scratch.address);
    if (result < 0) throw new HostError('TUNSETIFF', -result, ifname, advice(-result, multiQueue));
    const actual = ifnameOf();

    let offloads: TapOffloads = { checksum: false, tso: false, uso: false };
    if (withHeader) {
      scratch.i32[0] = vnetHdrSize;
      check(ioctl(fd, TUNSETVNETHDRSZ, scratch.address), 'TUNSETVNETHDRSZ', actual);
      offloads = setTapOffloads(fd, options.offloads ?? {}, shortfalls);
    }
    return { fd, ifname: actual, vnetHdrSize: withHeader ? vnetHdrSize : 0, offloads, shortfalls };
  } catch (error) {
    raw.close(fd);
    throw error;
  }
}

function openDevice(): number {
  try {
    return openFile(DEVICE, O_RDWR | O_NONBLOCK);
  } catch (error) {
    const missing = error instanceof HostError && (error.errno === ENOENT || error.errno === ENXIO);
    throw missing ? new HostError('open', error.errno, DEVICE, 'load the kernel module "tun"') : error;
  }
}

/** Asks for the most, then for less, until the kernel takes it. May be called again while the tap is open. */
export function setTapOffloads(
  fd: number,
  wanted: Partial<TapOffloads>,
  shortfalls: string[] = [],
): TapOffloads {
  const { checksum = false, tso = false, uso = false } = wanted;
  if ((tso || uso) && !checksum)
    throw new HostError('TUNSETOFFLOAD', EINVAL, `fd ${fd}`, 'tso and uso need checksum');
  const flags =
    (checksum ? TUN_F_CSUM : 0) |
    (tso ? TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN : 0) |
    // USO comes for both versions of IP or not at all.
    (uso ? TUN_F_USO4 | TUN_F_USO6 : 0);
  let result = ioctl(fd, TUNSETOFFLOAD, flags);
  if (result >= 0) return { checksum, tso, uso };
  if (uso) {
    result = ioctl(fd, TUNSETOFFLOAD, flags & ~(TUN_F_USO4 | TUN_F_USO6));
    if (result >= 0) {
      shortfalls.push('this kernel does not hand over unsegmented UDP (Linux 6.2 and newer do)');
      return { checksum, tso, uso: false };
    }
  }
  throw new HostError('TUNSETOFFLOAD', -result, `fd ${fd}`);
}

/** What the kernel calls the interface now: it may have been renamed, or moved to another namespace. */
export function tapIfname(fd: number): string {
  check(ioctl(fd, TUNGETIFF, scratch.address), 'TUNGETIFF', `fd ${fd}`);
  return ifnameOf();
}

/** A persistent tap outlives its fds, until it is deleted. */
export function setTapPersistent(fd: number, persistent: boolean): void {
  check(ioctl(fd, TUNSETPERSIST, persistent ? 1 : 0), 'TUNSETPERSIST', `fd ${fd}`);
}

/** Lets that user open the (persistent) tap without privileges. */
export function setTapOwner(fd: number, uid: number): void {
  check(ioctl(fd, TUNSETOWNER, uid), 'TUNSETOWNER', `fd ${fd}`);
}

/** A detached queue of a multi-queue tap is given no frames. */
export function setTapQueueAttached(fd: number, attached: boolean): void {
  layIfreq('', attached ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE);
  check(ioctl(fd, TUNSETQUEUE, scratch.address), 'TUNSETQUEUE', `fd ${fd}`);
}

/** An fd of the network namespace that the interface is in now. While it is open the namespace does not end. */
export function tapNetns(fd: number): number {
  return check(ioctl(fd, TUNGETDEVNETNS, 0), 'TUNGETDEVNETNS', `fd ${fd}`);
}
