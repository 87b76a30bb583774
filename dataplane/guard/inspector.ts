/**
 * Judges the frames of guarded ports, and learns leases from DHCP. Pure: time is passed in with the packet, and what is
 * told is told by a function of the caller's.
 *
 *   Ethernet source -> (ARP | IPv4 | IPv6: source address -> DHCP | neighbour discovery) -> PASS, or why not
 *
 * An untrusted port's server answers, router advertisements and redirects are dropped unless the port says otherwise;
 * its packets whose headers hide what they carry are dropped, since nobody could say what they are (RFC 7113, RFC 6980).
 */
import { dropReason } from '../switch/counters.js';
import { PASS } from '../switch/feature.js';
import { parse } from '../switch/headers.js';
import type { Packet } from '../switch/packet.js';
import * as arp from '../wire/arp.js';
import * as dhcp from '../wire/dhcp.js';
import * as dhcp6 from '../wire/dhcp6.js';
import * as ethernet from '../wire/ethernet.js';
import * as ipv4 from '../wire/ipv4.js';
import * as ipv6 from '../wire/ipv6.js';
import * as nd from '../wire/neighbourDiscovery.js';
import * as udp from '../wire/udp.js';
import { Leases, MAPPED } from './leases.js';
import type { Policy } from './policy.js';

/** By name, as PORT_COUNTERS has them; what each means is in README.md. */
export const REASONS = [
  'dropGuardMac',
  'dropGuardAddress',
  'dropGuardMalformed',
  'dropGuardArp',
  'dropGuardArpRate',
  'dropGuardNd',
  'dropGuardNdRate',
  'dropGuardDhcpServer',
  'dropGuardDhcp',
  'dropGuardRouter',
] as const;

const MAC = dropReason('dropGuardMac');
const ADDRESS = dropReason('dropGuardAddress');
const MALFORMED = dropReason('dropGuardMalformed');
const ARP = dropReason('dropGuardArp');
const ARP_RATE = dropReason('dropGuardArpRate');
const ND = dropReason('dropGuardNd');
const ND_RATE = dropReason('dropGuardNdRate');
const DHCP_SERVER = dropReason('dropGuardDhcpServer');
const DHCP = dropReason('dropGuardDhcp');
const ROUTER = dropReason('dropGuardRouter');

const UDP = 17;
const ICMP6 = 58;
/** RFC 4861 6.1.1 and its like: a hop limit that no router can have let by. */
const HOP_LIMIT = 255;
const LINK_LOCAL_MASK = 0xffc0_0000 | 0;
const LINK_LOCAL = 0xfe80_0000 | 0;

export class Inspector {
  readonly leases = new Leases();
  readonly #arp: arp.Packet = {
    operation: 0,
    senderMacHigh: 0,
    senderMacLow: 0,
    senderIp: 0,
    targetMacHigh: 0,
    targetMacLow: 0,
    targetIp: 0,
  };
  readonly #dhcp: dhcp.Message = {
    op: 0,
    xid: 0,
    clientHigh: 0,
    clientLow: 0,
    ciaddr: 0,
    yiaddr: 0,
    giaddr: 0,
    type: 0,
    lease_s: 0,
  };
  readonly #dhcp6 = new dhcp6.Message();
  readonly #found: nd.Found = { hasLinkLayer: false, linkLayerHigh: 0, linkLayerLow: 0 };
  /** Leases of a port that lives by them were learned or lost: for events. */
  onLease: (what: 'learned' | 'released', port: number) => void = () => {};

  admit(packet: Packet, policy: Policy): number {
    if (policy.config.trusted) {
      if (!packet.isTrial) this.#watchServers(packet);
      return PASS;
    }
    const { view, at } = packet;
    const high = view.getUint16(at + ethernet.SOURCE);
    const low = view.getInt32(at + ethernet.SOURCE + 2);
    if (policy.checksMac && !policy.allowsMac(high, low)) return MAC;
    if (!policy.looksInside) return PASS;
    packet.isLayer2Decision = false;
    parse(packet);
    if (packet.etherType === ethernet.TYPE_ARP) return this.#arpAllowed(packet, policy, high, low);
    if (packet.isMalformed) return MALFORMED;
    if (packet.ipVersion === 4) return this.#ipv4Allowed(packet, policy, high, low);
    if (packet.ipVersion === 6) return this.#ipv6Allowed(packet, policy, high, low);
    return PASS;
  }

  #arpAllowed(packet: Packet, policy: Policy, high: number, low: number): number {
    if (policy.config.arp === undefined) return PASS;
    if (!packet.isTrial && !policy.arpConforms(packet.now_ms)) return ARP_RATE;
    if (!arp.check(packet.view, packet.l3At, packet.end)) return MALFORMED;
    const said = this.#arp;
    arp.parse(packet.view, packet.l3At, said);
    if (said.operation !== arp.REQUEST && said.operation !== arp.REPLY) return MALFORMED;
    // A group or the broadcast address never speaks.
    if (said.senderIp >>> 28 >= 14) return MALFORMED;
    if (said.senderMacHigh !== high || said.senderMacLow !== low) return ARP;
    // RFC 5227 1.1: who asks whether an address is taken does not claim it yet.
    if (said.senderIp === 0 && said.operation === arp.REQUEST) return PASS;
    if (!policy.checksAddress) return PASS;
    return policy.allowsIpv4(said.senderIp, high, low, this.leases, packet.now_ms) ? PASS : ARP;
  }

  #ipv4Allowed(packet: Packet, policy: Policy, high: number, low: number): number {
    const { view, l3At } = packet;
    const source = view.getInt32(l3At + ipv4.SOURCE);
    const isUdp = packet.protocol === UDP && packet.l4At !== 0;
    const isToServer = isUdp && packet.destinationPort === dhcp.PORT_SERVER;
    if (isToServer || (isUdp && packet.destinationPort === dhcp.PORT_CLIENT)) {
      const answer = this.#dhcpAllowed(packet, policy, high, low);
      if (answer !== PASS) return answer;
    }
    if (!policy.checksAddress) return PASS;
    // RFC 2131 4.1: a client without an address speaks as 0.0.0.0.
    if (source === 0 && isToServer) return PASS;
    return policy.allowsIpv4(source, high, low, this.leases, packet.now_ms) ? PASS : ADDRESS;
  }

  #ipv6Allowed(packet: Packet, policy: Policy, high: number, low: number): number {
    const { view, l3At } = packet;
    if (packet.protocol === ICMP6) {
      const type = packet.l4At === 0 ? 0 : view.getUint8(packet.l4At);
      if (nd.isNeighbourDiscovery(type)) return this.#ndAllowed(packet, policy, type, high, low);
    } else if (packet.protocol === UDP && packet.l4At !== 0) {
      const { sourcePort, destinationPort } = packet;
      if (
        destinationPort === dhcp6.PORT_CLIENT ||
        destinationPort === dhcp6.PORT_SERVER ||
        sourcePort === dhcp6.PORT_SERVER
      ) {
        const answer = this.#dhcp6Allowed(packet, policy, high, low);
        if (answer !== PASS) return answer;
      }
    }
    return this.#sourceAllowed(packet, policy, l3At + ipv6.SOURCE, high, low) ? PASS : ADDRESS;
  }

  /** An IPv6 address: the unspecified one (RFC 4862: before an address is one's own) passes. */
  #sourceAllowed(packet: Packet, policy: Policy, at: number, high: number, low: number): boolean {
    if (!policy.checksAddress) return true;
    const { view } = packet;
    const a = view.getInt32(at);
    const b = view.getInt32(at + 4);
    const c = view.getInt32(at + 8);
    const d = view.getInt32(at + 12);
    if ((a | b | c | d) === 0) return true;
    if (policy.anyLinkLocal && (a & LINK_LOCAL_MASK) === LINK_LOCAL) return true;
    return policy.allows(a, b, c, d, high, low, this.leases, packet.now_ms);
  }

  #ndAllowed(packet: Packet, policy: Policy, type: number, high: number, low: number): number {
    const { view, l3At, l4At } = packet;
    const isOfRouter = type === nd.ROUTER_ADVERTISEMENT || type === nd.REDIRECT;
    if (isOfRouter && !policy.config.router) return ROUTER;
    if (policy.config.nd !== undefined) {
      if (!packet.isTrial && !policy.ndConforms(packet.now_ms)) return ND_RATE;
      // RFC 6980: never in fragments.
      if (packet.isFragment || view.getUint8(l3At + ipv6.HOP_LIMIT) !== HOP_LIMIT) return MALFORMED;
      const found = this.#found;
      if (!nd.parse(view, l4At, packet.end, found)) return MALFORMED;
      if (found.hasLinkLayer && (found.linkLayerHigh !== high || found.linkLayerLow !== low)) return ND;
      if (type === nd.NEIGHBOUR_ADVERTISEMENT) {
        // The unspecified address is nobody's to advertise, but it passes as a source.
        if (isUnspecified(view, l4At + nd.TARGET)) return MALFORMED;
        if (!this.#sourceAllowed(packet, policy, l4At + nd.TARGET, high, low)) return ND;
      }
    }
    return this.#sourceAllowed(packet, policy, l3At + ipv6.SOURCE, high, low) ? PASS : ND;
  }

  // --- DHCP -------------------------------------------------------------------------------------------------

  #dhcpAllowed(packet: Packet, policy: Policy, high: number, low: number): number {
    const message = this.#dhcp;
    const { view, now_ms } = packet;
    const { config } = policy;
    const at = packet.l4At + udp.LENGTH;
    // Servers speak to clients at 68, and to relays at 67 (RFC 2131 4.1), the latter from 67.
    if (packet.isFragment) return MALFORMED;
    if (at > packet.end || !dhcp.parse(view, at, packet.end, message)) return MALFORMED;
    if (message.op === dhcp.BOOTREPLY || packet.destinationPort === dhcp.PORT_CLIENT) {
      if (!config.dhcpServer) return DHCP_SERVER;
      this.#served(packet, message);
      return PASS;
    }
    // Relays are no guests (giaddr); and nobody asks in another's name.
    if (!config.dhcpServer && message.giaddr !== 0) return DHCP;
    if (message.giaddr === 0 && (message.clientHigh !== high || message.clientLow !== low)) return DHCP;
    if (!config.leases) return PASS;
    if (message.type === dhcp.RELEASE || message.type === dhcp.DECLINE) {
      const { ciaddr } = message;
      const lease = this.leases.find(policy.port, 0, 0, MAPPED, ciaddr, now_ms);
      // RFC 2131 4.4.4, 4.4.6: a client gives up what is its own.
      if (message.type === dhcp.RELEASE) {
        if (lease === undefined || lease.macHigh !== high || lease.macLow !== low) return DHCP;
        if (packet.isTrial) return PASS;
        this.leases.release(policy.port, 0, 0, MAPPED, ciaddr);
        this.onLease('released', policy.port);
      }
      return PASS;
    }
    if (packet.isTrial) return PASS;
    this.leases.asked(
      transactionName(4, message.xid, high, low, packet.vlan),
      policy.port,
      packet.vlan,
      now_ms,
    );
    return PASS;
  }

  /** Of a frame from a port where servers are: what it says is learned. */
  #watchServers(packet: Packet): void {
    parse(packet);
    if (packet.protocol !== UDP || packet.l4At === 0 || packet.isFragment) return;
    const at = packet.l4At + udp.LENGTH;
    if (packet.ipVersion === 4 && packet.sourcePort === dhcp.PORT_SERVER) {
      if (dhcp.parse(packet.view, at, packet.end, this.#dhcp)) this.#served(packet, this.#dhcp);
    } else if (packet.ipVersion === 6 && packet.sourcePort === dhcp6.PORT_SERVER) {
      if (dhcp6.parse(packet.view, at, packet.end, this.#dhcp6)) this.#served6(packet, this.#dhcp6);
    }
  }

  #served(packet: Packet, message: dhcp.Message): void {
    if (packet.isTrial) return;
    if (message.op !== dhcp.BOOTREPLY || message.type !== dhcp.ACK || message.yiaddr === 0) return;
    const { clientHigh, clientLow } = message;
    const asked = this.leases.whose(transactionName(4, message.xid, clientHigh, clientLow, packet.vlan));
    if (asked === undefined) return;
    this.#learn(packet, asked.port, clientHigh, clientLow, [0, 0, MAPPED, message.yiaddr], message.lease_s);
  }

  #dhcp6Allowed(packet: Packet, policy: Policy, high: number, low: number): number {
    const message = this.#dhcp6;
    const { config } = policy;
    const at = packet.l4At + udp.LENGTH;
    if (packet.isFragment) return MALFORMED;
    if (at > packet.end || !dhcp6.parse(packet.view, at, packet.end, message)) return MALFORMED;
    if (dhcp6.isOfServer(message.type) || packet.destinationPort === dhcp6.PORT_CLIENT) {
      if (!config.dhcpServer) return DHCP_SERVER;
      this.#served6(packet, message);
      return PASS;
    }
    if (message.type === dhcp6.RELAY_FORW && !config.dhcpServer) return DHCP;
    if (!config.leases || packet.isTrial) return PASS;
    if (message.type === dhcp6.RELEASE || message.type === dhcp6.DECLINE) {
      const { addresses } = message;
      for (let i = 0; i < message.count * 4; i += 4)
        this.leases.release(
          policy.port,
          addresses[i]!,
          addresses[i + 1]!,
          addresses[i + 2]!,
          addresses[i + 3]!,
        );
      this.onLease('released', policy.port);
      return PASS;
    }
    this.leases.asked(
      transactionName(6, message.transaction, high, low, packet.vlan),
      policy.port,
      packet.vlan,
      packet.now_ms,
    );
    return PASS;
  }

  #served6(packet: Packet, message: dhcp6.Message): void {
    if (packet.isTrial) return;
    if (message.type !== dhcp6.REPLY) return;
    // The client is who the frame is for: RFC 8415 18.3.10 answers a client's own address.
    const high = packet.view.getUint16(packet.at);
    const low = packet.view.getInt32(packet.at + 2);
    const asked = this.leases.whose(transactionName(6, message.transaction, high, low, packet.vlan));
    if (asked === undefined) return;
    for (let i = 0; i < message.count; i++) {
      const words = Array.from(message.addresses.slice(i * 4, i * 4 + 4));
      const [a, b, c, d] = words as [number, number, number, number];
      if (message.valid_s[i] === 0) this.leases.release(asked.port, a, b, c, d);
      else this.#learn(packet, asked.port, high, low, words, message.valid_s[i]!);
    }
  }

  #learn(
    packet: Packet,
    port: number,
    macHigh: number,
    macLow: number,
    address: number[],
    lease_s: number,
  ): void {
    const forEver = lease_s === 0 || lease_s === dhcp.LEASE_FOR_EVER_S;
    const learned = this.leases.learn({
      port,
      vlan: packet.vlan,
      macHigh,
      macLow,
      address,
      expires_ms: forEver ? Infinity : packet.now_ms + lease_s * 1000,
    });
    if (learned) this.onLease('learned', port);
  }
}

function isUnspecified(view: DataView, at: number): boolean {
  return (view.getInt32(at) | view.getInt32(at + 4) | view.getInt32(at + 8) | view.getInt32(at + 12)) === 0;
}

function transactionName(version: number, id: number, high: number, low: number, vlan: number): string {
  return `${version} ${id} ${high} ${low} ${vlan}`;
}
