/**
 * What a switch knows of stations, for others than the frame path: listing, forgetting, the sweeping of old addresses,
 * and the word about stations that are new or move.
 */
import { SINK_COUNTERS_AT } from '../engine/counters.js';
import type { Link } from '../engine/link.js';
import type { Loop } from '../engine/loop.js';
import { Timer } from '../engine/timers.js';
import * as ethernet from '../wire/ethernet.js';
import { PORT_COUNTERS, SWITCH_COUNTERS } from './counters.js';
import { LEARN_FULL, LEARN_NEW, LEARN_PORT_FULL, LEARN_STATIC } from './filteringDatabase.js';
import type { Relay } from './relay.js';

const SWEEP_EVERY_MS = 1000;
/** Entries looked at per sweep: a tenth of the table at least, so all of it within ten seconds. */
const SWEEP_MIN_COUNT = 4096;
/** Moves told per second at most; two stations with one address would otherwise tell of every frame. */
const MOVES_TOLD_PER_SECOND = 10;

const LEARNED = SWITCH_COUNTERS.indexOf('macsLearned');
const MOVED = SWITCH_COUNTERS.indexOf('macsMoved');
const MOVES_UNTOLD = SWITCH_COUNTERS.indexOf('macMovesUntold');
const NOT_LEARNED_FULL = SWITCH_COUNTERS.indexOf('macsNotLearnedFull');
const AGED = SWITCH_COUNTERS.indexOf('macsAged');
const MAC_COUNT = SWITCH_COUNTERS.indexOf('macCount');
const NOT_LEARNED_PORT_FULL = SINK_COUNTERS_AT + PORT_COUNTERS.indexOf('macsNotLearnedPortFull');
const SOURCE_ELSEWHERE = SINK_COUNTERS_AT + PORT_COUNTERS.indexOf('sourceElsewhereStatic');

export type OnMove = (mac: string, vlan: number, from: Link, to: Link) => void;

export interface MacEntry {
  mac: string;
  vlan: number;
  /** '' for a static entry that leads nowhere. */
  port: string;
  age_ms: number;
  isStatic: boolean;
}

export class Stations {
  readonly #loop: Loop;
  readonly #relay: Relay;
  readonly #counters: Float64Array;
  readonly #links: readonly (Link | undefined)[];
  readonly #onMove: OnMove;
  readonly #onChange: () => void;
  readonly #sweep: Timer;
  #movesLeft = MOVES_TOLD_PER_SECOND;

  /** `links` by the relay's numbers; `onChange`: what was decided by addresses may not be right any more. */
  constructor(
    loop: Loop,
    relay: Relay,
    counters: Float64Array,
    links: readonly (Link | undefined)[],
    onMove: OnMove,
    onChange: () => void,
  ) {
    this.#loop = loop;
    this.#relay = relay;
    this.#counters = counters;
    this.#links = links;
    this.#onMove = onMove;
    this.#onChange = onChange;
    this.#sweep = new Timer(now_ms => this.#sweepNow(now_ms));
    loop.timers.arm(this.#sweep, loop.now_ms + SWEEP_EVERY_MS);
  }

  close(): void {
    this.#loop.timers.cancel(this.#sweep);
  }

  list(): MacEntry[] {
    const words = this.#relay.database.snapshot(this.#loop.now_ms);
    const entries: MacEntry[] = [];
    for (let w = 0; w < words.length; w += 4)
      entries.push({
        mac: ethernet.formatAddress(words[w]! & 0xffff, words[w + 1]!),
        vlan: words[w]! >>> 16,
        port: this.#links[words[w + 2]!]?.name ?? '',
        age_ms: Math.max(0, words[w + 3]!),
        isStatic: words[w + 3]! < 0,
      });
    return entries;
  }

  flushPort(port: number): number {
    return this.#flushed(this.#relay.database.flushPort(port));
  }

  flushVlan(vid: number): number {
    return this.#flushed(this.#relay.database.flushVlan(this.#relay.vlans.fid(vid)));
  }

  flush(): number {
    return this.#flushed(this.#relay.database.flush());
  }

  #flushed(count: number): number {
    this.#counters[MAC_COUNT] = this.#relay.database.count;
    this.#onChange();
    return count;
  }

  /** Anything but "known": counted, and a move told if not too many were told this second. */
  note(link: Link, view: DataView, at: number): void {
    const { learned, vlan, database } = this.#relay;
    const counters = this.#counters;
    if (learned === LEARN_FULL) {
      counters[NOT_LEARNED_FULL]!++;
    } else if (learned === LEARN_PORT_FULL) {
      link.counters[NOT_LEARNED_PORT_FULL]!++;
    } else if (learned === LEARN_STATIC) {
      link.counters[SOURCE_ELSEWHERE]!++;
    } else if (learned === LEARN_NEW) {
      counters[LEARNED]!++;
      counters[MAC_COUNT] = database.count;
    } else if (learned >= 0) {
      counters[MOVED]!++;
      this.#onChange();
      const from = this.#links[learned];
      if (this.#movesLeft > 0 && from !== undefined) {
        this.#movesLeft--;
        this.#onMove(ethernet.addressAt(view, at + ethernet.SOURCE), vlan, from, link);
      } else {
        counters[MOVES_UNTOLD]!++;
      }
    }
  }

  #sweepNow(now_ms: number): void {
    const { database } = this.#relay;
    const entries = Math.max(SWEEP_MIN_COUNT, Math.ceil(database.capacity / 10));
    this.#counters[AGED]! += database.sweep(now_ms, entries);
    this.#counters[MAC_COUNT] = database.count;
    this.#movesLeft = MOVES_TOLD_PER_SECOND;
    this.#loop.timers.arm(this.#sweep, now_ms + SWEEP_EVERY_MS);
  }
}
