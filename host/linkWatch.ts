/**
 * Being told that interfaces come, go, and change: an rtnetlink socket that is a member of the group for links
 * (rtnetlink(7), RTMGRP_LINK). What changed is not read here; who is told looks again (netlink.ts `linkByName`), as a
 * level-driven reader does, so messages that were lost cost nothing. The socket belongs to the network namespace
 * that the thread is in when it is made.
 */
import { ENOBUFS, check } from './errno.js';
import { mapAnonymous } from './memory.js';
import * as raw from './raw.js';
import { AF_NETLINK, SOCK_RAW, bindAddress, socket } from './socket.js';

const NETLINK_ROUTE = 0;
const RTMGRP_LINK = 1;
const SOCKADDR_NL_BYTES = 12;
const DRAIN_BYTES = 65_536;
/** Messages taken at once; what is left keeps the socket readable. */
const DRAIN_MAX_COUNT = 256;

const memory = mapAnonymous(DRAIN_BYTES);

/** A non-blocking fd that is readable after a change; `drainLinkWatch` makes it quiet again. Close with raw `close`. */
export function openLinkWatch(): number {
  const fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
  const address = new Uint8Array(SOCKADDR_NL_BYTES);
  const view = new DataView(address.buffer);
  view.setUint16(0, AF_NETLINK, true);
  view.setUint32(8, RTMGRP_LINK, true);
  const result = bindAddress(fd, address);
  if (result < 0) raw.close(fd);
  check(result, 'bind', 'RTMGRP_LINK');
  return fd;
}

/** True when there was something, be it that so much was said that some of it was lost. */
export function drainLinkWatch(fd: number): boolean {
  for (let count = 0; count < DRAIN_MAX_COUNT; count++) {
    const n = raw.recv(fd, memory.address, DRAIN_BYTES, 0);
    if (n < 0 && n !== -ENOBUFS) return count > 0;
  }
  return true;
}
