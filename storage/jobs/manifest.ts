/**
 * A backup's manifest.json: what its `data` file holds, so that it can be checked and restored. Codec only; pure.
 *
 * `data` is a sparse file in which a volume's offset is the file's offset, so a full backup is the volume as it is, and an
 * incremental one is laid over what it builds upon by copying its data extents and zeroing its zero extents, with any tool.
 *
 * Each data extent is at most `piece_bytes` long and has the SHA-256 of its bytes. The manifest has one itself (`sha256`, of
 * the text of the other fields), so that a damaged list is not taken for a whole one.
 */
import { z } from 'zod';
import type { BackupEntry } from '../contract/jobs.js';
import { VOLUME_NAME } from '../pool/meta.js';

/** More is not read. */
export const MANIFEST_LIMIT_BYTES = 256 * 1024 * 1024;
/** Extents in a manifest; what is more scattered is kept in coarser steps. */
export const EXTENTS_LIMIT = 1_000_000;
const BLOCK_BYTES = 4096;
const PIECE_BYTES = 4 * 1024 * 1024;
const SIZE_LIMIT_BYTES = 2 ** 46;

export const BACKUP_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
const Name = z.string().regex(BACKUP_NAME);
const Sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const Offset = z.int().min(0).max(SIZE_LIMIT_BYTES);

/**
 * What an encrypted volume's blocks are encrypted with. The key comes of a file and `keyUuid` (cipher/key.ts); `keyCheck` is an
 * HMAC by the key: it tells whether a file is the right one, and nothing of the key.
 */
export const Encryption = z.strictObject({
  cipher: z.literal('aes-256-xts'),
  keyUuid: z.uuid(),
  keyCheck: z.string().regex(/^[0-9a-f]{32}$/),
});
export type Encryption = z.infer<typeof Encryption>;

/** [offset, length, SHA-256] has data, [offset, length] reads as zeroes. In order, not overlapping. */
const ManifestExtent = z.union([
  z.tuple([Offset, z.int().min(1).max(SIZE_LIMIT_BYTES), Sha256]),
  z.tuple([Offset, z.int().min(1).max(SIZE_LIMIT_BYTES)]),
]);
export type ManifestExtent = z.infer<typeof ManifestExtent>;

const Body = z.strictObject({
  format: z.literal('weft-backup-1'),
  /** Of the volume. */
  uuid: z.uuid(),
  volume: z.string().regex(VOLUME_NAME),
  name: Name,
  size_bytes: z.int().min(512).max(SIZE_LIMIT_BYTES),
  /** Counts the backups of a volume in a directory: the order that no clock can disturb. */
  sequence: z.int().min(1),
  snapshot: z.strictObject({ name: Name, uuid: z.uuid() }),
  /** What it builds upon; null: a full backup. */
  base: z.strictObject({ name: Name, snapshotUuid: z.uuid(), manifestSha256: Sha256 }).nullable(),
  createdAt_ms: z.number(),
  /** `data` has ciphertext, but for blocks of zeroes; absent: it has what the volume reads as. The same in all of a chain. */
  encryption: Encryption.optional(),
  piece_bytes: z
    .int()
    .min(4096)
    .max(2 ** 30),
  data_bytes: z.int().min(0),
  zero_bytes: z.int().min(0),
  extents: z.array(ManifestExtent).max(4 * EXTENTS_LIMIT),
});
export type ManifestBody = z.infer<typeof Body>;
const Manifest = Body.extend({ sha256: Sha256 });
export type Manifest = z.infer<typeof Manifest>;

/** SHA-256 in hex, of node:crypto; handed in, as this file is pure. */
export type Sha256Text = (text: string) => string;

/** How long a piece with a sum of its own is: so that even 64 TiB have no more than a million. */
export function pieceBytesOf(size_bytes: number): number {
  let piece_bytes = PIECE_BYTES;
  while (size_bytes / piece_bytes > EXTENTS_LIMIT) piece_bytes *= 2;
  return piece_bytes;
}

export function sealManifest(body: ManifestBody, sha256: Sha256Text): Manifest {
  const ordered = Body.parse(body);
  return { ...ordered, sha256: sha256(JSON.stringify(ordered)) };
}

/** An extent to a line: people read these, too. */
export function formatManifest(manifest: Manifest): string {
  const { extents, sha256, ...head } = manifest;
  const lines = extents.map(extent => JSON.stringify(extent)).join(',\n');
  const text = JSON.stringify(head, null, 1).slice(0, -2);
  return `${text},\n "extents": [\n${lines}\n ],\n "sha256": "${sha256}"\n}\n`;
}

export type ParsedManifest = { manifest: Manifest; problem: null } | { manifest: null; problem: string };

/** Never throws. `problem` says in words why this is no manifest, or not a whole one. */
export function parseManifest(text: string, sha256: Sha256Text): ParsedManifest {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { manifest: null, problem: text === '' ? 'it is empty or too long' : 'it is no JSON' };
  }
  const parsed = Manifest.safeParse(value);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    return { manifest: null, problem: `${issue?.path.join('.') || 'it'}: ${issue?.message ?? 'not valid'}` };
  }
  const { sha256: told, ...body } = parsed.data;
  if (sha256(JSON.stringify(Body.parse(body))) !== told)
    return { manifest: null, problem: 'its own SHA-256 does not match: it was changed or damaged' };
  const problem = problemOf(body);
  return problem === null ? { manifest: parsed.data, problem: null } : { manifest: null, problem };
}

function problemOf(body: ManifestBody): string | null {
  let end = 0;
  let data_bytes = 0;
  let zero_bytes = 0;
  if (body.size_bytes % BLOCK_BYTES !== 0) return 'its size is no multiple of 4096';
  for (const [offset_bytes, length_bytes, sum] of body.extents) {
    if (offset_bytes % BLOCK_BYTES !== 0 || length_bytes % BLOCK_BYTES !== 0)
      return `an extent is not of whole blocks at ${offset_bytes}`;
    if (offset_bytes < end) return `extents overlap or are out of order at ${offset_bytes}`;
    end = offset_bytes + length_bytes;
    if (end > body.size_bytes) return `an extent reaches beyond the volume, to ${end}`;
    if (sum === undefined) zero_bytes += length_bytes;
    else if (length_bytes > body.piece_bytes) return `an extent is longer than a piece at ${offset_bytes}`;
    else data_bytes += length_bytes;
  }
  if (data_bytes !== body.data_bytes || zero_bytes !== body.zero_bytes)
    return 'its totals are not those of its extents';
  return null;
}

export function entryOf(manifest: Manifest): BackupEntry {
  const { volume, name, base, createdAt_ms, size_bytes, data_bytes } = manifest;
  return {
    volume,
    name,
    kind: base === null ? 'full' : 'incremental',
    base: base?.name ?? null,
    createdAt_ms,
    size_bytes,
    stored_bytes: data_bytes,
    state: 'whole',
    encrypted: manifest.encryption !== undefined,
  };
}

export interface Chain {
  /** The full one first. */
  readonly chain: readonly Manifest[];
  /** Why it is not whole; null: it is. */
  readonly problem: string | null;
}

/** What has to be laid over each other for `tip`. A base that was replaced by another of the same name is not one. */
export function chainOf(tip: Manifest, all: readonly Manifest[]): Chain {
  const chain = [tip];
  for (;;) {
    const { base, name, sequence } = chain[0]!;
    if (base === null) return { chain, problem: null };
    const found = all.find(one => one.sha256 === base.manifestSha256 && one.volume === tip.volume);
    if (found === undefined)
      return { chain, problem: `backup ${name} builds upon ${base.name}, which is not there or damaged` };
    // Counts down, so a ring of manifests, which no honest hand makes, ends too.
    if (found.sequence >= sequence) return { chain, problem: `backup ${name} builds upon a later one` };
    if (found.encryption?.keyCheck !== tip.encryption?.keyCheck)
      return { chain, problem: `backup ${name} builds upon ${base.name}, which is encrypted in another way` };
    chain.unshift(found);
  }
}

/**
 * Those that are not to be kept, in an order in which they can go: whatever builds upon one goes before it. What is damaged is not
 * among `manifests`, so its chain is not judged by it.
 */
export function unkept(
  manifests: readonly Manifest[],
  keep: { readonly last?: number | undefined; readonly age_ms?: number | undefined },
  now_ms: number,
): Manifest[] {
  const ordered = manifests.toSorted((a, b) => b.sequence - a.sequence);
  const kept = new Set(ordered.slice(0, Math.max(1, keep.last ?? 1)));
  const { age_ms } = keep;
  // One from the future is not old, whatever set the clock wrong.
  if (age_ms !== undefined) for (const one of ordered) if (now_ms - one.createdAt_ms <= age_ms) kept.add(one);
  const needed = new Set([...kept].flatMap(one => chainOf(one, manifests).chain));
  return ordered.filter(one => !needed.has(one));
}

/** The newest by sequence, whatever the clock said when it was made. */
export function newestOf(manifests: readonly Manifest[]): Manifest | null {
  return manifests.reduce<Manifest | null>(
    (best, one) => (best === null || one.sequence > best.sequence ? one : best),
    null,
  );
}
