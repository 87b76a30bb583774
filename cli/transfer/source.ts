/**
 * What a file holds that can be imported: one disk image, or the disks of an OVA (DMTF DSP0243 6: a tar of an OVF
 * descriptor, maybe a manifest, and the disks). Nothing is unpacked; qemu-img reads a disk where it lies in the tar.
 */
import { createHash } from 'node:crypto';
import { open, type FileHandle } from 'node:fs/promises';
import type { ImportFormat } from '../../control/image/disk/describe.js';
import { CliError } from '../errors.js';
import { DESCRIPTOR_MAX_BYTES, MANIFEST_MAX_BYTES, parseManifest, parseOvf, type Digest } from './ovf.js';
import { inspect, type Bytes, type Disk } from './qemuImg.js';
import { TarError, isTar, listTar, type TarMember } from './tar.js';

/** Enough to know every format by. */
const HEAD_BYTES = 1024;
const HASH_PIECE_BYTES = 2 ** 20;

export interface Source {
  disks: Disk[];
  /** Compares with the manifest; throws when something differs. null: there is none. */
  verify: ((onFraction: (fraction: number) => void, signal: AbortSignal) => Promise<void>) | null;
}

function refused(path: string, why: string, hint?: string): CliError {
  return new CliError('IMAGE_REFUSED', `${path}: ${why}`, { hint });
}

export async function openSource(path: string, format: ImportFormat | undefined): Promise<Source> {
  let file: FileHandle;
  try {
    file = await open(path, 'r');
  } catch (error) {
    throw new CliError(
      'UNREADABLE',
      `cannot read ${path}: ${error instanceof Error ? error.message : String(error)}`,
      {
        cause: error,
      },
    );
  }
  try {
    const stat = await file.stat();
    if (!stat.isFile() && !stat.isBlockDevice()) throw refused(path, 'is not a file');
    const head = await readAt(file, 0, HEAD_BYTES);
    if (stat.isFile() && format === undefined) {
      const packed = packerOf(head);
      if (packed !== null)
        throw refused(path, `is packed by ${packed.name}`, `Unpack it first: ${packed.how} ${path}`);
      if (isTar(head)) return await openOva(path, file, stat.size);
    }
    return { disks: [await inspect({ path }, path, format)], verify: null };
  } finally {
    await file.close();
  }
}

async function openOva(path: string, file: FileHandle, file_bytes: number): Promise<Source> {
  let members: TarMember[];
  try {
    members = await listTar((offset, length) => readAt(file, offset, length), file_bytes);
  } catch (error) {
    if (error instanceof TarError) throw refused(path, `is a damaged OVA: ${error.message}`);
    throw error;
  }
  const descriptors = members.filter(({ name }) => name.toLowerCase().endsWith('.ovf'));
  const [descriptor] = descriptors;
  if (descriptor === undefined || descriptors.length > 1)
    throw refused(path, `is a tar with ${descriptors.length} OVF descriptors; an OVA has one`);
  const text = await memberText(path, file, descriptor, DESCRIPTOR_MAX_BYTES);
  const { disks: found, problem } = parseOvf(text);
  if (problem !== null) throw refused(path, problem);
  if (found.length === 0) throw refused(path, 'has no disk');
  const disks: Disk[] = [];
  for (const { id, href } of found) {
    // Two disks of one name, or one that leads elsewhere: there is only what is in the tar.
    const member = members.find(({ name }) => name === href || name === `./${href}`);
    if (member === undefined) throw refused(path, `its disk ${id} (${href}) is not in it`);
    disks.push(await openMember(path, file, member));
  }
  const manifest = members.find(({ name }) => name.toLowerCase().endsWith('.mf'));
  if (manifest === undefined) return { disks, verify: null };
  const digests = parseManifest(await memberText(path, file, manifest, MANIFEST_MAX_BYTES));
  if (digests === null) throw refused(path, 'its manifest is not understood');
  return {
    disks,
    verify: (onFraction, signal) => compare(path, members, digests, onFraction, signal),
  };
}

async function openMember(path: string, file: FileHandle, member: TarMember): Promise<Disk> {
  const name = `${path}:${member.name}`;
  const head = await readAt(file, member.offset_bytes, HEAD_BYTES);
  const format = formatOf(head);
  if (format === null)
    throw refused(name, 'is of no format that is known', 'Unpack the OVA and import the disk with --format.');
  const { offset_bytes, size_bytes } = member;
  const bytes: Bytes = { path, range: { offset_bytes, size_bytes } };
  return inspect(bytes, name, format);
}

/** What a disk in an OVA can be, by its first bytes. */
export function formatOf(head: Uint8Array): ImportFormat | null {
  const begins = (text: string, at = 0): boolean =>
    Buffer.from(head.buffer, head.byteOffset, head.length)
      .subarray(at, at + text.length)
      .toString('latin1') === text;
  if (begins('KDMV')) return 'vmdk';
  if (begins('QFI\u00fb')) return 'qcow2';
  if (begins('vhdxfile')) return 'vhdx';
  if (begins('conectix')) return 'vpc';
  if (begins('\u007f\u0010\u00da\u00be', 0x40)) return 'vdi';
  return null;
}

function packerOf(head: Uint8Array): { name: string; how: string } | null {
  if (head[0] === 0x1f && head[1] === 0x8b) return { name: 'gzip', how: 'gunzip' };
  if (head[0] === 0xfd && head[1] === 0x37 && head[2] === 0x7a) return { name: 'xz', how: 'unxz' };
  if (head[0] === 0x28 && head[1] === 0xb5 && head[2] === 0x2f && head[3] === 0xfd)
    return { name: 'zstd', how: 'unzstd' };
  if (head[0] === 0x42 && head[1] === 0x5a && head[2] === 0x68) return { name: 'bzip2', how: 'bunzip2' };
  if (head[0] === 0x50 && head[1] === 0x4b && head[2] === 3 && head[3] === 4)
    return { name: 'zip', how: 'unzip' };
  return null;
}

async function memberText(
  path: string,
  file: FileHandle,
  member: TarMember,
  max_bytes: number,
): Promise<string> {
  if (member.size_bytes > max_bytes)
    throw refused(`${path}:${member.name}`, `is longer than ${max_bytes} bytes`);
  return new TextDecoder().decode(await readAt(file, member.offset_bytes, member.size_bytes));
}

/** Every file that the manifest names has to be there and be what it says. */
async function compare(
  path: string,
  members: readonly TarMember[],
  digests: readonly Digest[],
  onFraction: (fraction: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const listed = digests.map(digest => ({
    digest,
    member: members.find(({ name }) => name === digest.name),
  }));
  const missing = listed.find(({ member }) => member === undefined);
  if (missing !== undefined)
    throw refused(path, `its manifest names ${missing.digest.name}, which is not in it`);
  const total_bytes = listed.reduce((sum, { member }) => sum + (member?.size_bytes ?? 0), 0);
  let done_bytes = 0;
  const file = await open(path, 'r');
  try {
    for (const { digest, member } of listed) {
      const hash = createHash(digest.algorithm);
      const { offset_bytes, size_bytes } = member!;
      for (let at = 0; at < size_bytes;) {
        if (signal.aborted) throw new CliError('INTERRUPTED', 'interrupted', { exit: 130 });
        const piece = await readAt(file, offset_bytes + at, Math.min(HASH_PIECE_BYTES, size_bytes - at));
        if (piece.length === 0) throw refused(path, 'became shorter while it was read');
        hash.update(piece);
        at += piece.length;
        done_bytes += piece.length;
        onFraction(total_bytes === 0 ? 1 : done_bytes / total_bytes);
      }
      if (hash.digest('hex') !== digest.hex)
        throw refused(
          `${path}:${digest.name}`,
          `is not what the manifest says (${digest.algorithm}): it is damaged`,
        );
    }
  } finally {
    await file.close();
  }
}

/** As much as there is, up to `length_bytes`. */
async function readAt(file: FileHandle, offset_bytes: number, length_bytes: number): Promise<Uint8Array> {
  const bytes = Buffer.alloc(length_bytes);
  let filled = 0;
  while (filled < length_bytes) {
    const { bytesRead } = await file.read(bytes, filled, length_bytes - filled, offset_bytes + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return bytes.subarray(0, filled);
}
