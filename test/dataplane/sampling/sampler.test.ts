/** The sampler: how often it takes a frame, and that its datagrams say what the standard wants, read back word by word. */
import t from 'tap';
import fc from 'fast-check';
import { DATAGRAM_MAX_BYTES, FLUSH_AFTER_MS, Sampler } from '../../../dataplane/sampling/sampler.js';
import type { SamplerOptions } from '../../../dataplane/sampling/sampler.js';

const OPTIONS: SamplerOptions = { rate: 1, header_bytes: 64, agent: Uint8Array.of(10, 0, 0, 1), subAgent: 7 };
const FRAME = Uint8Array.from({ length: 300 }, (_, i) => i & 0xff);
const FACTS = { port: 4, output: 9, vlan: 30, priority: 5 };
const COUNTERS = {
  isUp: true,
  inOctets: 2 ** 33 + 5,
  inUnicast: 2 ** 32 + 1,
  inMulticast: 2,
  inBroadcast: 3,
  inDiscards: 4,
  inErrors: 5,
  outOctets: 6,
  outUnicast: 7,
  outMulticast: 8,
  outBroadcast: 9,
  outDiscards: 10,
  outErrors: 11,
};

interface Sample {
  format: number;
  words: number[];
}

/** Splits a datagram by its lengths; throws when they do not meet its end. */
function read(datagram: Uint8Array): { head: number[]; samples: Sample[] } {
  const view = new DataView(datagram.buffer, datagram.byteOffset, datagram.byteLength);
  let at = 0;
  const word = (): number => view.getUint32((at += 4) - 4);
  const version = word();
  const addressWords = word() === 1 ? 1 : 4;
  const address = Array.from({ length: addressWords }, word);
  const [subAgent, sequence, uptime, count] = [word(), word(), word(), word()];
  const samples = Array.from({ length: count }, (): Sample => {
    const format = word();
    const length = word();
    return { format, words: Array.from({ length: length / 4 }, word) };
  });
  if (at !== datagram.length) throw new Error(`${datagram.length - at} octets behind the last sample`);
  return { head: [version, ...address, subAgent, sequence, uptime, count], samples };
}

function makeSampler(options: Partial<SamplerOptions> = {}, random = Math.random) {
  const sent: Uint8Array[] = [];
  const sampler = new Sampler({ ...OPTIONS, ...options }, 1000, random, datagram => sent.push(datagram));
  return { sampler, sent };
}

const view = new DataView(FRAME.buffer);

await t.test('a flow sample', async t => {
  const { sampler, sent } = makeSampler({ rate: 10 });
  sampler.take(view, 2, 99, FACTS, 1500);
  sampler.tick(1500 + FLUSH_AFTER_MS - 1);
  t.equal(sent.length, 0, 'it waits for others');
  sampler.tick(1500 + FLUSH_AFTER_MS);
  t.equal(sent.length, 1);
  const { head, samples } = read(sent[0]!);
  t.same(head, [5, 0x0a00_0001, 7, 1, 500, 1]);
  const [sample] = samples;
  t.equal(sample!.format, 1);
  const [sequence, source, rate, pool, drops, input, output, records, ...rest] = sample!.words;
  t.same([sequence, source, rate, pool, drops, input, output, records], [1, 5, 10, 10, 0, 5, 9, 2]);
  // sampled_header: Ethernet, 99 octets and the FCS that we never see, 64 of them here.
  t.same(rest.slice(0, 6), [1, 16 + 64, 1, 103, 4, 64]);
  t.equal(rest[6], 0x0203_0405, 'the octets of the frame');
  t.same(rest.slice(6 + 16), [1001, 16, 30, 5, 30, 5], 'extended_switch');
});

await t.test('counters', async t => {
  const { sampler, sent } = makeSampler();
  sampler.tellCounters(0, COUNTERS, 1000);
  sampler.flush();
  const [sample] = read(sent[0]!).samples;
  t.equal(sample!.format, 2);
  t.same(
    sample!.words,
    [
      // sequence, source, records, format, length; index, type, speed, full duplex, up
      [1, 1, 1, 1, 88],
      [1, 6, 0, 0, 1, 3],
      [2, 5, 1, 2, 3, 4, 5, 0xffff_ffff],
      [0, 6, 7, 8, 9, 10, 11, 2],
    ].flat(),
  );
});

await t.test('datagrams are full but never too long, and numbered without a gap', async () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 14, max: 300 }), fc.boolean()), { maxLength: 60 }),
      fc.integer({ min: 32, max: 256 }),
      fc.boolean(),
      (frames, header_bytes, isIpv6) => {
        const agent = isIpv6 ? new Uint8Array(16).fill(1) : OPTIONS.agent;
        const { sampler, sent } = makeSampler({ header_bytes, agent });
        for (const [length, isCounters] of frames)
          if (isCounters) sampler.tellCounters(1, COUNTERS, 1000);
          else sampler.take(view, 0, length, FACTS, 1000);
        sampler.flush();
        const told = sent.map(read);
        const all = told.flatMap(({ samples }) => samples);
        const sequences = told.map(({ head }) => head.at(-3));
        return (
          sent.every(datagram => datagram.length <= DATAGRAM_MAX_BYTES) &&
          all.length === frames.length &&
          sequences.every((sequence, index) => sequence === index + 1)
        );
      },
    ),
  );
});

await t.test('one frame of so many, at random', async t => {
  let state = 1;
  const random = (): number => (state = (state * 48_271) % 0x7fff_ffff) / 0x7fff_ffff;
  for (const rate of [1, 2, 100]) {
    const { sampler } = makeSampler({ rate }, random);
    const gaps = new Set<number>();
    let [taken, last] = [0, 0];
    for (let i = 0; i < 200_000; i++)
      if (sampler.isDue()) {
        taken++;
        gaps.add(i - last);
        last = i;
      }
    const wanted = 200_000 / rate;
    t.ok(Math.abs(taken - wanted) <= wanted * 0.05, `1 in ${rate}: ${taken} of ${wanted}`);
    t.ok(rate === 1 || gaps.size > rate, 'no rhythm');
    t.equal(sampler.framesSeen, 200_000);
  }
});
