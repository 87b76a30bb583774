/**
 * A catalogue as text; pure. catalogLog.ts keeps it in a file.
 *
 *   <crc32, 8 hex> {"n":0,"catalog":2,"pool":UUID}         n: of the last batch before those that follow
 *   <crc32, 8 hex> {"n":1,"changes":[...]}                 one line is one batch: all of it or nothing
 *
 * A record is whole in each change, so a line that is lost takes nothing with it but what it said. The last line may be cut
 * short by a crash: it was never acknowledged, and is cut off. A bad line before others is damage: it is told, the rest
 * counts, and nothing is changed any more.
 *
 * A note (`noteOf`) is what a catalogue says of one layer, in the same form: it lies beside the layer's files, and a catalogue
 * that is lost is made again from them (recovery.ts). Batches are counted for ever, so of two the later one is known.
 */
import * as zlib from 'node:zlib';
import { z } from 'zod';
import { Catalog } from './catalog.js';
import { Change } from './records.js';

const CATALOG_FORMAT = 2;

const Head = z.strictObject({ n: z.int().min(0), catalog: z.literal(CATALOG_FORMAT), pool: z.uuid() });
const Batch = z.strictObject({ n: z.int().min(1), changes: z.array(Change) });
/** Of any format: to say which, where we cannot read it. */
const AnyHead = z.looseObject({ catalog: z.int() });

/** `last`: number of the batch before the first that follows. */
export function headLine(pool: string, last = 0): string {
  return line({ n: last, catalog: CATALOG_FORMAT, pool });
}

export function batchLine(n: number, changes: readonly Change[]): string {
  return line({ n, changes });
}

/** Any value, as a line of a catalogue is written. */
export function line(value: unknown): string {
  const text = JSON.stringify(value);
  return `${zlib.crc32(text).toString(16).padStart(8, '0')} ${text}\n`;
}

export interface Replayed {
  readonly catalog: Catalog;
  readonly pool: string | null;
  /** Number of the next batch. */
  readonly next: number;
  /** How much of the text counts; what is behind was cut short by a crash. */
  readonly length_bytes: number;
  readonly batchCount: number;
  /** Layers that were dropped and have no record now: their files may go. */
  readonly dropped: ReadonlySet<string>;
  /** In words; not empty: nothing must be changed. */
  readonly damage: string[];
  /** Whole lines that a newer weft wrote, in words; null: none. What they say must not be lost by a repair. */
  readonly newer: string | null;
}

/** Never throws, whatever the text. `onBatch` is told each batch that can be read. */
export function replay(
  bytes: Uint8Array,
  onBatch: (n: number, changes: readonly Change[]) => void = () => undefined,
): Replayed {
  const catalog = new Catalog();
  const damage: string[] = [];
  const dropped = new Set<string>();
  let newer: string | null = null;
  let pool: string | null = null;
  let next = 0;
  let length_bytes = 0;
  let batchCount = 0;
  let number = 0;
  const decoder = new TextDecoder();
  for (let at = 0; at < bytes.length;) {
    const end = bytes.indexOf(10, at);
    number++;
    const isLast = end < 0 || end === bytes.length - 1;
    const value = end < 0 ? undefined : valueOf(decoder.decode(bytes.subarray(at, end)));
    if (value === undefined && isLast) break;
    at = end + 1;
    length_bytes = at;
    if (value === undefined) {
      damage.push(`line ${number} is damaged: what it said is lost`);
      continue;
    }
    if (number === 1) {
      const head = Head.safeParse(value);
      if (head.success) {
        pool = head.data.pool;
        next = head.data.n + 1;
        continue;
      }
      const any = AnyHead.safeParse(value);
      if (any.success && any.data.catalog !== CATALOG_FORMAT)
        newer = `it is of format ${any.data.catalog}, this weft knows ${CATALOG_FORMAT}`;
      else damage.push('line 1 does not say that this is a catalogue');
      if (!isBatch(value)) continue;
    }
    const batch = Batch.safeParse(value);
    if (!batch.success) {
      damage.push(`line ${number} says what this weft does not understand`);
      newer ??= `line ${number} says what this weft does not understand`;
      continue;
    }
    if (batch.data.n !== next && damage.length === 0)
      damage.push(`before line ${number} batches ${next} to ${batch.data.n - 1} are missing`);
    next = Math.max(next, batch.data.n + 1);
    batchCount++;
    onBatch(batch.data.n, batch.data.changes);
    catalog.apply(batch.data.changes);
    for (const change of batch.data.changes)
      if (change.do === 'drop' && change.kind === 'layer') dropped.add(change.uuid);
      else if (change.do === 'layer') dropped.delete(change.layer.uuid);
  }
  return { catalog, pool, next, length_bytes, batchCount, dropped, damage, newer };
}

function isBatch(value: unknown): boolean {
  return Batch.safeParse(value).success;
}

/** What the catalogue says of a layer: itself, the volume of which it is the top, the snapshots that are it. `n`: of the newest batch. */
export function noteOf(catalog: Catalog, pool: string, n: number, uuid: string): string | null {
  const layer = catalog.layers.get(uuid);
  if (layer === undefined) return null;
  const volume = catalog.volumeAt(uuid);
  const changes: Change[] = [
    { do: 'layer', layer },
    ...(volume === undefined ? [] : [{ do: 'volume', volume } as const]),
    ...catalog.snapshotsAt(uuid).map((snapshot): Change => ({ do: 'snapshot', snapshot })),
  ];
  return headLine(pool, n - 1) + batchLine(n, changes);
}

/** Layers of whose notes these changes make something else; asked before they are made and after. */
export function touchedBy({ volumes, snapshots }: Catalog, changes: readonly Change[]): string[] {
  return changes.flatMap(change => {
    if (change.do === 'layer') return [change.layer.uuid];
    if (change.do === 'volume') return volumes.get(change.volume.uuid)?.top ?? [];
    if (change.do === 'snapshot') return snapshots.get(change.snapshot.uuid)?.layer ?? [];
    return volumes.get(change.uuid)?.top ?? snapshots.get(change.uuid)?.layer ?? [];
  });
}

export interface Note {
  readonly pool: string;
  readonly n: number;
  readonly changes: readonly Change[];
}

/** null: it says nothing that could be believed of this layer. */
export function parseNote(bytes: Uint8Array, uuid: string): Note | null {
  let note: { n: number; changes: readonly Change[] } | null = null;
  const { pool, damage, newer } = replay(bytes, (n, changes) => (note = { n, changes }));
  // Assigned in a callback, which the compiler does not see.
  const found = note as { n: number; changes: readonly Change[] } | null;
  if (pool === null || damage.length > 0 || newer !== null || found === null) return null;
  const first = found.changes[0];
  return first?.do === 'layer' && first.layer.uuid === uuid ? { pool, ...found } : null;
}

function valueOf(text: string): unknown {
  if (text[8] !== ' ') return undefined;
  const json = text.slice(9);
  if (zlib.crc32(json).toString(16).padStart(8, '0') !== text.slice(0, 8)) return undefined;
  try {
    return JSON.parse(json) as unknown;
  } catch {
    return undefined;
  }
}
