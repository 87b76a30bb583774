/**
 * Tuple space search (Srinivasan, Suri, Varghese, SIGCOMM 1999): patterns with the same mask share a hash table, so
 * a lookup is one probe per mask, however many rules there are. Tables stand in the order of their best rule: once
 * a match is better than the best of the next table, the search is over. Only tables that a frame of the given kind
 * could match are asked.
 *
 * A rank is a rule's place in the order in which rules are asked; 0 is the best. Built once, never changed.
 */
import { KEY_WORDS, KINDS } from './key.js';
import { canBe } from './pattern.js';
import type { Pattern } from './pattern.js';

export const NO_RANK = 0x3fff_ffff;

interface Tuple {
  /** Those words of the key that the mask touches, and the mask of each. */
  readonly words: Int32Array;
  readonly masks: Int32Array;
  /** Ranks of its best and of its last rule. */
  best: number;
  worst: number;
  /** Open addressing: number of an entry plus one. */
  slots: Int32Array;
  slotMask: number;
  /** Per entry its words; ranks `ranks[heads[e]]` … `ranks[heads[e + 1] - 1]`, ascending. */
  keys: Int32Array;
  heads: Int32Array;
  ranks: Int32Array;
  kinds: number;
}

interface Building {
  words: number[];
  masks: number[];
  entries: Map<string, { key: number[]; ranks: number[] }>;
  kinds: number;
}

function hashStep(hash: number, word: number): number {
  const mixed = Math.imul(hash ^ word, 0x9e37_79b1);
  return mixed ^ (mixed >>> 15);
}

export class TupleSpace {
  readonly tupleCount: number;
  readonly entryCount: number;
  readonly #ofKind: Tuple[][];

  /** `patterns[rank]`: those of each rule. */
  constructor(patterns: readonly (readonly Pattern[])[]) {
    const building = new Map<string, Building>();
    for (const [rank, ofRule] of patterns.entries())
      for (const pattern of ofRule) add(building, pattern, rank);
    const tuples = [...building.values()].map(freeze).sort((a, b) => a.best - b.best);
    this.tupleCount = tuples.length;
    this.entryCount = tuples.reduce((sum, tuple) => sum + tuple.heads.length - 1, 0);
    this.#ofKind = Array.from({ length: KINDS }, (_, kind) =>
      tuples.filter(tuple => (tuple.kinds & (1 << kind)) !== 0),
    );
  }

  /** The best rank from `from` on that fits the key, or NO_RANK. */
  lookup(key: Int32Array, kind: number, from: number): number {
    const tuples = this.#ofKind[kind]!;
    let found = NO_RANK;
    for (let t = 0; t < tuples.length; t++) {
      const tuple = tuples[t]!;
      if (tuple.best >= found) break;
      if (tuple.worst < from) continue;
      const rank = lookupIn(tuple, key, from);
      if (rank < found) found = rank;
    }
    return found;
  }
}

function lookupIn(tuple: Tuple, key: Int32Array, from: number): number {
  const { words, masks, slots, keys, slotMask } = tuple;
  const length = words.length;
  let hash = length;
  for (let i = 0; i < length; i++) hash = hashStep(hash, key[words[i]!]! & masks[i]!);
  for (let slot = hash & slotMask; ; slot = (slot + 1) & slotMask) {
    const entry = slots[slot]! - 1;
    if (entry < 0) return NO_RANK;
    const k = entry * length;
    let i = 0;
    while (i < length && keys[k + i] === (key[words[i]!]! & masks[i]!)) i++;
    if (i < length) continue;
    const end = tuple.heads[entry + 1]!;
    for (let r = tuple.heads[entry]!; r < end; r++) if (tuple.ranks[r]! >= from) return tuple.ranks[r]!;
    return NO_RANK;
  }
}

function add(building: Map<string, Building>, pattern: Pattern, rank: number): void {
  const name = pattern.mask.join();
  let tuple = building.get(name);
  if (tuple === undefined) {
    const words: number[] = [];
    for (let w = 0; w < KEY_WORDS; w++) if (pattern.mask[w] !== 0) words.push(w);
    tuple = { words, masks: words.map(w => pattern.mask[w]!), entries: new Map(), kinds: 0 };
    building.set(name, tuple);
  }
  for (let kind = 0; kind < KINDS; kind++) if (canBe(pattern, kind)) tuple.kinds |= 1 << kind;
  const key = tuple.words.map(w => pattern.value[w]!);
  const text = key.join();
  const entry = tuple.entries.get(text);
  if (entry === undefined) tuple.entries.set(text, { key, ranks: [rank] });
  else if (entry.ranks.at(-1) !== rank) entry.ranks.push(rank);
}

function freeze({ words, masks, entries, kinds }: Building): Tuple {
  const all = [...entries.values()];
  const capacity = 2 ** Math.ceil(Math.log2(all.length * 2 + 1));
  const tuple: Tuple = {
    words: Int32Array.from(words),
    masks: Int32Array.from(masks),
    best: all.reduce((best, { ranks }) => Math.min(best, ranks[0]!), NO_RANK),
    worst: all.reduce((worst, { ranks }) => Math.max(worst, ranks.at(-1)!), 0),
    slots: new Int32Array(capacity),
    slotMask: capacity - 1,
    keys: Int32Array.from(all.flatMap(({ key }) => key)),
    heads: new Int32Array(all.length + 1),
    ranks: Int32Array.from(all.flatMap(({ ranks }) => ranks)),
    kinds,
  };
  for (const [entry, { key, ranks }] of all.entries()) {
    tuple.heads[entry + 1] = tuple.heads[entry]! + ranks.length;
    let hash = words.length;
    for (const word of key) hash = hashStep(hash, word);
    let slot = hash & tuple.slotMask;
    while (tuple.slots[slot] !== 0) slot = (slot + 1) & tuple.slotMask;
    tuple.slots[slot] = entry + 1;
  }
  return tuple;
}
