/**
 * Reading backups back: into a new layer, or only to compare their sums. A restore lays a chain over each other, the full backup
 * first; every piece is compared before the layer it went to is anybody's. Blocks of zeroes take no space.
 */
import { ABSENT, BLOCK_BYTES, GROUP_BLOCKS, REGION_BYTES } from '../layers/map.js';
import { dataFileOf, manifestsOf, volumesIn } from './backupPlace.js';
import { cut } from './backupTask.js';
import { isZero, type BlockCipher } from './blockCipher.js';
import { JobError } from './errors.js';
import { closeFile, newHash, openRead, readFilled } from './file.js';
import type { LayerFile } from './layerFile.js';
import { chainOf, newestOf, type Manifest } from './manifest.js';
import { SLICE_BYTES, type Slices } from './slices.js';

/** Of one batch of the layer, whose syncs are shared. */
const BATCH_BYTES = 64 * 1024 * 1024;

/** The chain that leads to a backup, or to the newest. Throws BACKUP_UNKNOWN or BACKUP_DAMAGED. */
export function findChain(directory: string, volume: string, backup: string | null): readonly Manifest[] {
  volumesIn(directory);
  const { manifests, problems } = manifestsOf(directory, volume);
  const tip = backup === null ? newestOf(manifests) : (manifests.find(one => one.name === backup) ?? null);
  if (tip === null) {
    const what = backup === null ? `no backup of ${volume}` : `no backup ${backup} of ${volume}`;
    throw new JobError(
      problems.length === 0 ? 'BACKUP_UNKNOWN' : 'BACKUP_DAMAGED',
      [`${what} in ${directory}`, ...problems.slice(0, 10)].join('; '),
    );
  }
  const { chain, problem } = chainOf(tip, manifests);
  if (problem !== null) throw new JobError('BACKUP_DAMAGED', [problem, ...problems.slice(0, 10)].join('; '));
  return chain;
}

/** Into an empty layer, encrypted where there is a cipher; durable when it resolves. Throws BACKUP_DAMAGED at the first piece that is not what it was. */
export async function restoreChain(
  directory: string,
  chain: readonly Manifest[],
  into: LayerFile,
  cipher: BlockCipher | null,
  buffer: Uint8Array,
  slices: Slices,
): Promise<void> {
  slices.expect(chain.reduce((sum, { data_bytes }) => sum + data_bytes, 0));
  for (const manifest of chain)
    await new Restoring(
      dataFileOf(directory, manifest.volume, manifest.name),
      manifest,
      into,
      cipher,
      buffer,
      slices,
    ).run();
  into.finish();
}

class Restoring {
  #manifest: Manifest;
  #into: LayerFile;
  #cipher: BlockCipher | null;
  #buffer: Uint8Array;
  #slices: Slices;
  #file: string;
  #batch: Manifest['extents'] = [];
  #batch_bytes = 0;

  constructor(
    file: string,
    manifest: Manifest,
    into: LayerFile,
    cipher: BlockCipher | null,
    buffer: Uint8Array,
    slices: Slices,
  ) {
    this.#file = file;
    this.#manifest = manifest;
    this.#into = into;
    this.#cipher = cipher;
    this.#buffer = buffer;
    this.#slices = slices;
  }

  async run(): Promise<void> {
    const fd = openRead(this.#file);
    try {
      for (const [offset_bytes, length_bytes, sum] of this.#manifest.extents) {
        // What a later backup of the chain has cut off.
        const length = Math.min(length_bytes, this.#into.size_bytes - offset_bytes);
        // In pieces of groups, so that a batch is bounded though a zero extent may have terabytes.
        if (length > 0 && sum === undefined)
          for (const [at, part] of cut(offset_bytes, length, BATCH_BYTES)) await this.#add(fd, [at, part]);
        // A piece is compared whole, also where only a part of it is kept.
        else if (length > 0) await this.#add(fd, [offset_bytes, length_bytes, sum!]);
      }
      await this.#flush(fd);
    } finally {
      closeFile(fd);
    }
  }

  async #add(fd: number, extent: Manifest['extents'][number]): Promise<void> {
    this.#batch.push(extent);
    this.#batch_bytes += extent[1];
    if (this.#batch_bytes >= BATCH_BYTES || this.#batch.length >= 4096) await this.#flush(fd);
  }

  async #flush(fd: number): Promise<void> {
    const regions = new Set<number>();
    for (const [offset_bytes, length_bytes] of this.#batch) {
      const end = Math.min(offset_bytes + length_bytes, this.#into.size_bytes);
      for (let region = Math.floor(offset_bytes / REGION_BYTES); region * REGION_BYTES < end; region++)
        regions.add(region);
    }
    this.#into.begin([...regions]);
    for (const extent of this.#batch) {
      if (extent[2] === undefined) this.#zero(extent[0], extent[1]);
      else await this.#copyPiece(fd, extent[0], extent[1], extent[2]);
    }
    this.#into.commit();
    this.#batch = [];
    this.#batch_bytes = 0;
    await this.#slices.moved(0);
  }

  #zero(offset_bytes: number, length_bytes: number): void {
    const end = Math.ceil((offset_bytes + length_bytes) / BLOCK_BYTES);
    for (let block = offset_bytes / BLOCK_BYTES; block < end; block++) {
      const states = this.#into.states(Math.floor(block / GROUP_BLOCKS));
      if (states !== null) this.#into.setEmpty(block, ABSENT);
    }
  }

  async #copyPiece(fd: number, offset_bytes: number, length_bytes: number, sum: string): Promise<void> {
    const hash = newHash();
    for (const [at, length] of cut(offset_bytes, length_bytes, SLICE_BYTES)) {
      const bytes = this.#buffer.subarray(0, length);
      readFilled(fd, bytes, at);
      hash.update(bytes);
      this.#cipher?.encrypt(bytes, at);
      this.#put(at, bytes.subarray(0, Math.max(0, this.#into.size_bytes - at)));
      await this.#slices.moved(length);
    }
    if (hash.hex() !== sum)
      throw new JobError(
        'BACKUP_DAMAGED',
        `backup ${this.#manifest.name}: the piece at ${offset_bytes} of ${this.#file} does not match its SHA-256`,
      );
  }

  #put(offset_bytes: number, bytes: Uint8Array): void {
    const into = this.#into;
    const first = offset_bytes / BLOCK_BYTES;
    const count = Math.ceil(bytes.length / BLOCK_BYTES);
    for (let i = 0; i < count;) {
      if (isZero(blockAt(bytes, i))) {
        into.setEmpty(first + i, ABSENT);
        i++;
        continue;
      }
      let end = i;
      while (end < count && !isZero(blockAt(bytes, end))) {
        into.setData(first + end, into.checksums ? into.wordOf(bytes, end * BLOCK_BYTES, first + end) : 0);
        end++;
      }
      into.write(bytes.subarray(i * BLOCK_BYTES, end * BLOCK_BYTES), offset_bytes + i * BLOCK_BYTES);
      i = end;
    }
  }
}

function blockAt(bytes: Uint8Array, block: number): Uint8Array {
  return bytes.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
}

export interface Verified {
  backups: number;
  checked_bytes: number;
  faults: number;
}

/** Of one backup with what it builds upon, of all of a volume, or of all that is there. Never stops at the first fault. */
export async function verifyBackups(
  directory: string,
  volume: string | null,
  backup: string | null,
  buffer: Uint8Array,
  slices: Slices,
): Promise<Verified> {
  const verified: Verified = { backups: 0, checked_bytes: 0, faults: 0 };
  const found = (what: string, offset?: number, length?: number): void => {
    verified.faults++;
    slices.found(what, offset, length);
  };
  const chosen = volume !== null && backup !== null ? findChain(directory, volume, backup) : null;
  const all: Manifest[] = [];
  if (chosen === null) {
    for (const name of volume === null ? volumesIn(directory) : [volume]) {
      const { manifests, problems } = manifestsOf(directory, name);
      for (const problem of problems) found(problem);
      for (const manifest of manifests) {
        const { problem } = chainOf(manifest, manifests);
        if (problem !== null) found(`${name}/${manifest.name}: ${problem}`);
      }
      all.push(...manifests);
    }
    if (all.length === 0 && verified.faults === 0)
      throw new JobError(
        'BACKUP_UNKNOWN',
        `there is no backup ${volume === null ? '' : `of ${volume} `}in ${directory}`,
      );
  }
  const manifests = chosen ?? all;
  slices.expect(manifests.reduce((sum, { data_bytes }) => sum + data_bytes, 0));
  for (const manifest of manifests) {
    verified.backups++;
    verified.checked_bytes += await verifyOne(directory, manifest, found, buffer, slices);
  }
  return verified;
}

async function verifyOne(
  directory: string,
  manifest: Manifest,
  found: (what: string, offset?: number, length?: number) => void,
  buffer: Uint8Array,
  slices: Slices,
): Promise<number> {
  const what = `backup ${manifest.volume}/${manifest.name}`;
  let fd: number;
  try {
    fd = openRead(dataFileOf(directory, manifest.volume, manifest.name));
  } catch (error) {
    found(`${what}: ${(error as Error).message}`);
    return 0;
  }
  let checked_bytes = 0;
  try {
    for (const [offset_bytes, length_bytes, sum] of manifest.extents) {
      if (sum === undefined) continue;
      const hash = newHash();
      let unreadable: string | null = null;
      for (const [at, length] of cut(offset_bytes, length_bytes, SLICE_BYTES)) {
        const bytes = buffer.subarray(0, length);
        try {
          readFilled(fd, bytes, at);
          hash.update(bytes);
        } catch (error) {
          unreadable = (error as Error).message;
        }
        await slices.moved(length);
      }
      checked_bytes += length_bytes;
      if (unreadable !== null) found(`${what}: ${unreadable}`, offset_bytes, length_bytes);
      else if (hash.hex() !== sum)
        found(`${what}: a piece does not match its SHA-256`, offset_bytes, length_bytes);
    }
  } finally {
    closeFile(fd);
  }
  return checked_bytes;
}
