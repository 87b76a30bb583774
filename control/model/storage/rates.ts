/** What a volume may use per second, as users say it: `iops: 500`, `bandwidth: { rate: 100MiB/s, burst: 1GiB }`. */
import { z } from 'zod';
import type { RateLimit, VolumeLimits } from '../../../storage/contract.js';
import { Size, parseSize } from '../words.js';

/** `100MiB/s` -> bytes per second; undefined when it is not a bandwidth. */
export function parseBandwidth(text: string): number | undefined {
  const size = /^(.+)\/s$/.exec(text)?.[1];
  const rate_per_s = size === undefined ? undefined : parseSize(size);
  return rate_per_s === undefined || rate_per_s < 1 ? undefined : rate_per_s;
}

const Bandwidth = z
  .string()
  .refine(
    text => parseBandwidth(text) !== undefined,
    'a bandwidth is a size per second: 100MiB/s, 512KiB/s, 1GiB/s',
  )
  .meta({ examples: ['100MiB/s'] });

const BURST = 'what may be used at once after a silence; default: one second worth';
const Operations = z.int().min(1).max(1_000_000_000);

const OperationsWords = z.union([
  Operations,
  z.strictObject({ rate: Operations, burst: Operations.optional().meta({ description: BURST }) }),
]);
const BandwidthWords = z.union([
  Bandwidth,
  z.strictObject({ rate: Bandwidth, burst: Size.optional().meta({ description: BURST }) }),
]);

export const LimitsWords = z
  .strictObject({
    iops: OperationsWords.optional().meta({ description: 'requests per second, reads and writes together' }),
    readIops: OperationsWords.optional(),
    writeIops: OperationsWords.optional(),
    bandwidth: BandwidthWords.optional().meta({
      description: 'bytes per second, reads and writes together',
    }),
    readBandwidth: BandwidthWords.optional(),
    writeBandwidth: BandwidthWords.optional(),
  })
  .meta({ description: 'what all clients of the volume together may use' });
export type LimitsWords = z.infer<typeof LimitsWords>;

function operationsToPlane(words: z.infer<typeof OperationsWords> | undefined): RateLimit | undefined {
  if (words === undefined) return undefined;
  const { rate, burst } = typeof words === 'number' ? { rate: words, burst: undefined } : words;
  return { rate_per_s: rate, ...(burst === undefined ? {} : { burst }) };
}

function bandwidthToPlane(words: z.infer<typeof BandwidthWords> | undefined): RateLimit | undefined {
  if (words === undefined) return undefined;
  const { rate, burst } = typeof words === 'string' ? { rate: words, burst: undefined } : words;
  return {
    rate_per_s: parseBandwidth(rate) ?? Number.NaN,
    ...(burst === undefined ? {} : { burst: parseSize(burst) ?? Number.NaN }),
  };
}

/** Undefined when nothing is limited. */
export function limitsToPlane(words: LimitsWords | undefined): VolumeLimits | undefined {
  const all = {
    operations: operationsToPlane(words?.iops),
    readOperations: operationsToPlane(words?.readIops),
    writeOperations: operationsToPlane(words?.writeIops),
    bytes: bandwidthToPlane(words?.bandwidth),
    readBytes: bandwidthToPlane(words?.readBandwidth),
    writeBytes: bandwidthToPlane(words?.writeBandwidth),
  };
  const said = Object.entries(all).filter(([, limit]) => limit !== undefined);
  return said.length === 0 ? undefined : (Object.fromEntries(said) as VolumeLimits);
}
