/** Which side of a mirror is in, out, or being made the same again; the states are drawn in mirror.ts. */
import type { Bits, MirrorJournal } from './mirrorJournal.js';
import { NAMES, type Leg, type MirrorLeg } from './mirrorParts.js';
import type { VolumeState } from './volume.js';

const RETRY_FIRST_MS = 1000;
const RETRY_LIMIT_MS = 60_000;

export interface SidesOwner {
  readonly size_bytes: number;
  /** For good. */
  sidesFailed(why: string): void;
  /** All that is marked may differ from now on. */
  sideOut(): void;
  /** There may be something to copy, or to tell. */
  sidesChanged(): void;
}

export class MirrorSides {
  readonly legs: readonly [Leg, Leg];
  #journal: MirrorJournal;
  #stale: Bits;
  #now_ms: () => number;
  #owner: SidesOwner;

  constructor(
    first: MirrorLeg,
    second: MirrorLeg,
    journal: MirrorJournal,
    stale: Bits,
    now_ms: () => number,
    owner: SidesOwner,
  ) {
    const leg = (volume: MirrorLeg): Leg => ({
      volume,
      state: 'in-sync',
      reason: null,
      retryAt_ms: 0,
      retry_ms: RETRY_FIRST_MS,
    });
    this.legs = [leg(first), leg(second)];
    this.#journal = journal;
    this.#stale = stale;
    this.#now_ms = now_ms;
    this.#owner = owner;
  }

  /** The side that nothing is answered without. */
  get good(): 0 | 1 {
    return this.#journal.good === 'second' ? 1 : 0;
  }
  get other(): Leg {
    return this.legs[this.good === 0 ? 1 : 0];
  }
  get anyOut(): boolean {
    return this.legs[0].state === 'out' || this.legs[1].state === 'out';
  }
  /** Both the same: the first. */
  get readable(): MirrorLeg {
    return this.legs[this.readableIndex].volume;
  }
  get readableIndex(): 0 | 1 {
    return this.legs[0].state === 'in-sync' ? 0 : this.good;
  }

  /** That side has there what a client may see. */
  readableThere(leg: 0 | 1, offset: number, length: number): boolean {
    if (this.legs[leg].state === 'in-sync' || leg === this.good) return true;
    if (this.legs[leg].state === 'out') return false;
    const { region_bytes } = this.#journal;
    const last = Math.floor((offset + length - 1) / region_bytes);
    for (let region = Math.floor(offset / region_bytes); region <= last; region++)
      if (this.#stale.has(region)) return false;
    return true;
  }

  /** Not both: the good one only while the other is in-sync, and becomes the good one. */
  takeOut(leg: 0 | 1, why: string): void {
    const it = this.legs[leg];
    const other = leg === 0 ? 1 : 0;
    if (leg === this.good && this.legs[other].state !== 'in-sync') return;
    if (it.state !== 'out') it.retry_ms = Math.min(it.retry_ms * 2, RETRY_LIMIT_MS);
    it.state = 'out';
    it.reason = `the ${NAMES[leg]} side is left out: ${it.volume.reason ?? why}`;
    it.retryAt_ms = this.#now_ms() + it.retry_ms;
    // All that was being written may have got there or not.
    for (let i = 0; i < this.#stale.bytes.length; i++) this.#stale.bytes[i]! |= this.#journal.marks.bytes[i]!;
    this.#owner.sideOut();
    const good = other === 0 ? 'first' : 'second';
    if (this.#journal.good !== good) this.#journal.setGood(good);
    this.#owner.sidesChanged();
  }

  checkSizes(): void {
    for (const leg of [0, 1] as const) {
      const { size_bytes } = this.legs[leg].volume;
      if (size_bytes >= this.#owner.size_bytes) continue;
      const why = `it has ${size_bytes} bytes, the mirror has ${this.#owner.size_bytes}`;
      if (leg === this.good && this.legs[leg === 0 ? 1 : 0].state !== 'in-sync')
        this.#owner.sidesFailed(`the ${NAMES[leg]} side is the good one, and too short: ${why}`);
      else {
        this.takeOut(leg, why);
        this.legs[leg].reason = `the ${NAMES[leg]} side is left out: ${why}`;
      }
    }
  }

  /** A side that is out and well again comes back. */
  tick(now_ms: number): void {
    const { other } = this;
    const well = other.volume.state === 'ok' || other.volume.state === 'full';
    if (other.state !== 'out' || !well || now_ms < other.retryAt_ms) return;
    if (other.volume.size_bytes < this.#owner.size_bytes) this.checkSizes();
    else this.resync();
  }

  /** From now on the other side is written too, and what is stale there is copied. */
  resync(): void {
    if (this.other.volume.size_bytes < this.#owner.size_bytes) return;
    this.other.state = 'resyncing';
    this.#owner.sidesChanged();
  }

  /** Nothing is stale any more, and both have been flushed. */
  resynced(): void {
    const { other } = this;
    other.state = 'in-sync';
    other.reason = null;
    other.retry_ms = RETRY_FIRST_MS;
    if (this.#journal.good !== 'both') this.#journal.setGood('both');
    this.#owner.sidesChanged();
  }

  /** For volume.ts. */
  stateOf(): { state: VolumeState; reason: string | null } {
    const { volume } = this.legs[this.good];
    const { other } = this;
    if (volume.state !== 'ok') return { state: volume.state, reason: volume.reason };
    if (other.state === 'in-sync') return { state: 'ok', reason: null };
    const copying = `the ${NAMES[this.good === 0 ? 1 : 0]} side is being made the same again`;
    return { state: 'degraded', reason: other.state === 'out' ? other.reason : copying };
  }
}
