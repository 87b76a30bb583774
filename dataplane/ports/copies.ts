/**
 * A frame copied out of the turn, its edit applied: into a slot of its own, with what is still to be done to it.
 * For ports that keep frames or change them (loopback, faulty).
 */
import { SLOT_ROOM_BYTES } from '../engine/arena.js';
import { AT, FRAME_WORDS, LENGTH, W0, W1, W2 } from '../engine/frames.js';
import type { FrameTable } from '../engine/frames.js';
import type { BufferPool } from '../engine/pool.js';
import * as virtioNet from '../wire/virtioNet.js';
import * as vlan from '../wire/vlan.js';

/** Copies the edited frame to `outAt`. Returns its length. */
export function copyEdited(
  pool: BufferPool,
  words: Int32Array,
  w: number,
  edit: number,
  outAt: number,
): number {
  const { bytes, view } = pool.arena;
  const at = words[w + AT]!;
  const length_bytes = words[w + LENGTH]!;
  if (edit === vlan.EDIT_NONE) {
    bytes.copyWithin(outAt, at, at + length_bytes);
    return length_bytes;
  }
  const head_bytes = vlan.emitEdited(view, outAt, at, edit);
  const from = vlan.editedFrom(edit);
  bytes.copyWithin(outAt + head_bytes, at + from, at + length_bytes);
  return head_bytes + length_bytes - from;
}

/** Adds the edited frame to a table as a frame of its own. False when there is no slot. */
export function pushEditedCopy(
  pool: BufferPool,
  from: FrameTable,
  frame: number,
  edit: number,
  to: FrameTable,
): boolean {
  const slot = pool.take();
  if (slot < 0) return false;
  const { words } = from;
  const w = frame * FRAME_WORDS;
  const at = pool.arena.slotAt(slot) + SLOT_ROOM_BYTES;
  const length_bytes = copyEdited(pool, words, w, edit, at);
  const growth = vlan.growth(edit);
  to.push(
    slot,
    at,
    length_bytes,
    virtioNet.moveWord0(words[w + W0]!, growth),
    virtioNet.moveWord1(words[w + W0]!, words[w + W1]!, growth),
    words[w + W2]!,
    SLOT_ROOM_BYTES,
  );
  return true;
}
