/** The words of what follows when a port does what it may not. */
import type { Fault } from '../fault.js';
import { Duration, parseDuration_ms } from '../words.js';

export const RecoveryWord = Duration.optional().meta({
  description: 'a port that was put down is tried again after this; left out: it stays down',
});

export function recovery_s(word: string | undefined): number | null {
  return word === undefined ? null : (parseDuration_ms(word) ?? Number.NaN) / 1000;
}

/** Whole seconds from 1s to 1000000s. */
export function* recoveryFaults(word: string | undefined, path: (string | number)[]): Generator<Fault> {
  const seconds = recovery_s(word);
  if (seconds === null || (Number.isInteger(seconds) && seconds >= 1 && seconds <= 1_000_000)) return;
  yield { path, blame: 'value', message: `"${word}" is out of range: whole seconds from 1s to 1000000s` };
}
