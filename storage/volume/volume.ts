/**
 * Volume: the block device that every front door (NBD, vhost-user; iSCSI later) serves and that every layer
 * (memory, faulty, file; copy-on-write, limit, mirror, encrypt later) is and wraps.
 *
 * Two ways to ask, because the common answer is already in memory and must not cost a turn of the loop:
 *
 *   tryRead / tryWrite   answer at once: 0, or -errno; -EAGAIN says "not without waiting", and nothing happened
 *   read / write / …     answer later: `waiter.completed(token, result)`, never before the call has returned
 *
 * so a front door first tries, and only where that would have to wait does it set memory aside and ask again.
 * `token` is the caller's number for the request; the volume hands it back and looks at nothing in it. There
 * are no promises: the data thread never returns to JavaScript's own event loop (see nbd/loop.ts).
 *
 * Addresses: payloads are (Memory, at, length), where Memory is any mapping with both a JavaScript view and an
 * address for the kernel, so that bytes go between socket and file without a Buffer made for each request.
 * Memory given to read or write belongs to the volume until completed.
 *
 * Ranges: the caller has checked that 0 <= offset and offset + length <= size_bytes, and length > 0; the one
 * gate for that is nbd/validate.ts. A volume may assert it.
 *
 * Durability: write, zero and trim are visible to reads at once, and durable after a flush that was asked for
 * after they completed. FUA is therefore "write, then flush"; a volume coalesces flushes (flushGate.ts), so
 * that many at once cost one. A volume whose flush failed is `failed` for good: see VolumeState.
 */

/** Where payload bytes live: the same memory, seen by JavaScript and by the kernel. */
export interface Memory {
  readonly address: number;
  readonly bytes: Uint8Array;
}

/** Who waits for an answer. Held by reference and called with numbers, so that no request makes a closure. */
export interface Waiter {
  /** `result` is 0 or -errno. */
  completed(token: number, result: number): void;
}

/** Linux errno values that cross this interface, negated. The same on x86-64 and arm64. */
export const ERRNO = {
  EPERM: 1,
  EIO: 5,
  EAGAIN: 11,
  ENOMEM: 12,
  EBUSY: 16,
  EINVAL: 22,
  EFBIG: 27,
  ENOSPC: 28,
  EOPNOTSUPP: 95,
  EDQUOT: 122,
} as const;

/**
 *   ok   --a write met ENOSPC--> full   --the next write that succeeds--> ok
 *   any  --a flush failed------> failed (for the life of this object)
 *
 * `failed`: the kernel has told us that data it had taken did not reach the disk, and has marked those pages
 * clean; asking again would succeed and mean nothing. So writes and flushes answer EIO from then on, while
 * reads go on, so that what is there can be saved.
 *
 * `damaged`: a part is lost; what is left can be read, nothing written. `degraded`: a mirror with one side away, or a
 * remote server that does not answer; both come back to ok by themselves.
 */
export type VolumeState = 'ok' | 'full' | 'failed' | 'damaged' | 'degraded';

/** Parts of a read that lie in files, at the same offset as in the volume; the caller owns the arrays. */
export interface FileRuns {
  count: number;
  readonly fds: Int32Array;
  /** In the volume, in order. */
  readonly offsets_bytes: Float64Array;
  readonly lengths_bytes: Float64Array;
}

export function newFileRuns(limit: number): FileRuns {
  return {
    count: 0,
    fds: new Int32Array(limit),
    offsets_bytes: new Float64Array(limit),
    lengths_bytes: new Float64Array(limit),
  };
}

/** `mayUnmap`: zeroes may become a hole. `fastOnly`: fail with EOPNOTSUPP rather than write zeroes out. */
export interface ZeroHow {
  readonly mayUnmap: boolean;
  readonly fastOnly: boolean;
}

/** Consecutive extents from an offset on; the caller owns the arrays, whose length is the most it wants. */
export interface ExtentList {
  count: number;
  readonly lengths_bytes: Float64Array;
  /** EXTENT_HOLE | EXTENT_ZERO */
  readonly flags: Uint8Array;
}
export const EXTENT_DATA = 0;
/** Not allocated: a write may meet ENOSPC. */
export const EXTENT_HOLE = 1;
/** Reads as zeroes. */
export const EXTENT_ZERO = 2;

export interface Volume {
  /** May grow while in use, never shrinks. */
  readonly size_bytes: number;
  readonly state: VolumeState;
  /** In words; null when state is ok. */
  readonly reason: string | null;

  tryRead(offset_bytes: number, length_bytes: number, memory: Memory, at: number): number;
  tryWrite(offset_bytes: number, length_bytes: number, memory: Memory, at: number): number;
  read(
    offset_bytes: number,
    length_bytes: number,
    memory: Memory,
    at: number,
    waiter: Waiter,
    token: number,
  ): void;
  write(
    offset_bytes: number,
    length_bytes: number,
    memory: Memory,
    at: number,
    waiter: Waiter,
    token: number,
  ): void;
  flush(waiter: Waiter, token: number): void;
  /** A hint: afterwards the range reads as zeroes or as before, block by block. */
  trim(offset_bytes: number, length_bytes: number, waiter: Waiter, token: number): void;
  /** Afterwards the range reads as zeroes. */
  zero(offset_bytes: number, length_bytes: number, how: ZeroHow, waiter: Waiter, token: number): void;
  /** A hint that the range will be read soon. */
  cache(offset_bytes: number, length_bytes: number, waiter: Waiter, token: number): void;
  /**
   * What [offset, offset + length) is made of: fills `into` with at least one extent, none of two neighbours with the
   * same flags, and not more than the range. 0 or -errno. May be asked of a range longer than what fits `into`.
   */
  extents(offset_bytes: number, length_bytes: number, into: ExtentList): number;
  /**
   * The fd of a file that holds this range at the same offset, where it can be sent from at once (sendfile): it is in
   * memory, as it is. -1 where it is not, or where this layer changes bytes. Good until the volume is closed.
   */
  sendableFrom(offset_bytes: number, length_bytes: number): number;
  /**
   * As tryRead, but long runs that `sendableFrom` would tell of are not copied: `into`, which is empty, gets them. Left out: where one file has a range
   * whole, or none.
   */
  tryReadRuns?(
    offset_bytes: number,
    length_bytes: number,
    memory: Memory,
    at: number,
    into: FileRuns,
  ): number;
  /** Sending from that file failed: answer -1 from now on, so that the error can be told by tryRead and read. */
  sendFailed(): void;
  /** null or absent: it has no more to tell than `extents`. A wrapper hands on what it wraps. */
  readonly meta?: BlockMeta | null;
}

/**
 * What a volume that knows its own layers can tell of its blocks, beyond `extents`: each context is a question that an NBD
 * client may select by name (NBD_OPT_SET_META_CONTEXT). `base:allocation` is not among them; it is `extents`.
 *
 *   qemu:allocation-depth        flags: 0 not allocated in any layer, else 1 for the written layer, 2 for the one below, ...
 *   qemu:dirty-bitmap:SNAPSHOT   flags: 1 what it holds may have changed since that snapshot was taken, else 0
 */
export interface BlockMeta {
  /** Names, in an order that stays for the life of this object, except that names may be added at the end; a name taken away becomes ''. */
  contexts(): readonly string[];
  /** As `extents`, with the context's flags in `into.values`. `context` is an index of `contexts()`. */
  contextExtents(
    context: number,
    offset_bytes: number,
    length_bytes: number,
    into: ContextExtentList,
  ): number;
  /**
   * Brings the parts of the map that an answer about this range would have to wait for: true, and `waiter` is told when it need not
   * any more. False: nothing is missing, and nobody is told. Left out: nothing ever is.
   */
  bring?(offset_bytes: number, length_bytes: number, waiter: Waiter, token: number): boolean;
}

/** As ExtentList; depths need more than a byte. */
export interface ContextExtentList {
  count: number;
  readonly lengths_bytes: Float64Array;
  readonly values: Uint32Array;
}

export function newExtentList(limit: number): ExtentList {
  return { count: 0, lengths_bytes: new Float64Array(limit), flags: new Uint8Array(limit) };
}

export function newContextExtentList(limit: number): ContextExtentList {
  return { count: 0, lengths_bytes: new Float64Array(limit), values: new Uint32Array(limit) };
}

/** As pushExtent, of one context's values. */
export function pushContextExtent(list: ContextExtentList, length_bytes: number, value: number): boolean {
  const last = list.count - 1;
  if (last >= 0 && list.values[last] === value) {
    list.lengths_bytes[last] = list.lengths_bytes[last]! + length_bytes;
    return true;
  }
  if (list.count === list.values.length) return false;
  list.lengths_bytes[list.count] = length_bytes;
  list.values[list.count] = value;
  list.count++;
  return true;
}

/** Adds an extent, joined to the last one where flags agree. False when the list is full. */
export function pushExtent(list: ExtentList, length_bytes: number, flags: number): boolean {
  const last = list.count - 1;
  if (last >= 0 && list.flags[last] === flags) {
    list.lengths_bytes[last] = list.lengths_bytes[last]! + length_bytes;
    return true;
  }
  if (list.count === list.flags.length) return false;
  list.lengths_bytes[list.count] = length_bytes;
  list.flags[list.count] = flags;
  list.count++;
  return true;
}
