import assert from 'node:assert';
import { parse } from '../../../dataplane/switch/headers.js';
import { Packet } from '../../../dataplane/switch/packet.js';
import { Classifier } from '../../../dataplane/rules/classifier.js';
import type { Target } from '../harness.js';

const ETHER = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
const zeros = (length: number): number[] => Array.from({ length }, () => 0);
const v4 = (header: number, protocol: number, fragment: number, rest: number[]): number[] => [
  8,
  0,
  0x40 | header,
  0xb8,
  0,
  header * 4 + rest.length,
  0,
  1,
  fragment,
  0,
  64,
  protocol,
  0,
  0,
  10,
  0,
  0,
  1,
  10,
  0,
  0,
  2,
  ...zeros(header * 4 - 20),
  ...rest,
];
const v6 = (next: number, rest: number[]): number[] => [
  0x86,
  0xdd,
  0x60,
  0,
  0,
  0,
  0,
  rest.length,
  next,
  64,
  ...zeros(32),
  ...rest,
];
const TCP = [0, 22, 0, 80, ...zeros(8), 0x50, 2, ...zeros(6)];

/** Some of every kind: ports of either end, flags, prefixes, fragments, ARP. */
const RULES = [
  { protocols: [6], destinationPorts: [[20, 80]] as [number, number][] },
  { protocols: [17, 132], sourcePorts: [[0, 1023]] as [number, number][] },
  { tcpFlags: [{ value: 2, mask: 0x12 }] },
  { sources: ['10.0.0.0/8', '2001:db8::/32'], fragment: 'any' as const },
  { icmp: [{ version: 6 as const, type: 135 }] },
  { arp: { senders: ['10.0.0.0/8'] } },
].map((match, i) => ({ name: `r${i}`, priority: i % 3, match, actions: { verdict: 'drop' as const } }));

export const target: Target = {
  says: 'headers of frames: nothing is read past the end, what is found lies inside, rules say the same again',
  samples: [
    [...ETHER, ...v4(5, 6, 0, TCP)],
    [...ETHER, ...v4(7, 17, 0x20, [0, 53, 0, 53, 0, 8, 0, 0])],
    [...ETHER, 0x81, 0, 0, 10, ...v4(5, 17, 1, zeros(16))],
    [...ETHER, 0x88, 0xa8, 0, 5, 0x81, 0, 0, 10, ...v6(6, TCP)],
    [
      ...ETHER,
      ...v6(0, [60, 0, 1, 4, 0, 0, 0, 0, 44, 0, 1, 4, 0, 0, 0, 0, 58, 0, 0, 1, 0, 0, 0, 1, 135, 0, 0, 0]),
    ],
    [...ETHER, ...v6(51, [6, 4, ...zeros(22), ...TCP])],
    [...ETHER, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, ...zeros(20)],
  ].map(bytes => Uint8Array.from(bytes)),
  run(input, random) {
    const before = input.slice();
    // At the very end of its memory: reading on behind the frame throws.
    const packet = new Packet(new DataView(input.buffer, input.byteOffset, input.length));
    packet.length_bytes = input.length;
    parse(packet);
    const { l3At, l4At, end } = packet;
    assert(end <= input.length && l3At <= input.length);
    assert(l4At === 0 || (l4At > l3At && l4At < end));
    assert([0, 4, 6].includes(packet.ipVersion));
    assert(packet.dscp < 64 && packet.protocol < 256);
    if (!packet.isFirstFragment) assert.equal(packet.sourcePort | packet.destinationPort | l4At, 0);
    // Too short to have addresses never gets as far as the rules.
    if (input.length < 14) return;
    assert.deepEqual(input, before);
    // Compiling takes far longer than parsing.
    if (random.below(16) !== 0) return;
    const classifier = new Classifier(RULES, () => undefined, 1, 8);
    packet.isParsed = false;
    const chain = classifier.classify(packet);
    if (!packet.isMalformed) assert.equal(classifier.classify(packet), chain, 'cached or not');
    assert.deepEqual(input, before);
  },
};
