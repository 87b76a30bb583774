/**
 * Gathers what a port is about to send into the arena's iovecs, for ports whose peer takes finished frames
 * only (a stream, a tap without vnet headers): edits of the tag, checksums and segmentation happen here.
 *
 * No payload is copied and no shared buffer is changed, except that a checksum is completed in place (see
 * wire/offload.ts). An edited frame is two pieces: its new beginning in the scratch area, and the rest where it
 * lies; so is every segment of a super-frame.
 *
 * There is one Gather for the engine's thread. A port begins, adds its queue, finishes; whenever the iovecs or
 * the scratch area are full, and at the end, its `commit` is called to send what was gathered.
 */
import { C } from '../engine/counters.js';
import { IOVECS_COUNT, SCRATCH_BYTES } from '../engine/arena.js';
import type { Arena } from '../engine/arena.js';
import { AT, FRAME_WORDS, LENGTH, W0, W1, W2 } from '../engine/frames.js';
import type { FrameTable } from '../engine/frames.js';
import { SEGMENT_HEADER_MAX_BYTES, Segmenter, completeChecksum } from '../wire/offload.js';
import * as virtioNet from '../wire/virtioNet.js';
import * as vlan from '../wire/vlan.js';

/** What one frame or segment may need of the scratch area: prefix, one tag more, headers. */
const FRAME_SCRATCH_BYTES = 4 + vlan.LENGTH + SEGMENT_HEADER_MAX_BYTES;

export interface Committer {
  /** Send `gather.pieces` pieces, `gather.bytes` bytes, of `gather.frames` frames. */
  commit(gather: Gather): void;
}

export class Gather {
  readonly arena: Arena;
  readonly pieceAt = new Int32Array(IOVECS_COUNT);
  readonly pieceLength = new Int32Array(IOVECS_COUNT);
  /** How many bytes had been gathered when frame i was complete. */
  readonly frameEnd = new Int32Array(IOVECS_COUNT);
  pieces = 0;
  bytes = 0;
  frames = 0;
  readonly #segmenter = new Segmenter();
  #scratchAt = 0;
  #owner: Committer | undefined;
  #prefix_bytes = 0;
  #framesPerCommit = 0;

  constructor(arena: Arena) {
    this.arena = arena;
  }

  /** `prefix_bytes`: 4 puts a big-endian length before each frame, 0 nothing. */
  begin(owner: Committer, prefix_bytes: 0 | 4, framesPerCommit: number): void {
    this.#owner = owner;
    this.#prefix_bytes = prefix_bytes;
    this.#framesPerCommit = Math.min(framesPerCommit, IOVECS_COUNT >>> 1);
    this.#clear();
  }

  finish(): void {
    if (this.frames > 0) this.#commit();
  }

  #commit(): void {
    this.#owner!.commit(this);
    this.#clear();
  }

  #clear(): void {
    this.pieces = 0;
    this.bytes = 0;
    this.frames = 0;
    this.#scratchAt = this.arena.scratchAt;
  }

  /** One frame of the turn, finished for a peer that takes no offloads. `row`: the counters of who sends it. */
  add(frames: FrameTable, frame: number, edit: number, row: Float64Array): void {
    const words = frames.words;
    const w = frame * FRAME_WORDS;
    if ((words[w + W0]! & (0xff00 | virtioNet.F_NEEDS_CSUM)) !== 0) {
      if ((words[w + W0]! & 0xff00) !== 0) {
        this.#addSegments(words, w, edit, row);
        return;
      }
      if (!this.#complete(words, w, row)) return;
    }
    this.#makeRoom();
    this.#addPlain(words[w + AT]!, words[w + LENGTH]!, edit);
  }

  #complete(words: Int32Array, w: number, row: Float64Array): boolean {
    const { view } = this.arena;
    if (!completeChecksum(view, words[w + AT]!, words[w + LENGTH]!, words[w + W1]!, words[w + W2]!)) {
      row[C.dropOffload]!++;
      return false;
    }
    words[w + W0] = 0;
    words[w + W1] = 0;
    words[w + W2] = 0;
    row[C.checksumsCompleted]!++;
    return true;
  }

  #addPlain(at: number, length_bytes: number, edit: number): void {
    const { view } = this.arena;
    const prefix_bytes = this.#prefix_bytes;
    if (edit === vlan.EDIT_NONE) {
      // The room before a frame is for this, and where a prefix stands already it is the same one.
      if (prefix_bytes !== 0) view.setInt32(at - 4, length_bytes);
      this.#piece(at - prefix_bytes, length_bytes + prefix_bytes);
    } else {
      const from = vlan.editedFrom(edit);
      const head = this.#scratchAt;
      const head_bytes = vlan.emitEdited(view, head + prefix_bytes, at, edit);
      if (prefix_bytes !== 0) view.setInt32(head, head_bytes + length_bytes - from);
      this.#scratchAt = head + FRAME_SCRATCH_BYTES;
      this.#piece(head, prefix_bytes + head_bytes);
      this.#piece(at + from, length_bytes - from);
    }
    this.frameEnd[this.frames++] = this.bytes;
  }

  #addSegments(words: Int32Array, w: number, edit: number, row: Float64Array): void {
    const { view } = this.arena;
    const segmenter = this.#segmenter;
    const prefix_bytes = this.#prefix_bytes;
    const count = segmenter.plan(view, words[w + AT]!, words[w + LENGTH]!, words[w + W0]!, words[w + W1]!);
    if (count < 0) {
      row[C.dropOffload]!++;
      return;
    }
    row[C.gsoSegmentedFrames]!++;
    row[C.gsoSegments]! += count;
    const header_bytes = segmenter.header_bytes;
    for (let i = 0; i < count; i++) {
      this.#makeRoom();
      const headerAt = this.#scratchAt + 4 + vlan.LENGTH;
      this.#scratchAt += FRAME_SCRATCH_BYTES;
      segmenter.emitHeader(view, i, headerAt);
      const at = vlan.editInPlace(view, headerAt, edit);
      const head_bytes = headerAt + header_bytes - at;
      const payload_bytes = segmenter.payloadLength(i);
      if (prefix_bytes !== 0) view.setInt32(at - 4, head_bytes + payload_bytes);
      this.#piece(at - prefix_bytes, head_bytes + prefix_bytes);
      this.#piece(segmenter.payloadAt(i), payload_bytes);
      this.frameEnd[this.frames++] = this.bytes;
    }
  }

  /** Pieces that touch (frames that came in together, one after the other) become one. */
  #piece(at: number, length_bytes: number): void {
    const last = this.pieces - 1;
    this.bytes += length_bytes;
    if (last >= 0 && this.pieceAt[last]! + this.pieceLength[last]! === at) {
      this.pieceLength[last]! += length_bytes;
      return;
    }
    this.pieceAt[this.pieces] = at;
    this.pieceLength[this.pieces] = length_bytes;
    this.pieces++;
  }

  #makeRoom(): void {
    if (
      this.frames >= this.#framesPerCommit ||
      this.pieces + 2 > IOVECS_COUNT ||
      this.#scratchAt + FRAME_SCRATCH_BYTES > this.arena.scratchAt + SCRATCH_BYTES
    )
      this.#commit();
  }

  /** Lays the pieces out for writev. */
  fillIovecs(): void {
    for (let i = 0; i < this.pieces; i++) this.arena.setIovec(i, this.pieceAt[i]!, this.pieceLength[i]!);
  }
}
