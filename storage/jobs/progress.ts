/**
 * What is there of a backup that is being made, so that one that was cut short is gone on with: a line for what it is, then one for
 * each piece that was copied. Codec only; pure.
 *
 * The lines are not synced, nor is what they speak of: whoever goes on reads each piece and compares its sum.
 */
import { z } from 'zod';
import { BACKUP_NAME } from './manifest.js';

const Sha256 = z.string().regex(/^[0-9a-f]{64}$/);

const Head = z.strictObject({
  format: z.literal('weft-backup-progress-1'),
  volumeUuid: z.uuid(),
  snapshot: z.strictObject({ name: z.string().regex(BACKUP_NAME), uuid: z.uuid() }),
  /** Name of what it builds upon; null: a full one. */
  base: z.string().regex(BACKUP_NAME).nullable(),
  createdAt_ms: z.number(),
  size_bytes: z.int().min(0),
  encrypted: z.boolean(),
  /** SHA-256 of all that decides what is in the backup: only one that is to have the same goes on. */
  content: Sha256,
});
export type ProgressHead = z.infer<typeof Head>;

const Piece = z.tuple([z.int().min(0), z.int().min(1), Sha256]);
/** [offset, length, SHA-256], in bytes. */
export type Piece = z.infer<typeof Piece>;

export interface Progress {
  readonly head: ProgressHead;
  readonly pieces: readonly Piece[];
  /** Where the next line goes: behind the last whole one. */
  readonly end_bytes: number;
}

export function progressLine(value: ProgressHead | Piece): string {
  return `${JSON.stringify(value)}\n`;
}

/** Never throws; null: not even its head is whole. What comes behind the first line that is not, does not count. */
export function parseProgress(text: string): Progress | null {
  const lines = text.split('\n');
  // Behind the last end of a line is nothing, or a line that was cut off.
  lines.pop();
  const head = Head.safeParse(jsonOf(lines[0] ?? ''));
  if (!head.success) return null;
  const pieces: Piece[] = [];
  // All that counts is of single-byte characters.
  let end_bytes = lines[0]!.length + 1;
  for (const line of lines.slice(1)) {
    const piece = Piece.safeParse(jsonOf(line));
    if (!piece.success) break;
    pieces.push(piece.data);
    end_bytes += line.length + 1;
  }
  return { head: head.data, pieces, end_bytes };
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
