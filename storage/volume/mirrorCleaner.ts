/**
 * Takes marks of a mirror's journal away again, lazily: those of regions that were not written for a while, after a flush of
 * both sides that began after their last write. Who writes there meanwhile keeps the mark.
 */
import type { MirrorVolume } from './mirror.js';
import { Bits } from './mirrorJournal.js';
import type { Waiter } from './volume.js';

const CLEAN_MS = 5000;

export class MirrorCleaner implements Waiter {
  /** Regions where something was, or is being, written since the last look. */
  #recent = new Bits();
  #candidates: Bits | null = null;
  #next_ms: number;
  #mirror: MirrorVolume;

  constructor(mirror: MirrorVolume, now_ms: number) {
    this.#mirror = mirror;
    this.#next_ms = now_ms + CLEAN_MS;
  }

  /** To be told before a write begins and when it has ended. */
  wrote(offset: number, length: number): void {
    this.#mirror.journal.spread(this.#recent, offset, length);
  }

  /** A side went out: all that is marked may differ from now on. Also when regions have become others. */
  cancel(): void {
    this.#candidates = null;
  }

  regionsChanged(): void {
    this.#recent.bytes.fill(0xff);
    this.#candidates = null;
  }

  /** Both sides have been flushed and nothing is written any more. */
  clearAll(): void {
    const { journal, stale, sides } = this.#mirror;
    if (sides.anyOut) return;
    for (let region = journal.marks.next(0); region >= 0; region = journal.marks.next(region + 1))
      if (!stale.has(region)) journal.clear(region);
    journal.commit();
  }

  tick(now_ms: number): void {
    if (now_ms < this.#next_ms) return;
    this.#next_ms = now_ms + CLEAN_MS;
    const { journal, stale, sides } = this.#mirror;
    if (this.#candidates !== null || sides.anyOut) return;
    const candidates = new Bits(
      journal.marks.bytes.map((byte, i) => byte & ~this.#recent.bytes[i]! & ~stale.bytes[i]!),
    );
    this.#recent = new Bits();
    this.#mirror.eachChange((offset, length) => this.wrote(offset, length));
    if (candidates.next(0) < 0) return;
    this.#candidates = candidates;
    this.#mirror.flush(this, 0);
  }

  completed(_token: number, result: number): void {
    const candidates = this.#candidates;
    this.#candidates = null;
    if (candidates === null || result < 0) return;
    const { journal, stale } = this.#mirror;
    for (let region = candidates.next(0); region >= 0; region = candidates.next(region + 1))
      if (!this.#recent.has(region) && !stale.has(region)) journal.clear(region);
    journal.commit();
  }
}
