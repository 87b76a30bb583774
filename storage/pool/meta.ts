/**
 * The two small files of a pool that are not data, as text: `pool.json` and a volume's `meta.json`. Pure. Reading
 * is strict: what does not parse whole is damaged, and is told, never guessed.
 */
import { z } from 'zod';

/** Raised when an older weft could not read what is written. 1: a directory for each volume; see formatOne.ts. */
export const FORMAT = 2;
const FORMAT_ONE = 1;

/** A name is a directory: nothing that a path could mean otherwise, and nothing hidden. */
export const VOLUME_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$/;

const PoolMeta = z.strictObject({
  format: z.union([z.literal(FORMAT), z.literal(FORMAT_ONE)], {
    error: 'it is of a format that this weft does not know: a newer weft made it',
  }),
  kind: z.literal('weft-pool'),
  uuid: z.uuid(),
  createdAt_ms: z.number(),
});
export type PoolMeta = z.infer<typeof PoolMeta>;

const VolumeMeta = z.strictObject({
  format: z.literal(FORMAT_ONE),
  kind: z.literal('weft-volume'),
  name: z.string().regex(VOLUME_NAME),
  uuid: z.uuid(),
  size_bytes: z
    .int()
    .min(4096)
    .max(2 ** 46)
    .multipleOf(4096),
  createdAt_ms: z.number(),
});
export type VolumeMeta = z.infer<typeof VolumeMeta>;

export type Parsed<T> = { meta: T; problem: null } | { meta: null; problem: string };

export function formatPool(meta: Omit<PoolMeta, 'format' | 'kind'>): string {
  return `${JSON.stringify({ format: FORMAT, kind: 'weft-pool', ...meta }, null, 2)}\n`;
}

export function formatVolume(meta: Omit<VolumeMeta, 'format' | 'kind'>): string {
  return `${JSON.stringify({ format: FORMAT_ONE, kind: 'weft-volume', ...meta }, null, 2)}\n`;
}

export function parsePool(text: string): Parsed<PoolMeta> {
  return parse(PoolMeta, text);
}

export function parseVolume(text: string): Parsed<VolumeMeta> {
  return parse(VolumeMeta, text);
}

function parse<T>(schema: z.ZodType<T>, text: string): Parsed<T> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { meta: null, problem: text.trim() === '' ? 'it is empty' : 'it is cut off or no JSON' };
  }
  const result = schema.safeParse(value);
  if (result.success) return { meta: result.data, problem: null };
  const issue = result.error.issues[0]!;
  return { meta: null, problem: `${issue.path.join('.') || 'it'}: ${issue.message}` };
}
