/**
 * ethtool's ioctl: what a driver can say of an interface, and one switch of it.
 *
 *   struct ifreq, 40 bytes            0 name(16)  16 data(pointer)
 *   struct ethtool_channels           0 cmd  4..16 max rx, tx, other, combined  20..32 rx, tx, other, combined
 *   struct ethtool_value              0 cmd  4 data
 */
import { ENODEV, EOPNOTSUPP, HostError } from './errno.js';
import { ioctl } from './libc.js';
import { mapAnonymous } from './memory.js';
import * as raw from './raw.js';
import { AF_INET, SOCK_DGRAM, socket } from './socket.js';
import { checkIfname } from './tap.js';

const SIOCETHTOOL = 0x8946;
const ETHTOOL_GFLAGS = 0x25;
const ETHTOOL_SFLAGS = 0x26;
const ETHTOOL_GCHANNELS = 0x3c;
const ETH_FLAG_RXVLAN = 1 << 8;

const DATA_AT = 64;
const memory = mapAnonymous(256);

/** Asks with what stands at DATA_AT. 0 or -errno. */
function ask(ifname: string): number {
  checkIfname(ifname, 'SIOCETHTOOL');
  memory.bytes.fill(0, 0, 40);
  memory.bytes.set(Buffer.from(ifname), 0);
  memory.view.setBigUint64(16, BigInt(memory.address + DATA_AT), true);
  const fd = socket(AF_INET, SOCK_DGRAM);
  const result = ioctl(fd, SIOCETHTOOL, memory.address);
  raw.close(fd);
  return result;
}

/** Queues that receive; 1 where the driver has no word for it. */
export function receiveQueues(ifname: string): number {
  memory.bytes.fill(0, DATA_AT);
  memory.view.setUint32(DATA_AT, ETHTOOL_GCHANNELS, true);
  const result = ask(ifname);
  if (result === -EOPNOTSUPP) return 1;
  if (result < 0) throw new HostError('ETHTOOL_GCHANNELS', result === -ENODEV ? ENODEV : -result, ifname);
  const rx = memory.view.getUint32(DATA_AT + 20, true);
  const combined = memory.view.getUint32(DATA_AT + 32, true);
  return Math.max(1, rx + combined);
}

/**
 * Whether the driver takes VLAN tags out of the frames it receives, and tells them beside, where a program at XDP
 * does not see them. Returns what it was; undefined when the driver does not say.
 */
export function setReceiveVlanOffload(ifname: string, on: boolean): boolean | undefined {
  memory.view.setUint32(DATA_AT, ETHTOOL_GFLAGS, true);
  memory.view.setUint32(DATA_AT + 4, 0, true);
  if (ask(ifname) < 0) return undefined;
  const flags = memory.view.getUint32(DATA_AT + 4, true);
  const was = (flags & ETH_FLAG_RXVLAN) !== 0;
  if (was === on) return was;
  memory.view.setUint32(DATA_AT, ETHTOOL_SFLAGS, true);
  memory.view.setUint32(DATA_AT + 4, on ? flags | ETH_FLAG_RXVLAN : flags & ~ETH_FLAG_RXVLAN, true);
  return ask(ifname) < 0 ? undefined : was;
}
