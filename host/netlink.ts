/**
 * Links, addresses and routes of the network namespace that the thread is in, without running `ip`.
 * Synchronous; refusals are HostErrors that name the interface and carry the kernel's own words.
 *
 * Changes need CAP_NET_ADMIN. None of these is idempotent by itself: a caller that reconciles looks first
 * (`linkByName`), and takes EEXIST and ENODEV as the answers that they are.
 */
import { EINVAL, ENODEV, EPERM, HostError } from './errno.js';
import { parseCidr, parseIp, parseMac } from './ip.js';
import * as nl from './netlinkCodec.js';
import type { Address, Link } from './netlinkCodec.js';
import { ask, nextSequence } from './netlinkSocket.js';
import { AF_INET, AF_INET6 } from './socket.js';
import { checkIfname } from './tap.js';

export type { Address, Link, LinkCounters } from './netlinkCodec.js';

const ACKED = nl.NLM_F_REQUEST | nl.NLM_F_ACK;
const CREATED = ACKED | nl.NLM_F_CREATE | nl.NLM_F_EXCL;

const IFA_F_NODAD = 0x02;
const RT_TABLE_MAIN = 254;
const RTPROT_STATIC = 4;
const RT_SCOPE_UNIVERSE = 0;
const RT_SCOPE_LINK = 253;
const RTN_UNICAST = 1;

/** Asks for a change and waits for its acknowledgement. */
function change(
  syscall: string,
  what: string,
  type: number,
  flags: number,
  fill: (writer: nl.MessageWriter) => void,
): void {
  try {
    ask(
      () => {
        const writer = new nl.MessageWriter(type, flags, nextSequence());
        fill(writer);
        return writer.finish();
      },
      syscall,
      what,
    );
  } catch (error) {
    if (error instanceof HostError && error.errno === EPERM)
      throw new HostError(syscall, EPERM, what, 'changing interfaces needs CAP_NET_ADMIN');
    throw error;
  }
}

function dump(type: number, syscall: string): Uint8Array[] {
  const request = () => {
    const writer = new nl.MessageWriter(type, nl.NLM_F_REQUEST | nl.NLM_F_DUMP, nextSequence());
    // The kernel takes an ifinfomsg for any dump, and this way finds family 0: all of them.
    return writer.ifinfomsg(0).finish();
  };
  return ask(request, syscall, 'all').map(message => message.body);
}

export function links(): Link[] {
  return dump(nl.RTM_GETLINK, 'RTM_GETLINK').flatMap(body => nl.readLink(body) ?? []);
}

/** Undefined when there is none of that name. */
export function linkByName(name: string): Link | undefined {
  checkIfname(name, 'RTM_GETLINK');
  const request = () =>
    new nl.MessageWriter(nl.RTM_GETLINK, nl.NLM_F_REQUEST, nextSequence())
      .ifinfomsg(0)
      .string(nl.IFLA_IFNAME, name)
      .finish();
  try {
    const [answer] = ask(request, 'RTM_GETLINK', name);
    return answer === undefined ? undefined : nl.readLink(answer.body);
  } catch (error) {
    if (error instanceof HostError && error.errno === ENODEV) return undefined;
    throw error;
  }
}

function indexOf(name: string, syscall: string): number {
  const link = linkByName(name);
  if (link === undefined) throw new HostError(syscall, ENODEV, name, 'there is no interface of that name');
  return link.index;
}

export interface LinkChange {
  up?: boolean;
  mtu_bytes?: number;
  mac?: string;
  /** Name of the bridge that it shall belong to; null takes it out of the one it is in. */
  master?: string | null;
  /** A new name. The link must be down. */
  name?: string;
}

/** The kernel applies the parts one by one: after a refusal some of them may stand. */
export function setLink(name: string, { up, mtu_bytes, mac, master, name: newName }: LinkChange): void {
  const index = indexOf(name, 'RTM_NEWLINK');
  const address = mac === undefined ? undefined : parseMac(mac);
  if (mac !== undefined && address === undefined)
    throw new HostError('RTM_NEWLINK', EINVAL, `${name} mac ${mac}`, 'six bytes in hexadecimal with colons');
  if (newName !== undefined) checkIfname(newName, 'RTM_NEWLINK');
  const masterIndex = typeof master === 'string' ? indexOf(master, 'RTM_NEWLINK') : 0;
  change('RTM_NEWLINK', name, nl.RTM_NEWLINK, ACKED, writer => {
    if (up === undefined) writer.ifinfomsg(index);
    else writer.ifinfomsg(index, up ? nl.IFF_UP : 0, nl.IFF_UP);
    if (newName !== undefined) writer.string(nl.IFLA_IFNAME, newName);
    if (mtu_bytes !== undefined) writer.u32(nl.IFLA_MTU, mtu_bytes);
    if (address !== undefined) writer.attribute(nl.IFLA_ADDRESS, address);
    if (master !== undefined) writer.u32(nl.IFLA_MASTER, masterIndex);
  });
}

/** Into the namespace of a process, or of an fd on /proc/PID/ns/net or /run/netns/NAME. It arrives there down. */
export function moveToNetns(name: string, to: { pid: number } | { fd: number }): void {
  const index = indexOf(name, 'RTM_NEWLINK');
  change('RTM_NEWLINK', name, nl.RTM_NEWLINK, ACKED, writer => {
    writer.ifinfomsg(index);
    if ('pid' in to) writer.u32(nl.IFLA_NET_NS_PID, to.pid);
    else writer.u32(nl.IFLA_NET_NS_FD, to.fd);
  });
}

function addLink(
  name: string,
  kind: string,
  data?: (writer: nl.MessageWriter) => void,
  group?: number,
): void {
  checkIfname(name, 'RTM_NEWLINK');
  change('RTM_NEWLINK', `${kind} ${name}`, nl.RTM_NEWLINK, CREATED, writer => {
    writer.ifinfomsg(0).string(nl.IFLA_IFNAME, name);
    if (group !== undefined) writer.u32(nl.IFLA_GROUP, group);
    writer.nest(nl.IFLA_LINKINFO, info => {
      info.string(nl.IFLA_INFO_KIND, kind);
      if (data !== undefined) info.nest(nl.IFLA_INFO_DATA, data);
    });
  });
}

/**
 * Two interfaces, each the other end of the other; with `peerNetns` (an fd) the second is made over there. `group`:
 * of the first, for deleteLinkGroup.
 */
export function addVeth(
  name: string,
  peer: string,
  options: { peerNetns?: number; group?: number } = {},
): void {
  checkIfname(peer, 'RTM_NEWLINK');
  addLink(
    name,
    'veth',
    data => {
      data.nest(nl.VETH_INFO_PEER, other => {
        other.ifinfomsg(0).string(nl.IFLA_IFNAME, peer);
        if (options.peerNetns !== undefined) other.u32(nl.IFLA_NET_NS_FD, options.peerNetns);
      });
    },
    options.group,
  );
}

export function addBridge(name: string): void {
  addLink(name, 'bridge');
}

/**
 * All interfaces of a group at once: the kernel waits for its readers (tens of milliseconds) once instead of for each.
 * ENODEV when there is none. Group 0 is that of everybody, and is refused.
 */
export function deleteLinkGroup(group: number): void {
  if (group === 0) throw new HostError('RTM_DELLINK', EINVAL, 'group 0', 'every interface is in it');
  change('RTM_DELLINK', `group ${group}`, nl.RTM_DELLINK, ACKED, writer =>
    writer.ifinfomsg(0).u32(nl.IFLA_GROUP, group),
  );
}

/** Either end of a veth takes the other with it. */
export function deleteLink(name: string): void {
  const index = indexOf(name, 'RTM_DELLINK');
  change('RTM_DELLINK', name, nl.RTM_DELLINK, ACKED, writer => writer.ifinfomsg(index));
}

function parsedCidr(
  cidr: string,
  syscall: string,
): { address: Uint8Array; prefix_bits: number; family: number } {
  const parsed = parseCidr(cidr);
  if (parsed === undefined)
    throw new HostError(syscall, EINVAL, cidr, 'write an address as 192.0.2.1/24 or 2001:db8::1/64');
  return { ...parsed, family: parsed.address.length === 4 ? AF_INET : AF_INET6 };
}

/** `noDad`: an IPv6 address that may be used at once, without first asking whether someone else has it. */
export function addAddress(name: string, cidr: string, options: { noDad?: boolean } = {}): void {
  const { address, prefix_bits, family } = parsedCidr(cidr, 'RTM_NEWADDR');
  const index = indexOf(name, 'RTM_NEWADDR');
  change('RTM_NEWADDR', `${cidr} on ${name}`, nl.RTM_NEWADDR, CREATED, writer => {
    writer.ifaddrmsg(family, prefix_bits, index);
    writer.attribute(nl.IFA_LOCAL, address).attribute(nl.IFA_ADDRESS, address);
    if (options.noDad === true) writer.u32(nl.IFA_FLAGS, IFA_F_NODAD);
  });
}

export function deleteAddress(name: string, cidr: string): void {
  const { address, prefix_bits, family } = parsedCidr(cidr, 'RTM_DELADDR');
  const index = indexOf(name, 'RTM_DELADDR');
  change('RTM_DELADDR', `${cidr} on ${name}`, nl.RTM_DELADDR, ACKED, writer => {
    writer.ifaddrmsg(family, prefix_bits, index).attribute(nl.IFA_LOCAL, address);
  });
}

/** Of all links, or of one. */
export function addresses(name?: string): Address[] {
  const index = name === undefined ? undefined : indexOf(name, 'RTM_GETADDR');
  return dump(nl.RTM_GETADDR, 'RTM_GETADDR')
    .flatMap(body => nl.readAddress(body) ?? [])
    .filter(address => index === undefined || address.index === index);
}

/** `destination` as a prefix (`0.0.0.0/0` for the default), through a gateway, an interface, or both. */
export function addRoute(destination: string, by: { gateway?: string; ifname?: string }): void {
  const { address, prefix_bits, family } = parsedCidr(destination, 'RTM_NEWROUTE');
  const gateway = by.gateway === undefined ? undefined : parseIp(by.gateway);
  if (by.gateway !== undefined && gateway?.length !== address.length)
    throw new HostError(
      'RTM_NEWROUTE',
      EINVAL,
      `${destination} via ${by.gateway}`,
      'give a gateway of the same family',
    );
  const index = by.ifname === undefined ? undefined : indexOf(by.ifname, 'RTM_NEWROUTE');
  change('RTM_NEWROUTE', destination, nl.RTM_NEWROUTE, CREATED, writer => {
    writer.rtmsg({
      family,
      dst_len: prefix_bits,
      table: RT_TABLE_MAIN,
      protocol: RTPROT_STATIC,
      scope: gateway === undefined && family === AF_INET ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE,
      type: RTN_UNICAST,
    });
    writer.attribute(nl.RTA_DST, address);
    if (gateway !== undefined) writer.attribute(nl.RTA_GATEWAY, gateway);
    if (index !== undefined) writer.u32(nl.RTA_OIF, index);
  });
}
