/** What DISCARD and WRITE_ZEROES are asked to do, looked at as a whole before anything is done (virtio 1.2, 5.2.6.2). */
import type { Chunk } from '../nbd/chunks.js';
import type { Request } from './request.js';
import {
  HEADER_LENGTH,
  S,
  SECTOR_BYTES,
  SEGMENTS_MAX,
  SEGMENT_F_UNMAP,
  SEGMENT_LENGTH,
  SEGMENT_MAX_SECTORS,
  T,
} from './virtioBlk.js';

/** Copies the segments to `scratch` and from there, checked, into the request. S.OK, or why they are refused. */
export function takeSegments(
  request: Request,
  scratch: Chunk,
  fits: (offset: number, length: number) => boolean,
): number {
  const length = request.writable_bytes;
  if (length === 0 || length % SEGMENT_LENGTH !== 0 || length > SEGMENTS_MAX * SEGMENT_LENGTH) return S.IOERR;
  request.copyFrom(HEADER_LENGTH, length, scratch, 0);
  request.segments = length / SEGMENT_LENGTH;
  request.segment = 0;
  const { view } = scratch;
  for (let i = 0; i < request.segments; i++) {
    const at = i * SEGMENT_LENGTH;
    const offset = (view.getUint32(at + 4, true) * 2 ** 32 + view.getUint32(at, true)) * SECTOR_BYTES;
    const sectors = view.getUint32(at + 8, true);
    const flags = view.getUint32(at + 12, true);
    if ((flags & ~SEGMENT_F_UNMAP) !== 0 || (request.type === T.DISCARD && flags !== 0)) return S.UNSUPP;
    if (sectors > SEGMENT_MAX_SECTORS || !fits(offset, sectors * SECTOR_BYTES)) return S.IOERR;
    request.segmentOffsets[i] = offset;
    request.segmentLengths[i] = sectors * SECTOR_BYTES;
    request.segmentFlags[i] = flags;
  }
  return S.OK;
}
