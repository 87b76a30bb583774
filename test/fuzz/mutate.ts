/**
 * Makes wrong input out of right: what breaks a parser is nearly always a good message with one thing changed,
 * a length above all. Pure.
 */
import type { Random } from './random.js';

/** Longer inputs are cut: beyond it a fault is found no better, only later. */
export const INPUT_MAX_BYTES = 65_536;

/** Lengths and counts that sit on somebody's boundary. */
const EDGES = [
  0, 1, 2, 3, 4, 7, 8, 15, 16, 28, 31, 32, 63, 64, 127, 128, 255, 256, 511, 512, 1023, 1024, 1500, 4095, 4096,
  4097, 32_767, 32_768, 65_535, 65_536, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff,
];

type Mutation = (
  input: Uint8Array,
  random: Random,
  samples: readonly Uint8Array[],
  words: readonly Uint8Array[],
) => Uint8Array;

function spliced(input: Uint8Array, at: number, remove: number, insert: Uint8Array): Uint8Array {
  return Uint8Array.from(Buffer.concat([input.subarray(0, at), insert, input.subarray(at + remove)]));
}

function stretch(input: Uint8Array, random: Random): Uint8Array {
  const at = random.below(input.length + 1);
  return input.subarray(at, at + 1 + random.below(Math.min(64, input.length - at)));
}

const MUTATIONS: readonly Mutation[] = [
  function flipBit(input, random) {
    const at = random.below(input.length);
    if (input.length > 0) input[at] = input[at]! ^ (1 << random.below(8));
    return input;
  },
  function setByte(input, random) {
    if (input.length > 0) input[random.below(input.length)] = random.u32();
    return input;
  },
  function setEdge(input, random) {
    const size = random.pick([1, 2, 4, 8]);
    if (input.length < size) return input;
    const view = new DataView(input.buffer, input.byteOffset, input.length);
    // Fields lie on even places more often than not.
    const at = random.below(input.length - size + 1) & (random.below(4) === 0 ? ~0 : ~1);
    const little = random.below(2) === 0;
    // A little off the edge, or off what stands there.
    const value = random.below(4) === 0 ? random.below(5) - 2 : random.pick(EDGES) + random.below(3) - 1;
    if (size === 1) input[at] = value;
    else if (size === 2) view.setUint16(at, value, little);
    else if (size === 4) view.setUint32(at, value, little);
    else view.setBigUint64(at, BigInt(value), little);
    return input;
  },
  function nudge(input, random) {
    const at = random.below(input.length);
    if (input.length > 0) input[at] = input[at]! + random.pick([-2, -1, 1, 2]);
    return input;
  },
  function truncate(input, random) {
    return input.slice(0, random.below(input.length + 1));
  },
  function dropFront(input, random) {
    return input.slice(random.below(Math.min(input.length, 64) + 1));
  },
  function remove(input, random) {
    return spliced(input, random.below(input.length + 1), 1 + random.below(16), new Uint8Array(0));
  },
  function insertRandom(input, random) {
    return spliced(input, random.below(input.length + 1), 0, random.bytes(1 + random.below(32)));
  },
  function repeat(input, random) {
    const part = stretch(input, random);
    const times = 1 + random.below(random.below(8) === 0 ? 500 : 4);
    const many = Uint8Array.from(Buffer.concat(Array.from({ length: times }, () => part)));
    return spliced(input, random.below(input.length + 1), 0, many);
  },
  function appendSample(input, random, samples) {
    return samples.length === 0 ? input : Uint8Array.from(Buffer.concat([input, random.pick(samples)]));
  },
  function cross(input, random, samples) {
    if (samples.length === 0) return input;
    return spliced(
      input,
      random.below(input.length + 1),
      random.below(16),
      stretch(random.pick(samples), random),
    );
  },
  function insertWord(input, random, _samples, words) {
    if (words.length === 0) return input;
    return spliced(
      input,
      random.below(input.length + 1),
      random.below(2) * random.below(8),
      random.pick(words),
    );
  },
];

export function mutate(
  sample: Uint8Array,
  random: Random,
  samples: readonly Uint8Array[],
  words: readonly Uint8Array[],
): Uint8Array {
  let input: Uint8Array = sample.slice();
  const times = 1 + random.below(random.below(4) === 0 ? 12 : 3);
  for (let i = 0; i < times; i++) {
    input = random.pick(MUTATIONS)(input, random, samples, words);
    if (input.length > INPUT_MAX_BYTES) input = input.slice(0, INPUT_MAX_BYTES);
  }
  return input;
}
