/** What is found behind Ethernet, and what is called malformed. */
import t from 'tap';
import { parse } from '../../../dataplane/switch/headers.js';
import { Packet } from '../../../dataplane/switch/packet.js';

const ETHER = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
const zeros = (length: number): number[] => Array.from({ length }, () => 0);
const TCP = [0, 22, 0, 80, ...zeros(8), 0x50, 2, ...zeros(6)];
const UDP = [0, 53, 1, 0, 0, 8, 0, 0];

function parsed(bytes: readonly number[], w0 = 0): Packet {
  const all = Uint8Array.from(bytes);
  const packet = new Packet(new DataView(all.buffer));
  packet.length_bytes = all.length;
  packet.w0 = w0;
  parse(packet);
  return packet;
}

interface V4 {
  words?: number;
  total?: number;
  fragment?: [number, number];
  protocol?: number;
  version?: number;
}
const v4 = (
  payload: number[],
  { words = 5, total, fragment = [0, 0], protocol = 6, version = 4 }: V4 = {},
): number[] => [
  8,
  0,
  (version << 4) | words,
  46 << 2,
  0,
  total ?? words * 4 + payload.length,
  0,
  0,
  ...fragment,
  64,
  protocol,
  ...zeros(10 + Math.max(0, words - 5) * 4),
  ...payload,
];
const v6 = (next: number, payload: number[], length = payload.length): number[] => [
  0x86,
  0xdd,
  0x6b,
  0x80,
  0,
  0,
  length >> 8,
  length & 255,
  next,
  64,
  ...zeros(32),
  ...payload,
];

void t.test('IPv4', async t => {
  t.match(parsed([...ETHER, ...v4(TCP)]), {
    etherType: 0x0800,
    l3At: 14,
    ipVersion: 4,
    protocol: 6,
    dscp: 46,
    l4At: 34,
    sourcePort: 22,
    destinationPort: 80,
    isFragment: false,
    isFirstFragment: true,
    isMalformed: false,
    end: 54,
  });
  t.match(parsed([...ETHER, ...v4(UDP, { words: 7, protocol: 17 })]), {
    l4At: 42,
    sourcePort: 53,
    destinationPort: 256,
  });
  t.match(
    parsed([...ETHER, ...v4(UDP, { protocol: 17 }), ...zeros(20)]),
    { end: 42, isMalformed: false },
    'padding',
  );
  t.match(parsed([...ETHER, ...v4(TCP, { fragment: [0x20, 0] })]), {
    isFragment: true,
    isFirstFragment: true,
    sourcePort: 22,
  });
  t.match(parsed([...ETHER, ...v4(TCP, { fragment: [0, 9] })]), {
    isFragment: true,
    isFirstFragment: false,
    l4At: 0,
    sourcePort: 0,
  });
  t.match(parsed([...ETHER, ...v4(TCP, { fragment: [0x40, 0] })]), { isFragment: false }, 'do not fragment');
});

void t.test('IPv4 that is not what it says', async t => {
  for (const [why, bytes] of [
    ['another version', v4(TCP, { version: 5 })],
    ['a header shorter than a header', v4(TCP, { words: 4 })],
    ['longer than the frame', v4(TCP, { total: 200 })],
    ['shorter than its header', v4(TCP, { total: 19 })],
    ['no length', v4(TCP, { total: 0 })],
    ['TCP that ends before its flags', v4(TCP.slice(0, 8), { fragment: [0x20, 0] })],
    ['a fragment that overlays them', v4(TCP, { fragment: [0, 1] })],
    ['cut in the header', v4(TCP).slice(0, 12)],
  ] as const)
    t.equal(parsed([...ETHER, ...bytes]).isMalformed, true, why);
  t.match(
    parsed([...ETHER, ...v4(TCP, { total: 0 })], 0x0100),
    { isMalformed: false, end: 54 },
    'a super-frame may',
  );
});

void t.test('IPv6 and what stands between', async t => {
  const hop = (next: number): number[] => [next, 0, 1, 4, 0, 0, 0, 0];
  const fragment = (next: number, offset: number, more: number): number[] => [
    next,
    0,
    offset >> 5,
    ((offset & 31) << 3) | more,
    0,
    0,
    0,
    1,
  ];
  t.match(parsed([...ETHER, ...v6(6, TCP)]), {
    ipVersion: 6,
    protocol: 6,
    l4At: 54,
    dscp: 46,
    destinationPort: 80,
  });
  t.match(parsed([...ETHER, ...v6(0, [...hop(60), ...hop(43), ...hop(17), ...UDP])]), {
    protocol: 17,
    l4At: 78,
    sourcePort: 53,
  });
  t.match(
    parsed([...ETHER, ...v6(51, [6, 4, ...zeros(22), ...TCP])]),
    { protocol: 6, l4At: 78 },
    'authentication counts in fours',
  );
  t.match(parsed([...ETHER, ...v6(44, [...fragment(17, 0, 1), ...UDP])]), {
    isFragment: true,
    isFirstFragment: true,
    sourcePort: 53,
  });
  t.match(
    parsed([...ETHER, ...v6(44, [...fragment(17, 0, 0), ...UDP])]),
    { isFragment: false },
    'an atomic one is none',
  );
  t.match(parsed([...ETHER, ...v6(44, [...fragment(17, 40, 0), ...UDP])]), {
    isFirstFragment: false,
    protocol: 17,
    l4At: 0,
  });
  t.match(parsed([...ETHER, ...v6(59, [])]), { protocol: 59, isMalformed: false }, 'nothing follows');
  t.match(
    parsed([...ETHER, ...v6(50, zeros(20))]),
    { protocol: 50, isMalformed: false },
    'what is encrypted ends the search',
  );
  t.equal(
    parsed([...ETHER, ...v6(0, Array.from({ length: 9 }, () => hop(0)).flat())]).isMalformed,
    true,
    'a chain too long',
  );
  t.equal(
    parsed([...ETHER, ...v6(0, [6, 255, ...zeros(20)])]).isMalformed,
    true,
    'a header beyond the packet',
  );
  t.equal(parsed([...ETHER, ...v6(6, TCP, 400)]).isMalformed, true, 'longer than the frame');
});

void t.test('tags and what is no IP', async t => {
  t.match(parsed([...ETHER, 0x81, 0, 0, 5, ...v4(TCP)]), {
    etherType: 0x0800,
    l3At: 18,
    destinationPort: 80,
  });
  t.match(parsed([...ETHER, 0x88, 0xa8, 0, 5, 0x81, 0, 0, 5, ...v4(TCP)]), { l3At: 22, destinationPort: 80 });
  t.match(parsed([...ETHER, 8, 6, ...zeros(28)]), {
    etherType: 0x0806,
    l3At: 14,
    ipVersion: 0,
    isMalformed: false,
    end: 42,
  });
  t.match(parsed([...ETHER, 0x81, 0, 0, 5, 0x81, 0, 0, 5, 0x81, 0, 0, 5, ...v4(TCP)]), {
    etherType: 0x8100,
    ipVersion: 0,
  });
  t.equal(parsed([...ETHER, 0x81, 0, 0, 5]).isMalformed, true, 'cut in the tag');
});
