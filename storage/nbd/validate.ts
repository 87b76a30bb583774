/**
 * The gate: every rule about a request's form, together, with its errno. What passes here may be given to a volume
 * as it is. Also where a volume's errno becomes one of the few that NBD knows.
 */
import { MAXIMUM_PAYLOAD_BYTES } from './limits.js';
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_FAST_ZERO,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
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
  readonly structuredReplies: boolean;
  readonly baseAllocation: boolean;
  /** Other meta contexts that were selected: indices of what the volume has. */
  readonly contexts?: readonly number[];
  /** 1 when left out. */
  readonly minimumBlock_bytes?: number;
}

/** 0, or the error to answer. NBD_CMD_DISC is not asked about: it has no answer. */
export function validate(
  type: number,
  flags: number,
  offset: number,
  length: number,
  size_bytes: number,
  agreed: Agreed,
): number {
  let allowed = NBD_CMD_FLAG_FUA; // "valid for all commands"
  let writes = false;
  let payload = false;
  switch (type) {
    case NBD_CMD_READ:
      if (agreed.structuredReplies) allowed |= NBD_CMD_FLAG_DF;
      payload = true;
      break;
    case NBD_CMD_WRITE:
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
      // "length and offset are reserved, and MUST be set to all-zero"
      return (flags & ~allowed) !== 0 || offset !== 0 || length !== 0 ? NBD_EINVAL : 0;
    case NBD_CMD_CACHE:
      break;
    case NBD_CMD_BLOCK_STATUS:
      allowed |= NBD_CMD_FLAG_REQ_ONE;
      // Its answer has one descriptor at least, and a descriptor's length is not zero.
      if ((!agreed.baseAllocation && !agreed.contexts?.length) || length === 0) return NBD_EINVAL;
      break;
    default:
      return NBD_EINVAL;
  }
  if ((flags & ~allowed) !== 0) return NBD_EINVAL;
  if (writes && agreed.readOnly) return NBD_EPERM;
  if (payload && length > MAXIMUM_PAYLOAD_BYTES) return NBD_EINVAL;
  const block_bytes = agreed.minimumBlock_bytes ?? 1;
  if (block_bytes > 1 && (offset % block_bytes !== 0 || length % block_bytes !== 0)) return NBD_EINVAL;
  // In this order no sum can overflow.
  if (offset > size_bytes || length > size_bytes - offset)
    return type === NBD_CMD_WRITE || type === NBD_CMD_WRITE_ZEROES ? NBD_ENOSPC : NBD_EINVAL;
  return 0;
}

/** The protocol's error for a volume's result (-errno); EIO for whatever has no word of its own. */
export function nbdError(result: number): number {
  switch (-result) {
    case 0:
      return 0;
    case 1: // EPERM
    case 30: // EROFS
      return NBD_EPERM;
    case 12: // ENOMEM
      return NBD_ENOMEM;
    case 22: // EINVAL
      return NBD_EINVAL;
    case 27: // EFBIG
    case 28: // ENOSPC
    case 122: // EDQUOT
      return NBD_ENOSPC;
    case 75: // EOVERFLOW
      return NBD_EOVERFLOW;
    case 95: // EOPNOTSUPP
      return NBD_ENOTSUP;
    case 108: // ESHUTDOWN
      return NBD_ESHUTDOWN;
    default:
      return NBD_EIO;
  }
}
