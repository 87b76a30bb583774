/**
 * Counts a frame that was sent. As in IF-MIB, packets count when they are given to the port, also those that it
 * then has to drop.
 */
import { C } from '../engine/counters.js';
import { AT, FRAME_WORDS, LENGTH } from '../engine/frames.js';
import type { FrameTable, Queue } from '../engine/frames.js';
import * as ethernet from '../wire/ethernet.js';
import * as vlan from '../wire/vlan.js';

export function countSent(
  row: Float64Array,
  view: DataView,
  frames: FrameTable,
  frame: number,
  edit: number,
): void {
  const w = frame * FRAME_WORDS;
  const at = frames.words[w + AT]!;
  row[C.ifHCOutOctets]! += frames.words[w + LENGTH]! + vlan.growth(edit);
  if (!ethernet.isGroup(view, at)) row[C.ifHCOutUcastPkts]!++;
  else if (ethernet.isBroadcast(view, at)) row[C.ifHCOutBroadcastPkts]!++;
  else row[C.ifHCOutMulticastPkts]!++;
}

export function countAllDropped(row: Float64Array, queue: Queue, counter: number): void {
  row[counter]! += queue.count;
}
