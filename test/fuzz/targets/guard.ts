import assert from 'node:assert';
import { PortGuard } from '../../../dataplane/contract.js';
import { Inspector, REASONS } from '../../../dataplane/guard/inspector.js';
import { LEASES_OF_PORT_MAX_COUNT } from '../../../dataplane/guard/leases.js';
import { Policy } from '../../../dataplane/guard/policy.js';
import { PORT_COUNTERS, placeOf } from '../../../dataplane/switch/counters.js';
import { Packet } from '../../../dataplane/switch/packet.js';
import * as dhcp from '../../../dataplane/wire/dhcp.js';
import type { Target } from '../harness.js';

const zeros = (length: number): number[] => Array.from({ length }, () => 0);
const ETHER = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
const IP6 = [0xfe, 0x80, ...zeros(13), 1];

const udp4 = (source: number, destination: number, payload: number[]): Uint8Array =>
  Uint8Array.from([
    ...ETHER,
    8,
    0,
    0x45,
    0,
    (28 + payload.length) >> 8,
    (28 + payload.length) & 255,
    0,
    0,
    0,
    0,
    64,
    17,
    ...zeros(10),
    0,
    source,
    0,
    destination,
    0,
    0,
    0,
    0,
    ...payload,
  ]);
const over6 = (next: number, payload: number[]): Uint8Array =>
  Uint8Array.from([
    ...ETHER,
    0x86,
    0xdd,
    0x60,
    0,
    0,
    0,
    0,
    payload.length,
    next,
    255,
    ...IP6,
    ...IP6,
    ...payload,
  ]);

function lease(op: number, type: number): number[] {
  const view = new DataView(new ArrayBuffer(300));
  const length = dhcp.emit(view, 0, {
    op,
    xid: 7,
    clientHigh: 0x0200,
    clientLow: 2,
    ciaddr: 0,
    yiaddr: 0x0a00_0009,
    giaddr: 0,
    type,
    lease_s: 60,
  });
  return [...new Uint8Array(view.buffer, 0, length)];
}
const REPLY6 = [7, 0, 0, 9, 0, 3, 0, 40, ...zeros(12), 0, 5, 0, 24, ...IP6, 0, 0, 0, 60, 0, 0, 0, 90];

const base = {
  leases: true,
  linkLocal: 'any',
  arp: { rate_pps: 9 },
  nd: { rate_pps: 9 },
  dhcpServer: false,
  router: false,
};
const GUARDS = [
  { ...base, trusted: false },
  { ...base, trusted: true, leases: false },
  { ...base, trusted: false, dhcpServer: true, router: true, addresses: [{ prefix: 'fe80::/10' }] },
].map(one => PortGuard.parse(one));

export const target: Target = {
  says: 'ARP, DHCP of both versions and neighbour discovery through guarded ports: judged, never thrown at; leases bounded',
  samples: [
    Uint8Array.from([...ETHER, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2, 10, 0, 0, 9, ...zeros(10)]),
    udp4(68, 67, lease(dhcp.BOOTREQUEST, dhcp.REQUEST)),
    udp4(67, 68, lease(dhcp.BOOTREPLY, dhcp.ACK)),
    over6(17, [2, 34, 2, 35, 0, 0, 0, 0, 3, ...REPLY6.slice(1)]),
    over6(17, [2, 35, 2, 34, 0, 0, 0, 0, ...REPLY6]),
    over6(58, [136, 0, 0, 0, 0x20, 0, 0, 0, ...IP6, 2, 1, 2, 0, 0, 0, 0, 2]),
    over6(58, [134, 0, 0, 0, ...zeros(12), 1, 1, 2, 0, 0, 0, 0, 2]),
  ],
  run(input, random) {
    if (input.length < 14) return;
    const before = input.slice();
    const inspector = new Inspector();
    const policies = GUARDS.map((guard, port) => new Policy(guard, port));
    const packet = new Packet(new DataView(input.buffer, input.byteOffset, input.length));
    packet.length_bytes = input.length;
    packet.vlan = 1;
    for (let round = 0; round < 6; round++) {
      packet.port = random.below(policies.length);
      packet.isParsed = false;
      packet.now_ms = round * 20;
      const answer = inspector.admit(packet, policies[packet.port]!);
      assert(answer === 0 || (REASONS as readonly string[]).includes(PORT_COUNTERS[placeOf(answer)]!));
      assert(inspector.leases.count <= LEASES_OF_PORT_MAX_COUNT * policies.length);
    }
    inspector.leases.sweep(1e12);
    for (const one of inspector.leases) assert.equal(one.expires_ms, Infinity);
    assert.deepEqual(input, before);
  },
};
