/**
 * A member of an aggregate as the engine has it: a link of its own with a port of its own, whose sink is the
 * aggregate (app.ts); and what the machines of this room know of it.
 */
import type { LagMember } from '../contract.js';
import { SINK_COUNTERS_AT } from '../engine/counters.js';
import type { Link } from '../engine/link.js';
import { FRAMES_MAX_PER_SECOND } from '../wire/slowProtocols.js';
import type { LacpPort } from './lacpPort.js';
import type { GroupMember } from './linkGroup.js';

/** Per member, behind the counters of its link. */
export const MEMBER_COUNTERS = [
  'dropNotCollecting',
  'lacpPdusIn',
  'lacpPdusOut',
  'lacpPdusInvalid',
  'lacpPdusLooped',
  'lacpPdusUnexpected',
  'lacpPdusExcessive',
  'markersIn',
  'markersAnswered',
  'slowFramesUnknown',
  'announcementsOut',
] as const;
export type MemberCounter = (typeof MEMBER_COUNTERS)[number];

/** Index of each name in a member's row. */
export const M = Object.freeze(
  Object.fromEntries(MEMBER_COUNTERS.map((name, index) => [name, SINK_COUNTERS_AT + index])),
) as Readonly<Record<MemberCounter, number>>;

/** Half of what annex 57A.3 allows of one protocol: a flood of markers is not worth a flood of answers. */
const MARKERS_ANSWERED_PER_SECOND = FRAMES_MAX_PER_SECOND / 2;

class PerSecond {
  readonly #most: number;
  #from_ms = -Infinity;
  #count = 0;

  constructor(most: number) {
    this.#most = most;
  }

  take(now_ms: number): boolean {
    if (now_ms >= this.#from_ms + 1000) {
      this.#from_ms = now_ms;
      this.#count = 0;
    }
    return ++this.#count <= this.#most;
  }
}

export class Member implements GroupMember {
  readonly name: string;
  readonly link: Link;
  /** 802.1AX-2014 6.3.4: the port's number within the system. */
  readonly number: number;
  /** Sender of our slow protocol frames. */
  readonly address: Uint8Array;
  config: LagMember;
  lacp: LacpPort | undefined;
  priority: number;
  isUp = false;
  upAt_ms = 0;
  isCollecting = false;
  isDistributing = false;
  readonly #answers = new PerSecond(MARKERS_ANSWERED_PER_SECOND);
  readonly #lacpdus = new PerSecond(FRAMES_MAX_PER_SECOND);

  constructor(config: LagMember, link: Link, number: number, address: Uint8Array) {
    this.name = config.name;
    this.config = config;
    this.link = link;
    this.number = number;
    this.address = address;
    this.priority = config.priority;
  }

  count(counter: number): void {
    this.link.counters[counter]!++;
  }

  mayAnswerMarker(now_ms: number): boolean {
    return this.#answers.take(now_ms);
  }

  /** Whoever sends more than annex 57A.3 allows would have us settle, tell and log something new each time. */
  mayReadLacpdu(now_ms: number): boolean {
    return this.#lacpdus.take(now_ms);
  }
}

/** Locally administered, and different for each port of a system: the far end's address tables stay calm. */
export function memberAddress(system: Uint8Array, number: number): Uint8Array {
  const address = Uint8Array.from(system);
  address[0] = (address[0]! | 0x02) & 0xfe;
  address[3]! ^= 0x40;
  address[4]! ^= number >>> 8;
  address[5]! ^= number & 0xff;
  return address;
}

/** Numbers of ports that speak LACP: unique in this process, so also within each system; the same while it runs. */
export class PortNumbers {
  readonly #taken = new Set<number>();

  take(): number {
    let number = 1;
    while (this.#taken.has(number)) number++;
    this.#taken.add(number);
    return number;
  }

  release(number: number): void {
    this.#taken.delete(number);
  }
}
