/**
 * What lies where in a tar (POSIX.1-2017 pax "Extended Header"/ustar, and GNU's long names): enough for an OVA, which is
 * one. Nothing is unpacked: a member is a range of the file. Everything that the file says of itself is bounded.
 */

export interface TarMember {
  name: string;
  offset_bytes: number;
  size_bytes: number;
}

/** A range that is wanted, and as much of it as there is. */
export type ReadAt = (offset_bytes: number, length_bytes: number) => Promise<Uint8Array>;
type Walk = Generator<readonly [offset_bytes: number, length_bytes: number], TarMember[], Uint8Array>;

/** Our constants. */
const MEMBERS_MAX = 1000;
const NAME_MAX_BYTES = 4096;
/** Of a pax extended header. */
const EXTENDED_MAX_BYTES = 64 * 1024;

/** Specification constants. */
const BLOCK_BYTES = 512;
const AT = { name: 0, size: 124, checksum: 148, type: 156, magic: 257, prefix: 345 } as const;

export class TarError extends Error {
  readonly code = 'TAR_DAMAGED';
}

/** By its first block. */
export function isTar(head: Uint8Array): boolean {
  return head.length >= BLOCK_BYTES && text(head, AT.magic, 5) === 'ustar' && checksumFits(head);
}

/** Regular files, in order. Throws TarError for what is no whole tar. */
export async function listTar(readAt: ReadAt, file_bytes: number): Promise<TarMember[]> {
  const walk = walkTar(file_bytes);
  let step = walk.next();
  while (step.done !== true) step = walk.next(await readAt(...step.value));
  return step.value;
}

/** The same without an edge: says what it wants to read, is given that, and returns the members. */
export function* walkTar(file_bytes: number): Walk {
  const members: TarMember[] = [];
  let at_bytes = 0;
  let longName: string | undefined;
  let longSize: number | undefined;
  for (let headers = 0; ; headers++) {
    if (headers > 3 * MEMBERS_MAX) throw new TarError(`it has more than ${MEMBERS_MAX} members`);
    const head = yield [at_bytes, BLOCK_BYTES];
    // Two blocks of zeroes end it; some writers leave them out.
    if (head.every(byte => byte === 0)) return members;
    if (head.length < BLOCK_BYTES) throw new TarError('it is cut off in a header');
    if (!checksumFits(head)) throw new TarError(`a header is damaged at ${at_bytes}`);
    const type = String.fromCharCode(head[AT.type]!);
    const isOfNext = type === 'x' || type === 'L';
    const size_bytes = (isOfNext ? undefined : longSize) ?? number(head, AT.size);
    const offset_bytes = at_bytes + BLOCK_BYTES;
    const end_bytes = offset_bytes + size_bytes;
    if (!Number.isSafeInteger(size_bytes) || size_bytes < 0 || end_bytes > file_bytes)
      throw new TarError(`it is cut off: a member ends at ${end_bytes} of ${file_bytes} bytes`);
    if (isOfNext) {
      if (size_bytes > EXTENDED_MAX_BYTES) throw new TarError('an extended header is too long');
      const body = yield [offset_bytes, size_bytes];
      if (type === 'L') longName = text(body, 0, body.length);
      else {
        const pax = parsePax(body);
        longName = pax.get('path') ?? longName;
        const size = pax.get('size');
        if (size !== undefined) {
          if (!/^\d{1,15}$/.test(size)) throw new TarError('an extended header has a size that is none');
          longSize = Number(size);
        }
      }
    } else {
      const prefix = text(head, AT.prefix, 155);
      const short = text(head, AT.name, 100);
      const name = longName ?? (prefix === '' ? short : `${prefix}/${short}`);
      if (Buffer.byteLength(name) > NAME_MAX_BYTES) throw new TarError('a name is too long');
      if (type === '0' || type === '\0' || type === '7') members.push({ name, offset_bytes, size_bytes });
      longName = undefined;
      longSize = undefined;
    }
    if (members.length > MEMBERS_MAX) throw new TarError(`it has more than ${MEMBERS_MAX} members`);
    at_bytes = offset_bytes + Math.ceil(size_bytes / BLOCK_BYTES) * BLOCK_BYTES;
  }
}

/** `LENGTH KEY=VALUE\n`, LENGTH of all of it in decimal. What does not fit is an error. */
function parsePax(body: Uint8Array): Map<string, string> {
  const found = new Map<string, string>();
  let at = 0;
  while (at < body.length && body[at] !== 0) {
    const space = body.indexOf(0x20, at);
    const digits = space < 0 ? '' : text(body, at, space - at);
    const length = /^\d{1,6}$/.test(digits) ? Number(digits) : 0;
    const end = at + length;
    if (length < digits.length + 3 || end > body.length || body[end - 1] !== 0x0a)
      throw new TarError('an extended header is damaged');
    const record = new TextDecoder().decode(body.subarray(space + 1, end - 1));
    const equals = record.indexOf('=');
    if (equals < 1) throw new TarError('an extended header is damaged');
    found.set(record.slice(0, equals), record.slice(equals + 1));
    at = end;
  }
  return found;
}

/** Up to a NUL. */
function text(bytes: Uint8Array, at: number, length: number): string {
  const field = bytes.subarray(at, at + length);
  const end = field.indexOf(0);
  return new TextDecoder().decode(end < 0 ? field : field.subarray(0, end));
}

/** Octal; or, with its first bit set, GNU's base-256. NaN for what is neither. */
function number(head: Uint8Array, at: number): number {
  if ((head[at]! & 0x80) !== 0) {
    let value = head[at]! & 0x7f;
    for (let i = 1; i < 12; i++) value = value * 256 + head[at + i]!;
    return value;
  }
  const digits = text(head, at, 12).trim();
  return /^[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : Number.NaN;
}

function checksumFits(head: Uint8Array): boolean {
  const digits = text(head, AT.checksum, 8).trim();
  if (!/^[0-7]+$/.test(digits)) return false;
  let sum = 0;
  // Its own field counts as blanks.
  for (let i = 0; i < BLOCK_BYTES; i++) sum += i >= AT.checksum && i < AT.checksum + 8 ? 0x20 : head[i]!;
  return sum === Number.parseInt(digits, 8);
}
