/**
 * What error chunks say to people: what was asked, where, and what is in its way. Nothing of the machine that serves (paths,
 * the volume's own reason): whoever may read an export need not know those. The status of the server has them.
 */
import type { VolumeState } from '../volume/volume.js';
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_ENOMEM,
  NBD_ENOSPC,
  NBD_ENOTSUP,
  NBD_EPERM,
  NBD_ESHUTDOWN,
} from './wire.js';

const NAMES: Readonly<Record<number, string>> = {
  [NBD_CMD_READ]: 'NBD_CMD_READ',
  [NBD_CMD_WRITE]: 'NBD_CMD_WRITE',
  [NBD_CMD_FLUSH]: 'NBD_CMD_FLUSH',
  [NBD_CMD_TRIM]: 'NBD_CMD_TRIM',
  [NBD_CMD_CACHE]: 'NBD_CMD_CACHE',
  [NBD_CMD_WRITE_ZEROES]: 'NBD_CMD_WRITE_ZEROES',
  [NBD_CMD_BLOCK_STATUS]: 'NBD_CMD_BLOCK_STATUS',
};

export function nameOf(type: number): string {
  return NAMES[type] ?? `command ${type}`;
}

/** Infinity stands for whatever is too large for any volume. */
export function place(offset: number, length: number): string {
  const far = '2^53 or more';
  return `${length === Infinity ? far : length} bytes at ${offset === Infinity ? far : offset}`;
}

const BY_ERROR: Readonly<Record<number, string>> = {
  [NBD_EPERM]: 'it may not be changed',
  [NBD_ENOMEM]: 'the server has no memory for it now',
  [NBD_EINVAL]: 'what is below cannot do that',
  [NBD_ENOSPC]: 'no space is left for it, in the pool or within the quota of this volume',
  [NBD_ENOTSUP]: 'it would not be faster than writing zeroes',
  [NBD_ESHUTDOWN]: 'the server is shutting down',
};

const BY_STATE: Readonly<Partial<Record<VolumeState, string>>> = {
  failed: 'the disk below lost what it had taken, and nothing is written to this volume any more',
  damaged: 'a part of this volume is lost or damaged',
  degraded: 'the server or the side of the mirror that has it does not answer',
};

/** Why a volume did not do what passed the gate. `error` is the protocol's. */
export function failure(
  type: number,
  offset: number,
  length: number,
  error: number,
  state: VolumeState,
): string {
  const what = type === NBD_CMD_FLUSH ? nameOf(type) : `${nameOf(type)} of ${place(offset, length)}`;
  const why =
    BY_ERROR[error] ??
    BY_STATE[state] ??
    (type === NBD_CMD_READ
      ? 'the disk below could not give these bytes, or they are not what was written'
      : 'the disk below reported an error');
  return `${what}: ${why}`;
}
