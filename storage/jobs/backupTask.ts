/**
 * Writing a backup, to a directory or over an export of another NBD server: what a chain of frozen layers has, or what differs
 * from an older one. In a directory it is whole or not there, and one that was cut short is gone on with: what of it is on the
 * target is read there and compared, not copied again. Over NBD it is written in place, and what the target holds meanwhile is
 * neither the old nor the new.
 */
import { StorageError } from '../volume/errors.js';
import type { Session } from '../remote/session.js';
import type { Making } from './backupPlace.js';
import type { BlockCipher } from './blockCipher.js';
import { ChainReader } from './chainReader.js';
import { Difference, coarsen, type Extent } from './extents.js';
import {
  closeFile,
  createFile,
  exists,
  ftruncate,
  newHash,
  openWritable,
  readFilled,
  readText,
  removeFile,
  sha256,
  syncData,
  writeAt,
  writeText,
} from './file.js';
import type { LayerFile } from './layerFile.js';
import {
  EXTENTS_LIMIT,
  MANIFEST_LIMIT_BYTES,
  formatManifest,
  pieceBytesOf,
  sealManifest,
  type Manifest,
  type ManifestBody,
  type ManifestExtent,
} from './manifest.js';
import { parseProgress, progressLine, type Piece, type ProgressHead } from './progress.js';
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
  for (let at = difference.nextGroup(0); at !== Infinity; at = difference.nextGroup(at + 1)) {
    difference.group(at, extents);
    while (extents.length > limit) {
      grain_bytes *= 2;
      extents = coarsen(extents, grain_bytes, difference.size_bytes);
    }
    await slices.moved(0);
  }
  return grain_bytes === BLOCK_BYTES ? extents : coarsen(extents, grain_bytes, difference.size_bytes);
}

export type BackupHead = Omit<
  ManifestBody,
  'format' | 'piece_bytes' | 'data_bytes' | 'zero_bytes' | 'extents'
>;

/** What is to be in a backup. */
export interface Backup {
  readonly chain: readonly LayerFile[];
  /** null: all of it. */
  readonly from: readonly LayerFile[] | null;
  readonly head: BackupHead;
  /** What is read is decrypted. */
  readonly cipher: BlockCipher | null;
}

export interface Written {
  readonly manifest: Manifest;
  /** Of `data_bytes`: what an earlier try had copied already. */
  readonly resumed_bytes: number;
}

/** Into `making`, durably and whole, but for names; the caller publishes it. */
export async function writeBackup(
  { chain, from, head, cipher }: Backup,
  making: Making,
  buffer: Uint8Array,
  slices: Slices,
): Promise<Written> {
  const extents = await extentsOf(chain, from, slices);
  const data_bytes = dataBytesOf(extents);
  slices.expect(data_bytes);
  const piece_bytes = pieceBytesOf(head.size_bytes);
  const reader = new ChainReader(chain);
  const listed: ManifestExtent[] = [];
  let zero_bytes = 0;
  let resumed_bytes = 0;
  const writing = new Writing(making, progressHeadOf(head, piece_bytes, extents), head.size_bytes);
  try {
    for (const { offset_bytes, length_bytes, zero } of extents) {
      if (zero) {
        zero_bytes += length_bytes;
        listed.push([offset_bytes, length_bytes]);
        continue;
      }
      for (const [at, length] of cut(offset_bytes, length_bytes, piece_bytes)) {
        let sum = await writing.sumThere(at, length, buffer, slices);
        if (sum !== null) resumed_bytes += length;
        else {
          const hash = newHash();
          for (const [from_bytes, slice] of cut(at, length, SLICE_BYTES)) {
            const bytes = buffer.subarray(0, slice);
            reader.read(from_bytes, bytes);
            cipher?.decrypt(bytes, from_bytes);
            hash.update(bytes);
            writing.put(bytes, from_bytes);
            await slices.moved(slice);
          }
          sum = hash.hex();
          writing.noteDone([at, length, sum]);
        }
        listed.push([at, length, sum]);
      }
    }
    writing.sync();
  } finally {
    writing.close();
  }
  const body = { ...head, piece_bytes, data_bytes, zero_bytes, extents: listed };
  const manifest = sealManifest({ format: 'weft-backup-1', ...body }, sha256);
  // A try that was cut off after this leaves one, which nobody has seen.
  if (exists(making.manifestFile)) removeFile(making.manifestFile);
  writeText(making.manifestFile, formatManifest(manifest));
  return { manifest, resumed_bytes };
}

/** What goes into a backup, in the form in which it is known again. */
function progressHeadOf(head: BackupHead, piece_bytes: number, extents: readonly Extent[]): ProgressHead {
  const { uuid, snapshot, base, size_bytes, encryption, createdAt_ms } = head;
  const content = { uuid, snapshot: snapshot.uuid, base, size_bytes, piece_bytes, encryption, extents };
  return {
    format: 'weft-backup-progress-1',
    volumeUuid: uuid,
    snapshot,
    base: base?.name ?? null,
    createdAt_ms,
    size_bytes,
    encrypted: encryption !== undefined,
    content: sha256(JSON.stringify(content)),
  };
}

/** The files of a backup that is being made, and what an earlier try has left in them. */
class Writing {
  readonly #data: number;
  readonly #progress: number;
  #progress_bytes: number;
  /** By offset. */
  #there = new Map<number, Piece>();

  constructor(making: Making, head: ProgressHead, size_bytes: number) {
    const { dataFile, progressFile } = making;
    const text = making.isResumed ? readText(progressFile, MANIFEST_LIMIT_BYTES) : null;
    const progress = text === null ? null : parseProgress(text);
    if (progress !== null && progress.head.content === head.content && exists(dataFile)) {
      for (const piece of progress.pieces) this.#there.set(piece[0], piece);
      this.#progress_bytes = progress.end_bytes;
      this.#data = openWritable(dataFile);
      try {
        this.#progress = openWritable(progressFile);
      } catch (error) {
        closeFile(this.#data);
        throw error;
      }
      return;
    }
    // Of the same snapshot, but to have other things: nothing of it is of use.
    for (const file of [dataFile, progressFile]) if (exists(file)) removeFile(file);
    this.#data = createFile(dataFile);
    try {
      ftruncate(this.#data, size_bytes);
      this.#progress = createFile(progressFile);
    } catch (error) {
      closeFile(this.#data);
      throw error;
    }
    this.#progress_bytes = 0;
    this.#note(head);
  }

  /** The sum of a piece that is there as it was noted. */
  async sumThere(
    offset_bytes: number,
    length_bytes: number,
    buffer: Uint8Array,
    slices: Slices,
  ): Promise<string | null> {
    const piece = this.#there.get(offset_bytes);
    if (piece === undefined || piece[1] !== length_bytes) return null;
    const hash = newHash();
    for (const [at, length] of cut(offset_bytes, length_bytes, SLICE_BYTES)) {
      const bytes = buffer.subarray(0, length);
      readFilled(this.#data, bytes, at);
      hash.update(bytes);
      await slices.moved(length);
    }
    return hash.hex() === piece[2] ? piece[2] : null;
  }

  put(bytes: Uint8Array, offset_bytes: number): void {
    writeAt(this.#data, bytes, offset_bytes);
  }

  noteDone(piece: Piece): void {
    this.#note(piece);
  }

  sync(): void {
    syncData(this.#data);
  }

  close(): void {
    closeFile(this.#data);
    closeFile(this.#progress);
  }

  #note(what: ProgressHead | Piece): void {
    const bytes = Buffer.from(progressLine(what));
    writeAt(this.#progress, bytes, this.#progress_bytes);
    this.#progress_bytes += bytes.length;
  }
}

/** Over the export, flushed when it resolves. `from` null: whatever it has. Resolves to the bytes that were written. */
export async function writeRemote(
  chain: readonly LayerFile[],
  from: readonly LayerFile[] | null,
  session: Session,
  cipher: BlockCipher | null,
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
        cipher?.decrypt(bytes, at);
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
