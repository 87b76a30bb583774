/**
 * TCP and UDP sockets for loops that own their fds. Addresses are literal: looking up names is asynchronous and
 * belongs to node:dns above. All fds are non-blocking and close-on-exec.
 *
 *   struct sockaddr_in    16 bytes   0 family(u16)  2 port(be16)  4 address(4)   8 zero
 *   struct sockaddr_in6   28 bytes   0 family(u16)  2 port(be16)  4 flowinfo(4)  8 address(16)  24 scope(u32)
 */
import { EADDRINUSE, EAFNOSUPPORT, EINPROGRESS, EINVAL, HostError, check } from './errno.js';
import { formatIp, parseIp } from './ip.js';
import {
  AF_INET,
  AF_INET6,
  SOCK_DGRAM,
  SOCK_STREAM,
  SOL_SOCKET,
  SO_KEEPALIVE,
  SO_REUSEADDR,
} from './socket.js';
import { findControl, putControl } from './messages.js';
import type { MessageBatch } from './messages.js';
import * as raw from './raw.js';
import * as sock from './socket.js';

export { accept, connectResult, setSockBuf } from './socket.js';

const IPPROTO_TCP = 6;
const IPPROTO_IPV6 = 41;
const TCP_NODELAY = 1;
const TCP_KEEPIDLE = 4;
const TCP_KEEPINTVL = 5;
const TCP_KEEPCNT = 6;
const IPV6_V6ONLY = 26;
const IPPROTO_IP = 0;
const IPPROTO_UDP = 17;
const IP_MTU_DISCOVER = 10;
const IP_MTU = 14;
const IPV6_MTU_DISCOVER = 23;
const IPV6_MTU = 24;
const PMTUDISC_DONT = 0;
const PMTUDISC_DO = 2;
const UDP_SEGMENT = 103;
const UDP_GRO = 104;
const UDP_NO_CHECK6_RX = 102;

function inetAddress(host: string, port: number, syscall: string): Uint8Array {
  const ip = parseIp(host);
  if (ip === undefined)
    throw new HostError(syscall, EINVAL, `${host}:${port}`, 'give an IP address, not a name');
  if (!Number.isInteger(port) || port < 0 || port > 65_535)
    throw new HostError(syscall, EINVAL, `port ${port}`, '0 to 65535');
  const bytes = new Uint8Array(ip.length === 4 ? 16 : 28);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, ip.length === 4 ? AF_INET : AF_INET6, true);
  view.setUint16(2, port);
  bytes.set(ip, ip.length === 4 ? 4 : 8);
  return bytes;
}

export interface Endpoint {
  host: string;
  port: number;
}

function endpoint(bytes: Uint8Array): Endpoint {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const family = bytes.length >= 2 ? view.getUint16(0, true) : 0;
  if (family === AF_INET && bytes.length >= 16)
    return { host: formatIp(bytes.subarray(4, 8)), port: view.getUint16(2) };
  if (family === AF_INET6 && bytes.length >= 28)
    return { host: formatIp(bytes.subarray(8, 24)), port: view.getUint16(2) };
  throw new HostError('getsockname', EAFNOSUPPORT, `family ${family}`);
}

/** "[::1]:80" and "127.0.0.1:80", for messages. */
export function formatEndpoint({ host, port }: Endpoint): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Port 0 takes a free one (see localPort). "::" listens to IPv4 as well, any other address to itself only. */
export function listenTcp(host: string, port: number, backlog = 128): number {
  const address = inetAddress(host, port, 'bind');
  const what = formatEndpoint({ host, port });
  const fd = sock.socket(address.length === 16 ? AF_INET : AF_INET6, SOCK_STREAM);
  // A listener that was just closed leaves connections in TIME_WAIT; they must not hold up the next one.
  sock.setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  if (address.length === 28) sock.setOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, host === '::' ? 0 : 1);
  const result = sock.bindAddress(fd, address);
  if (result === -EADDRINUSE)
    sock.failClosing(fd, 'bind', EADDRINUSE, what, 'another socket has the port; choose a different one');
  if (result < 0) sock.failClosing(fd, 'bind', -result, what);
  try {
    sock.listen(fd, backlog, what);
  } catch (error) {
    if (error instanceof HostError) sock.failClosing(fd, 'listen', error.errno, what);
    throw error;
  }
  return fd;
}

/** Returns before the connection stands: wait until the fd is writable, then ask `connectResult(fd)`. */
export function connectTcp(host: string, port: number): number {
  const address = inetAddress(host, port, 'connect');
  const fd = sock.socket(address.length === 16 ? AF_INET : AF_INET6, SOCK_STREAM);
  const result = sock.connectAddress(fd, address);
  if (result < 0 && result !== -EINPROGRESS)
    sock.failClosing(fd, 'connect', -result, formatEndpoint({ host, port }));
  return fd;
}

/** Small answers leave at once instead of waiting for the acknowledgement of the one before. */
export function setNoDelay(fd: number): void {
  check(sock.setOption(fd, IPPROTO_TCP, TCP_NODELAY, 1), 'setsockopt', `TCP_NODELAY of fd ${fd}`);
}

/** A peer whose machine vanished is noticed after about idle_s + 3 * interval_s. */
export function setKeepAlive(fd: number, idle_s: number, interval_s: number): void {
  check(sock.setOption(fd, SOL_SOCKET, SO_KEEPALIVE, 1), 'setsockopt', `SO_KEEPALIVE of fd ${fd}`);
  check(sock.setOption(fd, IPPROTO_TCP, TCP_KEEPIDLE, idle_s), 'setsockopt', `TCP_KEEPIDLE ${idle_s}`);
  check(
    sock.setOption(fd, IPPROTO_TCP, TCP_KEEPINTVL, interval_s),
    'setsockopt',
    `TCP_KEEPINTVL ${interval_s}`,
  );
  check(sock.setOption(fd, IPPROTO_TCP, TCP_KEEPCNT, 3), 'setsockopt', 'TCP_KEEPCNT 3');
}

export function localEndpoint(fd: number): Endpoint {
  return endpoint(sock.localAddressBytes(fd));
}

export function peerEndpoint(fd: number): Endpoint {
  return endpoint(sock.peerAddressBytes(fd));
}

export function localPort(fd: number): number {
  return localEndpoint(fd).port;
}

// -----------------------------------------------------------------------------------------------------------------
// UDP, for raw sendmmsg and recvmmsg (messages.ts).

/** struct sockaddr_in or sockaddr_in6 of a literal address. */
export function inetAddressBytes(host: string, port: number): Uint8Array {
  return inetAddress(host, port, 'sockaddr');
}

export interface UdpOptions {
  /** Never fragment what is sent: longer than the path takes is -EMSGSIZE. Else the host fragments it. */
  readonly dontFragment: boolean;
  /** Take datagrams that the kernel put together; `groSegment` says how they are to be cut. Linux 5.0. */
  readonly gro?: boolean;
  readonly send_bytes?: number;
  readonly receive_bytes?: number;
}

/** Bound; "0.0.0.0" and "::" stand for all addresses of their own family, port 0 for a free one. */
export function openUdp(host: string, port: number, options: UdpOptions): number {
  const address = inetAddress(host, port, 'bind');
  const isIpv6 = address.length === 28;
  const fd = sock.socket(isIpv6 ? AF_INET6 : AF_INET, SOCK_DGRAM);
  const discover = options.dontFragment ? PMTUDISC_DO : PMTUDISC_DONT;
  if (isIpv6) {
    sock.setOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    sock.setOption(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, discover);
    // RFC 6935: tunnels may leave the sum out.
    sock.setOption(fd, IPPROTO_UDP, UDP_NO_CHECK6_RX, 1);
  } else {
    sock.setOption(fd, IPPROTO_IP, IP_MTU_DISCOVER, discover);
  }
  // Where the kernel lacks it datagrams come one by one: no matter.
  if (options.gro === true) sock.setOption(fd, IPPROTO_UDP, UDP_GRO, 1);
  const { send_bytes, receive_bytes } = options;
  sock.setSockBuf(fd, {
    ...(send_bytes === undefined ? {} : { send_bytes }),
    ...(receive_bytes === undefined ? {} : { receive_bytes }),
  });
  const result = sock.bindAddress(fd, address);
  if (result < 0)
    sock.failClosing(
      fd,
      'bind',
      -result,
      `UDP ${formatEndpoint({ host, port })}`,
      result === -EADDRINUSE ? 'another socket, or a tunnel device of the host, has the port' : '',
    );
  return fd;
}

/** What the host's route to an address takes, in bytes of IP packets; -errno when there is none. */
export function routeMtu(host: string, local: string | undefined): number {
  const address = inetAddress(host, 9, 'connect');
  const isIpv6 = address.length === 28;
  const fd = sock.socket(isIpv6 ? AF_INET6 : AF_INET, SOCK_DGRAM);
  try {
    if (local !== undefined) {
      const bound = sock.bindAddress(fd, inetAddress(local, 0, 'bind'));
      if (bound < 0) return bound;
    }
    // A datagram socket is connected by looking up the route; nothing is sent.
    const connected = sock.connectAddress(fd, address);
    if (connected < 0) return connected;
    return isIpv6 ? sock.getOption(fd, IPPROTO_IPV6, IPV6_MTU) : sock.getOption(fd, IPPROTO_IP, IP_MTU);
  } finally {
    raw.close(fd);
  }
}

/** Room for the control message of `gro`, and of a cut that is asked for. */
export const UDP_CONTROL_BYTES = 24;

/** Length of the datagrams that a received message is made of; 0: it is one. */
export function groSegment(batch: MessageBatch, message: number): number {
  const at = findControl(batch, message, IPPROTO_UDP, UDP_GRO, 4);
  return at < 0 ? 0 : batch.view.getInt32(at, true);
}

/** Asks that a message be cut into datagrams of this length (the last may be shorter). Returns the control's length. */
export function putGsoSegment(batch: MessageBatch, message: number, segment_bytes: number): number {
  const at = batch.controlAt(message);
  batch.view.setUint16(at + 16, segment_bytes, true);
  return putControl(batch, at, IPPROTO_UDP, UDP_SEGMENT, 2);
}
