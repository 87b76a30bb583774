/**
 * Joins a switch's decision (relay.ts) to the engine: takes the frames of its links, and puts each on the
 * queues of the links it leaves by. Here are the counters, the sweeping of old addresses, and the word about
 * stations that move.
 */
import { C, ROW_LENGTH, SINK_COUNTERS_AT, makeRow } from '../engine/counters.js';
import { AT, FRAME_WORDS, LENGTH, W0 } from '../engine/frames.js';
import type { FrameTable } from '../engine/frames.js';
import { Link } from '../engine/link.js';
import type { Sink } from '../engine/link.js';
import type { Loop } from '../engine/loop.js';
import { Timer } from '../engine/timers.js';
import * as ethernet from '../wire/ethernet.js';
import { LEARN_FULL, LEARN_KNOWN, LEARN_NEW } from './filteringDatabase.js';
import { DROP, DROP_NO_RECEIVER, FLOOD, MAC_COUNT, RELAY_COUNTERS, RELAY_PORT_COUNTERS } from './relay.js';
import { Relay, SOURCE_NOT_LEARNABLE_INDEX } from './relay.js';
import type { Membership } from './vlanMembership.js';

const SWEEP_EVERY_MS = 1000;
/** Entries looked at per sweep: a tenth of the table at least, so all of it within ten seconds. */
const SWEEP_MIN_COUNT = 4096;
/** Moves told per second at most; two stations with one address would otherwise tell of every frame. */
const MOVES_TOLD_PER_SECOND = 10;

const [UNICAST, FLOODED, COPIES, LEARNED, MOVED, MOVES_UNTOLD, NOT_LEARNED_FULL, AGED] = RELAY_COUNTERS.map(
  (_, index) => index,
) as [number, number, number, number, number, number, number, number];

if (SINK_COUNTERS_AT + RELAY_PORT_COUNTERS.length > ROW_LENGTH)
  throw new Error('the counter row is too short');

export type OnMove = (app: SwitchApp, mac: string, vlan: number, from: Link, to: Link) => void;

export interface MacEntry {
  mac: string;
  vlan: number;
  port: string;
  age_ms: number;
}

export class SwitchApp implements Sink {
  readonly name: string;
  readonly counters = makeRow();
  readonly #loop: Loop;
  readonly #relay: Relay;
  readonly #links: (Link | undefined)[] = [];
  readonly #onMove: OnMove;
  readonly #sweep: Timer;
  #movesLeft = MOVES_TOLD_PER_SECOND;

  constructor(loop: Loop, name: string, macLimit: number, ageingTime_s: number, onMove: OnMove) {
    this.name = name;
    this.#loop = loop;
    this.#relay = new Relay(macLimit, ageingTime_s * 1000);
    this.#onMove = onMove;
    this.#sweep = new Timer(now_ms => this.#sweepNow(now_ms));
    loop.timers.arm(this.#sweep, loop.now_ms + SWEEP_EVERY_MS);
  }

  close(): void {
    this.#loop.timers.cancel(this.#sweep);
  }

  configure(macLimit: number, ageingTime_s: number): void {
    this.#relay.database.configure(macLimit, ageingTime_s * 1000);
  }

  /** A new link of this switch, still without a port. */
  addLink(name: string, membership: Membership): Link {
    let index = this.#links.indexOf(undefined);
    if (index < 0) index = this.#links.length;
    const link = new Link(this.#loop, name, this, index);
    this.#links[index] = link;
    this.#relay.vlans.set(index, membership);
    return link;
  }

  /** Forgets the addresses of this port only. */
  setMembership(link: Link, membership: Membership): void {
    this.#relay.vlans.set(link.sinkIndex, membership);
    this.#flushPort(link);
  }

  removeLink(link: Link): void {
    this.#relay.vlans.clear(link.sinkIndex);
    this.#flushPort(link);
    this.#links[link.sinkIndex] = undefined;
  }

  /** 802.1Q-2022 8.8.3: what was learned on a port that went down is not true any more. */
  linkChanged(link: Link): void {
    if (!link.isUp) this.#flushPort(link);
  }

  #flushPort(link: Link): void {
    this.#relay.database.flushPort(link.sinkIndex);
    this.counters[MAC_COUNT] = this.#relay.database.count;
  }

  flushMacs(): number {
    this.counters[MAC_COUNT] = 0;
    return this.#relay.database.flush();
  }

  macs(): MacEntry[] {
    const words = this.#relay.database.snapshot(this.#loop.now_ms);
    const entries: MacEntry[] = [];
    for (let w = 0; w < words.length; w += 4)
      entries.push({
        mac: ethernet.formatAddress(words[w]! & 0xffff, words[w + 1]!),
        vlan: words[w]! >>> 16,
        port: this.#links[words[w + 2]!]?.name ?? '',
        age_ms: words[w + 3]!,
      });
    return entries;
  }

  input(link: Link, frames: FrameTable, first: number, end: number): void {
    const words = frames.words;
    const view = this.#loop.pool.arena.view;
    const relay = this.#relay;
    const port = link.sinkIndex;
    const now_ms = this.#loop.now_ms;
    const row = link.counters;
    const own = this.counters;
    let octets = 0;
    for (let frame = first; frame < end; frame++) {
      const w = frame * FRAME_WORDS;
      const at = words[w + AT]!;
      const length_bytes = words[w + LENGTH]!;
      octets += length_bytes;
      if ((words[w + W0]! & 0xff00) !== 0) row[C.gsoInFrames]!++;
      const outcome = relay.decide(view, at, length_bytes, port, now_ms);
      if (outcome !== DROP) countKind(row, view, at, C.ifHCInUcastPkts);
      if (relay.learned !== LEARN_KNOWN) this.#noteLearning(link, view, at);
      if (relay.sourceNotLearnable) row[SINK_COUNTERS_AT + SOURCE_NOT_LEARNABLE_INDEX]!++;
      if (outcome >= 0) {
        own[UNICAST]!++;
        const egress = this.#links[outcome]!;
        if (egress.isUp) egress.send(frame, relay.edit(outcome));
        else egress.counters[C.dropNotUp]!++;
      } else if (outcome === FLOOD) {
        own[FLOODED]!++;
        this.#flood(frame, port, row);
      } else {
        row[SINK_COUNTERS_AT + DROP - outcome]!++;
      }
    }
    row[C.ifHCInOctets]! += octets;
  }

  #flood(frame: number, port: number, row: Float64Array): void {
    const relay = this.#relay;
    const members = relay.vlans.members(relay.vlan);
    let copies = 0;
    for (let i = 0; i < members.length; i++) {
      const member = members[i]!;
      if (member === port) continue;
      const egress = this.#links[member]!;
      if (!egress.isUp) continue;
      egress.send(frame, relay.edit(member));
      copies++;
    }
    if (copies === 0) row[SINK_COUNTERS_AT + DROP - DROP_NO_RECEIVER]!++;
    else this.counters[COPIES]! += copies;
  }

  /** Anything but "known": counted, and a move told if not too many were told this second. */
  #noteLearning(link: Link, view: DataView, at: number): void {
    const relay = this.#relay;
    const learned = relay.learned;
    if (learned === LEARN_FULL) {
      this.counters[NOT_LEARNED_FULL]!++;
    } else if (learned === LEARN_NEW) {
      this.counters[LEARNED]!++;
      this.counters[MAC_COUNT] = relay.database.count;
    } else if (learned >= 0) {
      this.counters[MOVED]!++;
      const from = this.#links[learned];
      if (this.#movesLeft > 0 && from !== undefined) {
        this.#movesLeft--;
        this.#onMove(this, ethernet.addressAt(view, at + ethernet.SOURCE), relay.vlan, from, link);
      } else {
        this.counters[MOVES_UNTOLD]!++;
      }
    }
  }

  #sweepNow(now_ms: number): void {
    const database = this.#relay.database;
    const entries = Math.max(SWEEP_MIN_COUNT, Math.ceil(database.capacity / 10));
    this.counters[AGED]! += database.sweep(now_ms, entries);
    this.counters[MAC_COUNT] = database.count;
    this.#movesLeft = MOVES_TOLD_PER_SECOND;
    this.#loop.timers.arm(this.#sweep, now_ms + SWEEP_EVERY_MS);
  }
}

/** Unicast, multicast and broadcast counters stand in this order, in and out. */
export function countKind(row: Float64Array, view: DataView, at: number, unicastIndex: number): void {
  if ((view.getUint8(at) & 1) === 0) row[unicastIndex]!++;
  else if (ethernet.isBroadcast(view, at)) row[unicastIndex + 2]!++;
  else row[unicastIndex + 1]!++;
}
