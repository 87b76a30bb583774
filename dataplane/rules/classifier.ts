/**
 * Which rules a frame matches: the rules as they stand in the configuration, compiled. Pure; built once for each set of
 * rules and ports, and replaced as a whole, so no flow is ever decided by half a change.
 *
 *   key of the frame  ->  plan: what rules look at for frames of this port and kind  ->  cache of what those fields
 *   were found to match  ->  (when not there) tuple space search
 *
 * A plan is the union of the masks of all rules that could match a frame of its port and kind: what no such rule looks
 * at is not in the cache's key. A rule about TCP ports makes no difference to flows of UDP; ports of rules are told
 * apart by interval (intervals.ts); the ports of the switch that no rule names share one plan.
 *
 * The answer is a chain: the rules that act, in order; all but the last say `continue`. Its number: 0, no rule; up to
 * the count of rules, the one rule of that rank plus one; beyond it, several, see `chain`.
 */
import type { FlowRule } from '../contract.js';
import type { Packet } from '../switch/packet.js';
import { ExactCache } from './exactCache.js';
import { FlowCache, MISS } from './flowCache.js';
import { Intervals } from './intervals.js';
import * as k from './key.js';
import { canBe, patternsOf, RuleTooWide } from './pattern.js';
import type { Pattern } from './pattern.js';
import { NO_RANK, TupleSpace } from './tupleSpace.js';

/** 18 words each. */
export const CACHE_FLOWS = 8192;
/** All patterns of a switch's rules. */
export const PATTERNS_MAX = 200_000;
/** Chains of several rules that are remembered; when full, all are found anew. */
const CHAINS_MAX = 65_536;

/** Where the raw ports are while the key holds their classes. */
const W_RAW_L4 = 15;
const SOURCE_CLASSES = 1;
const DESTINATION_CLASSES = 2;

export class Classifier {
  /** By rank. */
  readonly rules: readonly FlowRule[];
  /** By rank: why a rule does not match what was meant; null when nothing is wrong. */
  readonly problems: readonly (string | null)[];
  readonly space: TupleSpace;
  readonly key = new Int32Array(k.KEY_WORDS);
  cache: FlowCache;
  readonly exact = new ExactCache();
  /** A rule looks at more than in-port, MAC addresses and VLAN. */
  readonly looksAtIp: boolean;

  /** Per port of the switch its row; row 0 is that of ports which no rule names. */
  readonly #rowOf: Int32Array;
  /** Per row and kind: where its words stand, and how many. */
  readonly #planAt: Int32Array;
  readonly #planLength: Int32Array;
  readonly #planWords: Int32Array;
  readonly #planMasks: Int32Array;
  /** Per row and kind: SOURCE_CLASSES, DESTINATION_CLASSES. */
  readonly #planClasses: Uint8Array;
  /** Per row: no rule that could match a frame of it looks at more than addresses and VLAN. */
  readonly #isLayer2: Uint8Array;
  readonly #sourceClasses: Intervals;
  readonly #destinationClasses: Intervals;
  readonly #continues: Uint8Array;
  #chains: Int32Array[] = [];
  readonly #chainNumbers = new Map<string, number>();
  readonly #scratch: Int32Array;

  constructor(
    rules: readonly FlowRule[],
    portNumber: (name: string) => number | undefined,
    portCount: number,
    cacheFlows = CACHE_FLOWS,
  ) {
    // Array.prototype.sort is stable: of equal priorities the one written first stays first.
    this.rules = [...rules].sort((a, b) => b.priority - a.priority);
    const problems: (string | null)[] = [];
    let total = 0;
    const patterns = this.rules.map(rule => {
      const { found, problem } = compile(rule, portNumber, total);
      total += found.length;
      problems.push(problem);
      return found;
    });
    this.problems = problems;
    this.space = new TupleSpace(patterns);
    this.cache = new FlowCache(cacheFlows);
    this.#continues = Uint8Array.from(this.rules, rule => (rule.actions.verdict === 'continue' ? 1 : 0));
    this.#scratch = new Int32Array(this.rules.length + 1);
    this.#sourceClasses = new Intervals(this.rules.flatMap(({ match }) => match.sourcePorts ?? []));
    this.#destinationClasses = new Intervals(this.rules.flatMap(({ match }) => match.destinationPorts ?? []));

    const plans = plansOf(patterns.flat(), portCount);
    this.#rowOf = plans.rowOf;
    const rows = plans.unions.length;
    this.#planAt = new Int32Array(rows * k.KINDS);
    this.#planLength = new Int32Array(rows * k.KINDS);
    this.#planClasses = new Uint8Array(rows * k.KINDS);
    this.#isLayer2 = new Uint8Array(rows);
    const words: number[] = [];
    const masks: number[] = [];
    let looksAtIp = false;
    for (const [row, unions] of plans.unions.entries()) {
      let isLayer2 = true;
      for (const [kind, union] of unions.entries()) {
        const plan = row * k.KINDS + kind;
        this.#planAt[plan] = words.length;
        for (let w = 0; w < k.KEY_WORDS; w++) {
          // The plan itself says which port it is.
          const mask = w === k.W_PORT_TYPE ? union[w]! & ~0xffff : union[w]!;
          if (mask === 0) continue;
          words.push(w);
          masks.push(mask);
          if (w === k.W_PORT_TYPE || w >= k.W_IP || (w === k.W_VLAN && (mask & ~0xfff) !== 0))
            isLayer2 = false;
          if (w >= k.W_IP || (w === k.W_VLAN && mask >>> k.DSCP_SHIFT !== 0)) looksAtIp = true;
        }
        this.#planLength[plan] = words.length - this.#planAt[plan];
        const of = kind >= k.KIND_IPV6 ? kind - k.KIND_IPV6 : kind - k.KIND_IPV4;
        // Of ICMP the word holds type and code, which are no ports.
        if (of >= 0 && of !== k.OF_ICMP) this.#planClasses[plan] = classesOf(union[k.W_L4]!);
      }
      this.#isLayer2[row] = isLayer2 ? 1 : 0;
    }
    this.#planWords = Int32Array.from(words);
    // A class is a number of its own: bits of it must not be masked away.
    this.#planMasks = Int32Array.from(masks, (mask, i) => (words[i] === k.W_L4 ? wholeHalves(mask) : mask));
    this.looksAtIp = looksAtIp;
  }

  /** Whether frames of this port are decided by nothing but port, addresses and VLAN. */
  isLayer2(port: number): boolean {
    return this.#isLayer2[this.#rowOf[port]!] === 1;
  }

  /** Number of the chain of rules that act on the frame. What malformed frames say is not to be relied on. */
  classify(packet: Packet): number {
    const exact = this.exact;
    let chain = exact.find(packet);
    if (chain !== MISS) {
      packet.isMalformed = false;
      return chain;
    }
    chain = this.#classify(packet);
    if (!packet.isMalformed) exact.put(chain);
    return chain;
  }

  #classify(packet: Packet): number {
    const key = this.key;
    const kind = k.fill(packet, key);
    const plan = this.#rowOf[packet.port]! * k.KINDS + kind;
    const classes = this.#planClasses[plan]!;
    if (classes !== 0) {
      const l4 = key[k.W_L4]!;
      key[W_RAW_L4] = l4;
      const source = (classes & SOURCE_CLASSES) === 0 ? 0 : this.#sourceClasses.classOf(l4 >>> 16);
      const destination =
        (classes & DESTINATION_CLASSES) === 0 ? 0 : this.#destinationClasses.classOf(l4 & 0xffff);
      key[k.W_L4] = (source << 16) | destination;
    }
    const cache = this.cache;
    const flow = cache.key;
    const planWords = this.#planWords;
    const planMasks = this.#planMasks;
    const from = this.#planAt[plan]!;
    const length = this.#planLength[plan]!;
    let hash = Math.imul(plan + 1, 0x85eb_ca6b);
    for (let i = 0; i < length; i++) {
      const word = key[planWords[from + i]!]! & planMasks[from + i]!;
      flow[i] = word;
      hash = Math.imul(hash ^ word, 0x9e37_79b1);
      hash ^= hash >>> 15;
    }
    let chain = cache.find(plan, length, hash);
    if (chain !== MISS) return chain;
    if (classes !== 0) key[k.W_L4] = key[W_RAW_L4]!;
    chain = this.#search(kind);
    cache.put(plan, length, chain);
    return chain;
  }

  /** The ranks of a chain beyond the count of rules. */
  chain(number: number): Int32Array {
    return this.#chains[number - this.rules.length - 1]!;
  }

  #search(kind: number): number {
    const scratch = this.#scratch;
    let length = 0;
    for (let from = 0; ;) {
      const rank = this.space.lookup(this.key, kind, from);
      if (rank === NO_RANK) break;
      scratch[length++] = rank;
      if (this.#continues[rank] === 0) break;
      from = rank + 1;
    }
    if (length === 0) return 0;
    return length === 1 ? scratch[0]! + 1 : this.#number(scratch.slice(0, length));
  }

  #number(ranks: Int32Array): number {
    const name = ranks.join();
    const known = this.#chainNumbers.get(name);
    if (known !== undefined) return known;
    if (this.#chains.length >= CHAINS_MAX) {
      this.#chains = [];
      this.#chainNumbers.clear();
      this.cache = new FlowCache(CACHE_FLOWS);
      this.exact.clear();
    }
    this.#chains.push(ranks);
    const number = this.rules.length + this.#chains.length;
    this.#chainNumbers.set(name, number);
    return number;
  }
}

function compile(
  rule: FlowRule,
  portNumber: (name: string) => number | undefined,
  total: number,
): { found: Pattern[]; problem: string | null } {
  try {
    const found = patternsOf(rule.match, portNumber);
    if (total + found.length > PATTERNS_MAX)
      return { found: [], problem: `the rules of this switch come to more than ${PATTERNS_MAX} patterns` };
    const missing = rule.match.inPorts?.filter(name => portNumber(name) === undefined) ?? [];
    if (missing.length > 0) return { found, problem: `no port ${missing.join(', ')} here at present` };
    return { found, problem: found.length === 0 ? 'nothing can match all of its fields' : null };
  } catch (error) {
    if (!(error instanceof RuleTooWide)) throw error;
    return { found: [], problem: error.message };
  }
}

function classesOf(mask: number): number {
  return (mask >>> 16 === 0 ? 0 : SOURCE_CLASSES) | ((mask & 0xffff) === 0 ? 0 : DESTINATION_CLASSES);
}

function wholeHalves(mask: number): number {
  return (mask >>> 16 === 0 ? 0 : 0xffff_0000 | 0) | ((mask & 0xffff) === 0 ? 0 : 0xffff);
}

/** Row 0: ports that no pattern names. Each other row has what the patterns without a port look at, and its own. */
function plansOf(
  patterns: readonly Pattern[],
  portCount: number,
): { rowOf: Int32Array; unions: Int32Array[][] } {
  const blank = (): Int32Array[] => Array.from({ length: k.KINDS }, () => new Int32Array(k.KEY_WORDS));
  const rowOf = new Int32Array(portCount);
  const unions = [blank()];
  for (const pattern of patterns) {
    let row = 0;
    if ((pattern.mask[k.W_PORT_TYPE]! & 0xffff) !== 0) {
      const port = pattern.value[k.W_PORT_TYPE]! & 0xffff;
      if (rowOf[port] === 0) rowOf[port] = unions.push(blank()) - 1;
      row = rowOf[port]!;
    }
    join(unions[row]!, pattern);
  }
  for (let row = 1; row < unions.length; row++)
    for (const [kind, union] of unions[row]!.entries())
      for (let w = 0; w < k.KEY_WORDS; w++) union[w]! |= unions[0]![kind]![w]!;
  return { rowOf, unions };
}

function join(unions: Int32Array[], pattern: Pattern): void {
  for (const [kind, union] of unions.entries())
    if (canBe(pattern, kind)) for (let w = 0; w < k.KEY_WORDS; w++) union[w]! |= pattern.mask[w]!;
}
