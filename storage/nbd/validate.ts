/**
 * The gate: every rule about a request's form, together, with its errno and its words. What passes here may be given to a
 * volume as it is. Also where a volume's errno becomes one of the few that NBD knows.
 *
 * A refusal is one of the constants below; its words are made only when it is sent, and only for clients that can take them.
 */
import { MAXIMUM_PAYLOAD_BYTES } from './limits.js';
import { nameOf, place } from './words.js';
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_FAST_ZERO,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLAG_PAYLOAD_LEN,
  NBD_CMD_FLAG_REQ_ONE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_EIO,
  NBD_ENOMEM,
  NBD_ENOSPC,
  NBD_ENOTSUP,
  NBD_EOVERFLOW,
  NBD_EPERM,
  NBD_ESHUTDOWN,
} from './wire.js';

/** What was agreed for this connection. */
export interface Agreed {
  readonly readOnly: boolean;
  /** Replies in chunks. */
  readonly structuredReplies: boolean;
  /** Requests and chunks have headers of 32 bytes; implies `structuredReplies`. False when left out. */
  readonly extendedHeaders?: boolean;
  readonly baseAllocation: boolean;
  /** Other meta contexts that were selected: indices of what the volume has. */
  readonly contexts?: readonly number[];
  /** 1 when left out. */
  readonly minimumBlock_bytes?: number;
}

/** Why a request is not carried out. */
export interface Refusal {
  readonly error: number;
  readonly words: (
    type: number,
    offset: number,
    length: number,
    size_bytes: number,
    agreed: Agreed,
  ) => string;
}

const UNKNOWN_COMMAND: Refusal = {
  error: NBD_EINVAL,
  words: type => `command ${type} is not known to this server`,
};
const BAD_FLAG: Refusal = {
  error: NBD_EINVAL,
  words: type => `${nameOf(type)} has a flag that is unknown, not agreed, or not for this command`,
};
const NO_PAYLOAD: Refusal = {
  error: NBD_EINVAL,
  words: () => 'NBD_CMD_WRITE needs NBD_CMD_FLAG_PAYLOAD_LEN when extended headers are in use',
};
const FLUSH_OF_RANGE: Refusal = {
  error: NBD_EINVAL,
  words: () => 'offset and length of NBD_CMD_FLUSH must be 0',
};
const NO_CONTEXT: Refusal = {
  error: NBD_EINVAL,
  words: () => 'no meta context was selected by NBD_OPT_SET_META_CONTEXT for this export',
};
const NO_LENGTH: Refusal = {
  error: NBD_EINVAL,
  words: type => `${nameOf(type)} of no length`,
};
const READ_ONLY: Refusal = {
  error: NBD_EPERM,
  words: type => `${nameOf(type)}: this export is read-only`,
};
const TOO_LONG: Refusal = {
  error: NBD_EINVAL,
  words: (type, _offset, length) =>
    `${nameOf(type)} of ${length} bytes: at most ${MAXIMUM_PAYLOAD_BYTES} at once`,
};
/** "The server is also permitted to reject large read requests up front with NBD_EOVERFLOW". */
const READ_TOO_LONG: Refusal = { error: NBD_EOVERFLOW, words: TOO_LONG.words };
const NOT_BLOCKS: Refusal = {
  error: NBD_EINVAL,
  words: (type, offset, length, _size, { minimumBlock_bytes = 1 }) =>
    `${nameOf(type)} of ${place(offset, length)}: not whole blocks of ${minimumBlock_bytes} bytes`,
};
const beyond: Refusal['words'] = (type, offset, length, size_bytes) =>
  `${nameOf(type)} of ${place(offset, length)}: the export ends at ${size_bytes}`;
const BEYOND: Refusal = { error: NBD_EINVAL, words: beyond };
/** "The server SHOULD return NBD_ENOSPC if it receives a write request including one or more sectors beyond the size of the device". */
const WRITE_BEYOND: Refusal = { error: NBD_ENOSPC, words: beyond };
/** Of whatever comes while a connection is brought to its end: "Server is in the process of being shut down". */
export const SHUTTING_DOWN: Refusal = {
  error: NBD_ESHUTDOWN,
  words: type => `${nameOf(type)}: this export is going away`,
};
/** Of NBD_CMD_BLOCK_STATUS with a payload; checked where the payload is read. */
export const BAD_CONTEXT_LIST: Refusal = {
  error: NBD_EINVAL,
  words: () => 'the payload of NBD_CMD_BLOCK_STATUS is not a length and ids of selected contexts, each once',
};

/**
 * null, or why not. NBD_CMD_DISC is not asked about: it has no answer. `length` is the effect length, also where the request
 * has a payload that says so.
 */
export function validate(
  type: number,
  flags: number,
  offset: number,
  length: number,
  size_bytes: number,
  agreed: Agreed,
): Refusal | null {
  let allowed = NBD_CMD_FLAG_FUA; // "valid for all commands"
  let writes = false;
  let payload = false;
  const extended = agreed.extendedHeaders === true;
  switch (type) {
    case NBD_CMD_READ:
      if (agreed.structuredReplies) allowed |= NBD_CMD_FLAG_DF;
      payload = true;
      break;
    case NBD_CMD_WRITE:
      if (extended) allowed |= NBD_CMD_FLAG_PAYLOAD_LEN;
      writes = true;
      payload = true;
      break;
    case NBD_CMD_TRIM:
      writes = true;
      break;
    case NBD_CMD_WRITE_ZEROES:
      allowed |= NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO;
      writes = true;
      break;
    case NBD_CMD_FLUSH:
      if ((flags & ~allowed) !== 0) return BAD_FLAG;
      // "length and offset are reserved, and MUST be set to all-zero"
      return offset !== 0 || length !== 0 ? FLUSH_OF_RANGE : null;
    case NBD_CMD_CACHE:
      break;
    case NBD_CMD_BLOCK_STATUS:
      allowed |= NBD_CMD_FLAG_REQ_ONE;
      if (!agreed.baseAllocation && !agreed.contexts?.length) return NO_CONTEXT;
      if (extended) allowed |= NBD_CMD_FLAG_PAYLOAD_LEN;
      break;
    default:
      return UNKNOWN_COMMAND;
  }
  if ((flags & ~allowed) !== 0) return BAD_FLAG;
  if (type === NBD_CMD_WRITE && extended && (flags & NBD_CMD_FLAG_PAYLOAD_LEN) === 0) return NO_PAYLOAD;
  if (writes && agreed.readOnly) return READ_ONLY;
  // Its answer has one descriptor at least, and a descriptor's length is not zero.
  if (type === NBD_CMD_BLOCK_STATUS && length === 0) return NO_LENGTH;
  const block_bytes = agreed.minimumBlock_bytes ?? 1;
  if (block_bytes > 1 && (offset % block_bytes !== 0 || length % block_bytes !== 0)) return NOT_BLOCKS;
  if (payload && length > MAXIMUM_PAYLOAD_BYTES)
    return type === NBD_CMD_READ && agreed.structuredReplies ? READ_TOO_LONG : TOO_LONG;
  // In this order no sum can overflow.
  if (offset > size_bytes || length > size_bytes - offset)
    return type === NBD_CMD_WRITE || type === NBD_CMD_WRITE_ZEROES ? WRITE_BEYOND : BEYOND;
  return null;
}

/**
 * The protocol's error for a volume's result (-errno); EIO for whatever has no word of its own. "The server SHOULD NOT return
 * NBD_ENOTSUP except … when NBD_CMD_FLAG_FAST_ZERO is supported", nor NBD_EOVERFLOW where no request was too long.
 */
export function nbdError(result: number, fastZero = false): number {
  switch (-result) {
    case 0:
      return 0;
    case 1: // EPERM
    case 30: // EROFS
      return NBD_EPERM;
    case 12: // ENOMEM
      return NBD_ENOMEM;
    case 22: // EINVAL
    case 75: // EOVERFLOW
      return NBD_EINVAL;
    case 27: // EFBIG
    case 28: // ENOSPC
    case 122: // EDQUOT
      return NBD_ENOSPC;
    case 95: // EOPNOTSUPP
      return fastZero ? NBD_ENOTSUP : NBD_EINVAL;
    case 108: // ESHUTDOWN
      return NBD_ESHUTDOWN;
    default:
      return NBD_EIO;
  }
}
