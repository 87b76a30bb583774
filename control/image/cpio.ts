/**
 * The "newc" form of cpio, which the kernel unpacks as its first file system (Linux,
 * Documentation/driver-api/early-userspace/buffer-format.rst). Written by hand so that no cpio program is
 * needed and device nodes can be made without being root. Pure: bytes in, bytes out.
 *
 *   "070701"  13 fields of 8 hexadecimal digits   name, NUL, to a multiple of 4   data, to a multiple of 4
 *   …         and at the end an entry named TRAILER!!!
 */

export interface CpioEntry {
  /** Without a leading slash. */
  path: string;
  /** Type and permission bits, as st_mode. */
  mode: number;
  /** A file's bytes, a link's target; empty for the others. */
  data: Uint8Array;
  /** Of a device node. */
  rdevMajor: number;
  rdevMinor: number;
}

export const S_IFREG = 0o100000;
export const S_IFDIR = 0o040000;
export const S_IFLNK = 0o120000;
export const S_IFCHR = 0o020000;

const MAGIC = '070701';
const HEADER_LENGTH = 110;
const TRAILER = 'TRAILER!!!';
/** Both bounds are ours: far more than an initrd of ours holds. */
export const MAX_ENTRIES = 100_000;
export const MAX_NAME_BYTES = 4096;

export const file = (path: string, data: Uint8Array, mode = 0o644): CpioEntry =>
  entry(path, S_IFREG | mode, data);
export const directory = (path: string, mode = 0o755): CpioEntry => entry(path, S_IFDIR | mode);
export const link = (path: string, target: string): CpioEntry =>
  entry(path, S_IFLNK | 0o777, new TextEncoder().encode(target));
export const characterDevice = (path: string, major: number, minor: number, mode = 0o600): CpioEntry => ({
  ...entry(path, S_IFCHR | mode),
  rdevMajor: major,
  rdevMinor: minor,
});

function entry(path: string, mode: number, data: Uint8Array = new Uint8Array(0)): CpioEntry {
  return { path, mode, data, rdevMajor: 0, rdevMinor: 0 };
}

/** The archive. Owner is root and time is zero throughout, so equal entries give equal bytes. */
export function emitCpio(entries: readonly CpioEntry[]): Uint8Array {
  const encoder = new TextEncoder();
  const all = [...entries, entry(TRAILER, 0)];
  const names = all.map(one => encoder.encode(one.path));
  let length = 0;
  for (const [index, one] of all.entries())
    length = padded(padded(length + HEADER_LENGTH + names[index]!.length + 1) + one.data.length);
  const out = new Uint8Array(length);
  let at = 0;
  for (const [index, one] of all.entries()) {
    const name = names[index]!;
    if (name.length === 0 || name.length >= MAX_NAME_BYTES || name.includes(0))
      throw new RangeError(`not a name for cpio: ${JSON.stringify(one.path)}`);
    const isLast = index === all.length - 1;
    const fields = [
      isLast ? 0 : index + 1, // c_ino
      one.mode,
      0, // c_uid
      0, // c_gid
      (one.mode & 0o170000) === S_IFDIR ? 2 : 1, // c_nlink
      0, // c_mtime
      one.data.length, // c_filesize
      0, // c_maj
      0, // c_min
      one.rdevMajor,
      one.rdevMinor,
      name.length + 1, // c_namesize
      0, // c_chksum, unused in newc
    ];
    const header = MAGIC + fields.map(value => value.toString(16).padStart(8, '0')).join('');
    out.set(encoder.encode(header), at);
    out.set(name, at + HEADER_LENGTH);
    at = padded(at + HEADER_LENGTH + name.length + 1);
    out.set(one.data, at);
    at = padded(at + one.data.length);
  }
  return out;
}

/** The entries of an archive, or undefined when it is not one. */
export function parseCpio(bytes: Uint8Array): CpioEntry[] | undefined {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  const entries: CpioEntry[] = [];
  let at = 0;
  while (entries.length <= MAX_ENTRIES) {
    if (at + HEADER_LENGTH > bytes.length) return undefined;
    const header = String.fromCharCode(...bytes.subarray(at, at + HEADER_LENGTH));
    if (!/^070701[0-9a-fA-F]{104}$/.test(header)) return undefined;
    const field = (index: number): number => Number.parseInt(header.slice(6 + index * 8, 14 + index * 8), 16);
    const nameSize = field(11);
    const fileSize = field(6);
    const dataAt = padded(at + HEADER_LENGTH + nameSize);
    if (nameSize < 2 || nameSize > MAX_NAME_BYTES || dataAt + fileSize > bytes.length) return undefined;
    const nameEnd = at + HEADER_LENGTH + nameSize - 1;
    if (bytes[nameEnd] !== 0) return undefined;
    let path;
    try {
      path = decoder.decode(bytes.subarray(at + HEADER_LENGTH, nameEnd));
    } catch {
      return undefined;
    }
    if (path === TRAILER) return entries;
    const data = bytes.slice(dataAt, dataAt + fileSize);
    entries.push({ path, mode: field(1), data, rdevMajor: field(9), rdevMinor: field(10) });
    at = padded(dataAt + fileSize);
  }
  return undefined;
}

function padded(length: number): number {
  return (length + 3) & ~3;
}
