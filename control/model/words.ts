/** The words that specs are written in: names, sizes, durations, rates, ranges; and what each means. Pure. */
import { z } from 'zod';
import { VlanId } from '../../dataplane/contract.js';

/** Lower case, digits and inner hyphens; short enough for a Unix socket's path to hold it. */
export const Name = z
  .string()
  .regex(/^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$/, 'a name is 1 to 40 of a-z, 0-9 and inner hyphens')
  .meta({ description: '1 to 40 lower-case letters, digits and inner hyphens' });

const SIZE_UNITS: Readonly<Record<string, number>> = {
  B: 1,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
};

/** `64MiB` -> 67108864; undefined when it is not a size. */
export function parseSize(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?) ?(B|KiB|MiB|GiB|TiB)$/.exec(text);
  if (match === null) return undefined;
  const size_bytes = Number(match[1]) * (SIZE_UNITS[match[2] ?? ''] ?? Number.NaN);
  return Number.isSafeInteger(size_bytes) ? size_bytes : undefined;
}

const DURATION_UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** `90s` -> 90000; undefined when it is not a duration. */
export function parseDuration_ms(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(text);
  if (match === null) return undefined;
  return Math.round(Number(match[1]) * (DURATION_UNITS[match[2] ?? ''] ?? Number.NaN));
}

/** Kept as the user wrote it; `parseSize` gives bytes. */
export const Size = z
  .string()
  .refine(text => parseSize(text) !== undefined, 'a size is a number and a unit: B, KiB, MiB, GiB or TiB')
  .meta({ examples: ['64MiB', '20GiB'] });

export const Duration = z
  .string()
  .refine(text => parseDuration_ms(text) !== undefined, 'a duration is a number and a unit: ms, s, m or h')
  .meta({ examples: ['30s', '5m'] });

/** `10` or `"20-29"`. */
export const VlanRange = z.union([
  VlanId,
  z
    .string()
    .regex(/^\d{1,4}-\d{1,4}$/, 'a range of VLANs is written "20-29"')
    .refine(text => {
      const [first = 0, last = 0] = text.split('-').map(Number);
      return first >= 1 && first <= last && last <= 4094;
    }, 'a range of VLANs lies within 1-4094, its smaller end first'),
]);

const BIT_RATE_UNITS: Readonly<Record<string, number>> = { bit: 1, kbit: 1e3, Mbit: 1e6, Gbit: 1e9 };

/** `10Mbit` -> 10000000 bits per second; undefined when it is not a rate. */
export function parseBitRate_bps(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)(bit|kbit|Mbit|Gbit)$/.exec(text);
  if (match === null) return undefined;
  return Math.round(Number(match[1]) * (BIT_RATE_UNITS[match[2] ?? ''] ?? Number.NaN));
}

/** Per second; decimal units as network people use them. */
export const BitRate = z
  .string()
  .refine(
    text => parseBitRate_bps(text) !== undefined,
    'a rate is a number and a unit: bit, kbit, Mbit or Gbit',
  )
  .meta({ examples: ['10Mbit', '2.5Gbit'] });

/** Of a station: not a group's. */
export const StationMac = z
  .string()
  .regex(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/, 'a MAC address is six lower-case hexadecimal bytes with colons')
  .refine(
    mac => (Number.parseInt(mac.slice(0, 2), 16) & 1) === 0,
    'a group address cannot be the address of a card',
  );
