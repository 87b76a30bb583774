/** The capture filter beside tcpdump's: of the same frames, the same are taken. */
import t from 'tap';
import { writeFileSync } from 'node:fs';
import { matches, parseFilter } from '../../dataplane/capture/filter.js';
import { Lab } from './harness/lab.js';
import { missing } from './harness/needs.js';
import { run } from './harness/processes.js';

const skip = missing({ programs: ['tcpdump'] });

/** Numbers that repeat (mulberry32), so that a difference can be looked at again. */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return below => {
    state = (state + 0x6d2b_79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

function frameOf(next: (below: number) => number): Buffer {
  const mac = (): number[] =>
    next(6) === 0 ? [255, 255, 255, 255, 255, 255] : [next(3), 0, 0, 0, 0, next(3)];
  const pick = <T>(list: readonly T[]): T => list[next(list.length)]!;
  const port = (): number[] =>
    pick([
      [0, 22],
      [0, 53],
      [0, 80],
      [1, 187],
      [255, 255],
    ]);
  const v4 = (): number[] =>
    pick([
      [10, 0, 0, 1],
      [10, 0, 0, 2],
      [10, 1, 0, 1],
      [192, 168, 1, 1],
    ]);
  const v6 = (): number[] => [0xfe, 0x80, ...Array.from({ length: 13 }, () => 0), next(3)];
  const l4 = [...port(), ...port(), ...Array.from({ length: 20 }, () => next(256))];
  const fragment = pick([
    [0, 0],
    [0x20, 0],
    [0, 5],
  ]);
  const body = pick([
    () => [
      8,
      0,
      0x45,
      0,
      0,
      44,
      0,
      0,
      ...fragment,
      64,
      pick([1, 6, 17, 132, 2]),
      0,
      0,
      ...v4(),
      ...v4(),
      ...l4,
    ],
    () => [0x86, 0xdd, 0x60, 0, 0, 0, 0, 24, pick([58, 6, 17]), 64, ...v6(), ...v6(), ...l4],
    () => [8, 6, 0, 1, 8, 0, 6, 4, 0, 1, ...mac(), ...v4(), ...mac(), ...v4()],
    () => [0x88, 0xcc, 1, 2, 3, 4],
  ])();
  return Buffer.from([...mac(), ...mac(), ...body]);
}

const EXPRESSIONS = [
  'tcp',
  'ip and not udp',
  'ip6',
  'arp or icmp',
  'port 53',
  'udp port 53 or tcp dst port 80',
  'src port 22 and dst port 53',
  'portrange 50-90',
  'dst portrange 443-65535',
  'host 10.0.0.1',
  'src host 10.0.0.1 and not dst net 10.0.0.0/8',
  'net 10.0.0.0/15',
  'src or dst host 192.168.1.1',
  'src and dst net 10.0.0.0/16',
  'ip6 host fe80::1',
  'ether host 01:00:00:00:00:02',
  'ether src 00:00:00:00:00:01 or ether broadcast',
  'multicast and not broadcast',
  'less 60',
  'greater 60 and not (tcp or icmp6)',
  'ether proto 0x88cc',
  'proto 17',
  'sctp or igmp',
  'tcp and (port 80 or port 443) and host 10.0.0.2',
];

await t.test('the same frames as tcpdump takes', { skip }, async t => {
  const lab = Lab.open();
  t.teardown(() => lab.close());
  const next = numbers(20);
  const frames = Array.from({ length: 3000 }, () => frameOf(next));
  const header = Buffer.alloc(24);
  header.writeUInt32LE(0xa1b2_c3d4, 0);
  header.writeUInt16LE(2, 4);
  header.writeUInt16LE(4, 6);
  header.writeUInt32LE(65_535, 16);
  header.writeUInt32LE(1, 20);
  const records = frames.map((frame, index) => {
    const record = Buffer.alloc(16);
    // The number of a frame is its time: that is how it is known again.
    record.writeUInt32LE(index, 0);
    record.writeUInt32LE(frame.length, 8);
    record.writeUInt32LE(frame.length, 12);
    return Buffer.concat([record, frame]);
  });
  const file = lab.path('frames.pcap');
  writeFileSync(file, Buffer.concat([header, ...records]));
  for (const expression of EXPRESSIONS) {
    const { stdout } = await run(['tcpdump', '-nn', '-tt', '-r', file, expression]);
    const theirs = [...stdout.matchAll(/^(\d+)\.000000 /gm)].map(([, second]) => Number(second));
    const filter = parseFilter(expression)!;
    const ours = frames.flatMap((frame, index) =>
      matches(filter, new DataView(frame.buffer, frame.byteOffset), 0, frame.length) ? [index] : [],
    );
    t.ok(theirs.length > 0 && theirs.length < frames.length, `${expression}: some are taken, some not`);
    t.same(ours, theirs, expression);
  }
});
