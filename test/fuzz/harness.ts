/**
 * What a fuzz target is, and how one iteration of it is run. A target exports `target` from a file of its name
 * in targets/; nothing else has to be told of it.
 *
 * A target finds a fault by throwing: through an `assert` of what must hold, or because the code under test
 * threw where it should have answered. Never ending, and using up the memory, are noticed from outside (main.ts).
 */
import * as fs from 'node:fs';
import { mutate } from './mutate.js';
import { Random } from './random.js';

export interface Target {
  /** What is fed, and what must hold. One line. */
  says: string;
  /** Good input, of each kind there is: wrong input is made from it. */
  samples: readonly Uint8Array[];
  /** Pieces of the language, for text. */
  words?: readonly Uint8Array[];
  /** Must neither throw nor hang. `random` for further choices, such as how a stream is cut. */
  run(input: Uint8Array, random: Random): void;
}

const FOLDER = new URL('targets/', import.meta.url);

export function targetNames(): string[] {
  return fs
    .readdirSync(FOLDER)
    .filter(name => name.endsWith('.js'))
    .map(name => name.slice(0, -3))
    .sort((a, b) => (a < b ? -1 : 1));
}

export async function loadTarget(name: string): Promise<Target> {
  const module: unknown = await import(new URL(`${name}.js`, FOLDER).href);
  return (module as { target: Target }).target;
}

/** The same for the same (target, seed, iteration), whatever ran before. */
export function inputAt(
  target: Target,
  seed: number,
  iteration: number,
): { input: Uint8Array; random: Random } {
  const random = new Random(seed, iteration);
  const { samples, words = [] } = target;
  // The samples themselves come first: they must pass, and they warm up nothing but trust.
  if (iteration < samples.length) return { input: samples[iteration]!.slice(), random };
  const kind = random.below(16);
  if (kind === 0 || samples.length === 0) return { input: random.bytes(random.below(300)), random };
  return { input: mutate(random.pick(samples), random, samples, words), random };
}

export function runOne(target: Target, seed: number, iteration: number): void {
  const { input, random } = inputAt(target, seed, iteration);
  target.run(input, random);
}

export const bytesOf = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text));

/** Cuts a stream into pieces as a socket might: mostly few, sometimes byte by byte (short ones, for time's sake). */
export function cuts(input: Uint8Array, random: Random): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  const most = random.pick([input.length > 2000 ? 20 : 1, 3, 40, 5000, input.length + 1]);
  for (let at = 0; at < input.length;) {
    const length = 1 + random.below(most);
    pieces.push(input.slice(at, at + length));
    at += length;
  }
  return pieces;
}
