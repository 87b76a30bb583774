/**
 * Token buckets (RFC 2697 with one rate: green or red). Pure: time is passed in. A bucket fills by the clock of the
 * turn, in milliseconds, so its burst has to hold what the rate brings between two turns.
 */
import type { FlowMeter } from '../contract.js';

export class Meters {
  readonly list: readonly FlowMeter[];
  readonly conformedFrames: Float64Array;
  readonly conformedOctets: Float64Array;
  readonly exceededFrames: Float64Array;
  readonly exceededOctets: Float64Array;
  readonly #tokens_bytes: Float64Array;
  readonly #filled_ms: Float64Array;
  readonly #rate_bytesPerMs: Float64Array;

  /** Meters that are as they were go on with what is in them. */
  constructor(list: readonly FlowMeter[], now_ms: number, before?: Meters) {
    this.list = list;
    const row = (): Float64Array => new Float64Array(list.length);
    this.conformedFrames = row();
    this.conformedOctets = row();
    this.exceededFrames = row();
    this.exceededOctets = row();
    this.#filled_ms = row().fill(now_ms);
    this.#tokens_bytes = Float64Array.from(list, ({ burst_bytes }) => burst_bytes);
    this.#rate_bytesPerMs = Float64Array.from(list, ({ rate_bps }) => rate_bps / 8000);
    if (before === undefined) return;
    const known = new Map(before.list.map((meter, index) => [JSON.stringify(meter), index]));
    for (const [index, meter] of list.entries()) {
      const old = known.get(JSON.stringify(meter));
      if (old === undefined) continue;
      this.conformedFrames[index] = before.conformedFrames[old]!;
      this.conformedOctets[index] = before.conformedOctets[old]!;
      this.exceededFrames[index] = before.exceededFrames[old]!;
      this.exceededOctets[index] = before.exceededOctets[old]!;
      this.#filled_ms[index] = before.#filled_ms[old]!;
      this.#tokens_bytes[index] = before.#tokens_bytes[old]!;
    }
  }

  /** Whether there are tokens for the frame; if so they are taken. */
  conforms(meter: number, length_bytes: number, now_ms: number): boolean {
    const passed_ms = now_ms - this.#filled_ms[meter]!;
    let tokens_bytes = this.#tokens_bytes[meter]!;
    if (passed_ms > 0) {
      this.#filled_ms[meter] = now_ms;
      const burst_bytes = this.list[meter]!.burst_bytes;
      tokens_bytes += passed_ms * this.#rate_bytesPerMs[meter]!;
      if (tokens_bytes > burst_bytes) tokens_bytes = burst_bytes;
    }
    if (tokens_bytes < length_bytes) {
      this.#tokens_bytes[meter] = tokens_bytes;
      this.exceededFrames[meter]!++;
      this.exceededOctets[meter]! += length_bytes;
      return false;
    }
    this.#tokens_bytes[meter] = tokens_bytes - length_bytes;
    this.conformedFrames[meter]!++;
    this.conformedOctets[meter]! += length_bytes;
    return true;
  }
}
