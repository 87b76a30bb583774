/** When to start a plane again. Pure. */

export const RESTART_FIRST_MS = 100;
export const RESTART_MAX_MS = 10_000;
/** A plane that served so long has not died of its own beginning. */
export const LIVED_MS = 10_000;

/** The first end is answered at once: traffic stands still until then. */
export function restartDelay_ms(endCount: number): number {
  if (endCount <= 1) return 0;
  return Math.min(RESTART_MAX_MS, RESTART_FIRST_MS * 2 ** Math.min(16, endCount - 2));
}

/** Ends in a row, after one more of a plane that served for so long. */
export function endsInARow(before: number, lived_ms: number): number {
  return lived_ms >= LIVED_MS ? 1 : before + 1;
}
