/**
 * Answers that are known already but must be given later: the promise of volume.ts is that a waiter is never
 * called before its call has returned. Volumes put such answers here; the loop calls `turn` once per turn.
 */
import type { Waiter } from './volume.js';

export class Later {
  #waiters: Waiter[] = [];
  #tokens: number[] = [];
  #results: number[] = [];

  get pending(): number {
    return this.#waiters.length;
  }

  answer(waiter: Waiter, token: number, result: number): void {
    this.#waiters.push(waiter);
    this.#tokens.push(token);
    this.#results.push(result);
  }

  /** Gives the answers of before; what these calls add is for the next turn. */
  turn(): void {
    if (this.#waiters.length === 0) return;
    const waiters = this.#waiters;
    const tokens = this.#tokens;
    const results = this.#results;
    this.#waiters = [];
    this.#tokens = [];
    this.#results = [];
    for (let i = 0; i < waiters.length; i++) waiters[i]!.completed(tokens[i]!, results[i]!);
  }
}
