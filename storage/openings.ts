/** What the configuration says of volumes and exports, in the data thread's words (volume/opening.ts, nbd/rules.ts). Pure. */
import type { ExportConfig, RateLimit, VolumeLimits } from './contract.js';
import type { OfferRules } from './nbd/rules.js';
import type { LimitsOpening, RateOpening } from './volume/opening.js';

/** null: nothing is limited. */
export function limitsOf(limits: VolumeLimits | undefined): LimitsOpening | null {
  if (limits === undefined || Object.values(limits).every(rate => rate === undefined)) return null;
  return {
    operations: rateOf(limits.operations),
    readOperations: rateOf(limits.readOperations),
    writeOperations: rateOf(limits.writeOperations),
    bytes: rateOf(limits.bytes),
    readBytes: rateOf(limits.readBytes),
    writeBytes: rateOf(limits.writeBytes),
  };
}

/** One second's worth may be saved up, where nothing else is said. */
function rateOf(limit: RateLimit | undefined): RateOpening | null {
  if (limit === undefined) return null;
  return { rate_per_s: limit.rate_per_s, burst: limit.burst ?? limit.rate_per_s };
}

export function rulesOf(config: ExportConfig): OfferRules {
  return {
    description: config.description ?? '',
    minimumBlock_bytes: config.minimumBlock_bytes ?? 1,
    addresses: config.allow?.addresses ?? null,
    identities: config.allow?.identities ?? null,
    connectionLimit: config.connectionLimit ?? Infinity,
    idleLimit_ms: config.idleLimit_ms ?? Infinity,
    redialWhenGrown: config.redialWhenGrown ?? false,
  };
}
