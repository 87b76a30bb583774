/**
 * Writing a backup, to a directory or over an export of another NBD server: what a chain of frozen layers has, or what differs
 * from an older one. In a directory it is whole or not there; over NBD it is written in place, and what the target holds
 * meanwhile is neither the old nor the new.
 */
import { StorageError } from '../volume/errors.js';
import type { Session } from '../remote/session.js';
import type { Making } from './backupPlace.js';
import { ChainReader } from './chainReader.js';
import { Difference, coarsen, type Extent } from './extents.js';
import { closeFile, createFile, ftruncate, newHash, sha256, syncData, writeAt, writeText } from './file.js';
import type { LayerFile } from './layerFile.js';
import {
  EXTENTS_LIMIT,
  formatManifest,
  pieceBytesOf,
  sealManifest,
  type Manifest,
  type ManifestBody,
  type ManifestExtent,
} from './manifest.js';
import { SLICE_BYTES, type Slices } from './slices.js';

const BLOCK_BYTES = 4096;

/** What a backup has of a volume: all data of `chain`, or what differs from `from`; in coarser steps where it would be too many. */
export async function extentsOf(
  chain: readonly LayerFile[],
  from: readonly LayerFile[] | null,
  slices: Slices,
  limit: number = EXTENTS_LIMIT,
): Promise<Extent[]> {
  const difference = new Difference(from, chain);
  let extents: Extent[] = [];
  let grain_bytes = BLOCK_BYTES;
  for (let group = 0; group < difference.groupCount; group++) {
    const next = nextGroupOf(chain, from, group);
    if (next > group) {
      if (next === Infinity) break;
      group = next;
    }
    difference.group(group, extents);
    while (extents.length > limit) {
      grain_bytes *= 2;
      extents = coarsen(extents, grain_bytes, difference.size_bytes);
    }
    await slices.moved(0);
  }
  return grain_bytes === BLOCK_BYTES ? extents : coarsen(extents, grain_bytes, difference.size_bytes);
}

function nextGroupOf(chain: readonly LayerFile[], from: readonly LayerFile[] | null, group: number): number {
  let next = Infinity;
  for (const layer of [...chain, ...(from ?? [])]) next = Math.min(next, layer.nextGroup(group));
  return next;
}

export type BackupHead = Omit<
  ManifestBody,
  'format' | 'piece_bytes' | 'data_bytes' | 'zero_bytes' | 'extents'
>;

/** Into `making`, durably and whole; the caller publishes it. */
export async function writeBackup(
  chain: readonly LayerFile[],
  from: readonly LayerFile[] | null,
  head: BackupHead,
  making: Making,
  buffer: Uint8Array,
  slices: Slices,
): Promise<Manifest> {
  const extents = await extentsOf(chain, from, slices);
  const total_bytes = dataBytesOf(extents);
  slices.expect(total_bytes);
  const piece_bytes = pieceBytesOf(head.size_bytes);
  const reader = new ChainReader(chain);
  const listed: ManifestExtent[] = [];
  let zero_bytes = 0;
  const fd = createFile(making.dataFile);
  try {
    ftruncate(fd, head.size_bytes);
    for (const { offset_bytes, length_bytes, zero } of extents) {
      if (zero) {
        zero_bytes += length_bytes;
        listed.push([offset_bytes, length_bytes]);
        continue;
      }
      for (const [at, length] of cut(offset_bytes, length_bytes, piece_bytes)) {
        const hash = newHash();
        for (const [from_bytes, slice] of cut(at, length, SLICE_BYTES)) {
          const bytes = buffer.subarray(0, slice);
          reader.read(from_bytes, bytes);
          hash.update(bytes);
          writeAt(fd, bytes, from_bytes);
          await slices.moved(slice);
        }
        listed.push([at, length, hash.hex()]);
      }
    }
    syncData(fd);
  } finally {
    closeFile(fd);
  }
  const body = { ...head, piece_bytes, data_bytes: total_bytes, zero_bytes, extents: listed };
  const manifest = sealManifest({ format: 'weft-backup-1', ...body }, sha256);
  writeText(making.manifestFile, formatManifest(manifest));
  return manifest;
}

/** Over the export, flushed when it resolves. `from` null: whatever it has. Resolves to the bytes that were written. */
export async function writeRemote(
  chain: readonly LayerFile[],
  from: readonly LayerFile[] | null,
  session: Session,
  buffer: Uint8Array,
  slices: Slices,
): Promise<number> {
  const size_bytes = chain[0]!.size_bytes;
  if (session.readOnly) throw new StorageError('REMOTE_REFUSED', 'the export is read-only');
  if (session.size_bytes < size_bytes)
    throw new StorageError(
      'REMOTE_REFUSED',
      `the export has ${session.size_bytes} bytes, the volume ${size_bytes}: make it larger`,
    );
  const extents = await extentsOf(chain, from, slices);
  const total_bytes = dataBytesOf(extents);
  slices.expect(total_bytes);
  const reader = new ChainReader(chain);
  let end = 0;
  for (const { offset_bytes, length_bytes, zero } of extents) {
    // What a full copy does not write has to read as zeroes, whatever was there.
    if (from === null && offset_bytes > end) await session.zero(end, offset_bytes - end);
    end = offset_bytes + length_bytes;
    if (zero) await session.zero(offset_bytes, length_bytes);
    else
      for (const [at, length] of cut(offset_bytes, length_bytes, SLICE_BYTES)) {
        const bytes = buffer.subarray(0, length);
        reader.read(at, bytes);
        await session.write(at, bytes);
        await slices.moved(length);
      }
  }
  if (from === null && end < size_bytes) await session.zero(end, size_bytes - end);
  await session.flush();
  return total_bytes;
}

function dataBytesOf(extents: readonly Extent[]): number {
  return extents.reduce((sum, { zero, length_bytes }) => sum + (zero ? 0 : length_bytes), 0);
}

/** At multiples of `step` in the volume. */
export function* cut(offset_bytes: number, length_bytes: number, step: number): Generator<[number, number]> {
  const end = offset_bytes + length_bytes;
  for (let at = offset_bytes; at < end;) {
    const next = Math.min(end, (Math.floor(at / step) + 1) * step);
    yield [at, next - at];
    at = next;
  }
}
