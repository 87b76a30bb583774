/**
 * Retries, for all actions, in this one place: how often something has failed in a row, and when it may be
 * tried again. Pure; time is an argument.
 */

export interface Attempt {
  failureCount: number;
  /** Of the last failure, in words. */
  error: string;
  /** Stable code of the last failure, if it had one. */
  code: string | undefined;
  notBefore_ms: number;
  /** Failures of another generation of the spec are forgotten: the user may have mended it. */
  generation: number;
}

export const BACKOFF_FIRST_MS = 1_000;
export const BACKOFF_MAX_MS = 60_000;
/** A guest that ran so long before it died is not in a crash loop. */
export const STABLE_MS = 300_000;

/** Failures that are remembered: names come and go without bound. */
const REMEMBERED_MAX = 20_000;

/** Code of a "failure" that was none of ours: the guest had run, and ended by itself. */
export const ENDED_BY_ITSELF = 'ENDED_BY_ITSELF';

export function backoff_ms(failureCount: number): number {
  return Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.min(20, Math.max(0, failureCount - 1)));
}

export class Attempts {
  readonly #failed = new Map<string, Attempt>();
  readonly #running = new Set<string>();

  begin(id: string): void {
    this.#running.add(id);
  }

  succeed(id: string): void {
    this.#running.delete(id);
    this.#failed.delete(id);
  }

  fail(id: string, generation: number, error: string, code: string | undefined, now_ms: number): Attempt {
    this.#running.delete(id);
    const before = this.#failed.get(id);
    const failureCount = before?.generation === generation ? before.failureCount + 1 : 1;
    const attempt = {
      failureCount,
      error,
      code,
      notBefore_ms: now_ms + backoff_ms(failureCount),
      generation,
    };
    // Moved to the end: the oldest failure is the first to be forgotten.
    this.#failed.delete(id);
    this.#failed.set(id, attempt);
    if (this.#failed.size > REMEMBERED_MAX) this.#failed.delete(this.#failed.keys().next().value!);
    return attempt;
  }

  /** It ended without having been tried to the end: neither success nor failure. */
  abandon(id: string): void {
    this.#running.delete(id);
  }

  forget(id: string): void {
    this.#failed.delete(id);
  }

  isRunning(id: string): boolean {
    return this.#running.has(id);
  }

  last(id: string, generation: number): Attempt | undefined {
    const attempt = this.#failed.get(id);
    return attempt?.generation === generation ? attempt : undefined;
  }
}
