/** Storm control of a port, as users say it: `storm: { broadcast: 100/s, unknown: 5Mbit }`. */
import { z } from 'zod';
import type { PortStorm, StormLimit } from '../../../dataplane/contract.js';
import type { Fault } from '../fault.js';
import { parseBitRate_bps } from '../words.js';
import { RecoveryWord, recoveryFaults, recovery_s } from './recovery.js';

/** What a plane counts with. */
const RATE_MAX_PER_S = 1e12;

/** `100/s` frames, or `5Mbit`; undefined when it is neither. A burst is a tenth of a second's worth, 10 frames at least. */
export function parseStormRate(text: string): StormLimit | undefined {
  const frames = /^(\d{1,9})\/s$/.exec(text);
  if (frames !== null) {
    const rate_per_s = Number(frames[1]);
    if (rate_per_s < 1) return undefined;
    return { unit: 'frames', rate_per_s, burst: Math.max(10, Math.ceil(rate_per_s / 10)) };
  }
  const rate_per_s = parseBitRate_bps(text);
  if (rate_per_s === undefined || rate_per_s < 1) return undefined;
  return { unit: 'bits', rate_per_s, burst: Math.max(120_000, Math.ceil(rate_per_s / 10)) };
}

const StormRate = z
  .string()
  .refine(
    text => parseStormRate(text) !== undefined,
    'a storm limit is frames per second, 100/s, or a rate like 5Mbit',
  )
  .optional();

/** On a port or a machine's card. */
export const PortWords = z.strictObject({
  broadcast: StormRate,
  multicast: StormRate.meta({ description: 'to groups that nobody is known to have joined' }),
  unknown: StormRate.meta({ description: 'to stations that are not known' }),
  action: z.enum(['drop', 'shutdown']).default('drop'),
  recovery: RecoveryWord,
});
export type PortWords = z.infer<typeof PortWords>;

export function portToPlane(words: PortWords): PortStorm {
  const limit = (text: string | undefined): StormLimit | undefined =>
    text === undefined ? undefined : parseStormRate(text);
  const [broadcast, multicast, unknown] = [words.broadcast, words.multicast, words.unknown].map(limit);
  return {
    ...(broadcast === undefined ? {} : { broadcast }),
    ...(multicast === undefined ? {} : { multicast }),
    ...(unknown === undefined ? {} : { unknown }),
    action: words.action,
    recovery_s: recovery_s(words.recovery),
  };
}

/** Of one port; paths begin at it. */
export function* portFaults(storm: PortWords): Generator<Fault> {
  yield* recoveryFaults(storm.recovery, ['storm', 'recovery']);
  for (const word of ['broadcast', 'multicast', 'unknown'] as const) {
    const text = storm[word];
    if (text !== undefined && (parseStormRate(text)?.rate_per_s ?? 0) > RATE_MAX_PER_S)
      yield { path: ['storm', word], blame: 'value', message: `"${text}" is too fast: the most is 1000Gbit` };
  }
}
