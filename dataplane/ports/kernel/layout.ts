/**
 * How a flow that the kernel forwards stands in the map that we share with it. Pure.
 *
 * Key, 16 bytes: what a decision by port, addresses and VLAN can depend on.
 *
 *   0 destination(6)   6 source(6)   12 TCI of the tag(u16, 0 without)   14 port(u16; top bit: it has a tag)
 *
 * Value, 64 bytes: what is to be done, and what was done.
 *
 *   0 generation   4 how   8 ifindex   12 edit   16 longest frame   20 longest segment   24 slot   28 unused(4)
 *   32 frames(u64)   40 octets(u64)   48 super-frames(u64)   56 unused(8)
 *
 * `generation` must be the switch's at that moment (a word in a map of its own), or the flow does not count any
 * more: changing that one word ends all flows of a switch at once. Octets are counted as the switch does: a
 * super-frame is one frame, its tag counts.
 */
import * as vlan from '../../wire/vlan.js';

export const KEY_BYTES = 16;
export const KEY_DESTINATION = 0;
export const KEY_SOURCE = 6;
export const KEY_TCI = 12;
export const KEY_PORT = 14;
export const KEY_IS_TAGGED = 0x8000;
/** A port's number must leave room for that bit. */
export const PORT_MAX = 0x7fff;

export const VALUE_BYTES = 64;
export const VALUE_GENERATION = 0;
export const VALUE_HOW = 4;
export const VALUE_IFINDEX = 8;
export const VALUE_EDIT = 12;
export const VALUE_FRAME_MAX = 16;
export const VALUE_SEGMENT_MAX = 20;
/** The engine's own number of the flow; nothing to the programs. */
export const VALUE_SLOT = 24;
export const VALUE_FRAMES = 32;
export const VALUE_OCTETS = 40;
export const VALUE_SUPER_FRAMES = 48;

/** Out of the interface, as if its own host had sent it. */
export const HOW_OUT = 0;
/** Into the interface, as if it had come in there. BPF_F_INGRESS. */
export const HOW_IN = 1;
/** Out of the interface, a veth, and at once in at its other end, in another namespace. */
export const HOW_PEER = 2;
export type How = typeof HOW_OUT | typeof HOW_IN | typeof HOW_PEER;

/** Edits that the program knows: a customer tag added, removed or replaced. */
export function canEdit(edit: number): boolean {
  return (edit & ~(vlan.EDIT_REPLACE | 0xffff)) === 0;
}

export interface FlowKey {
  /** First 16 and last 32 bits of each address, as the pipeline holds them. */
  readonly destinationHigh: number;
  readonly destinationLow: number;
  readonly sourceHigh: number;
  readonly sourceLow: number;
  /** -1: no tag. */
  readonly tci: number;
  readonly port: number;
}

export function putKey(view: DataView, at: number, key: FlowKey): void {
  view.setUint16(at + KEY_DESTINATION, key.destinationHigh);
  view.setInt32(at + KEY_DESTINATION + 2, key.destinationLow);
  view.setUint16(at + KEY_SOURCE, key.sourceHigh);
  view.setInt32(at + KEY_SOURCE + 2, key.sourceLow);
  view.setUint16(at + KEY_TCI, key.tci < 0 ? 0 : key.tci, true);
  view.setUint16(at + KEY_PORT, key.tci < 0 ? key.port : key.port | KEY_IS_TAGGED, true);
}

export interface FlowAction {
  readonly generation: number;
  readonly how: How;
  readonly ifindex: number;
  readonly edit: number;
  /** Longest frame with its header, if it is not a super-frame; what is longer goes the ordinary way. */
  readonly frame_max_bytes: number;
  /** Longest segment of a super-frame. */
  readonly segment_max_bytes: number;
}

/** Counters become zero. */
export function putAction(view: DataView, at: number, action: FlowAction): void {
  for (let i = 0; i < VALUE_BYTES; i += 4) view.setUint32(at + i, 0);
  view.setUint32(at + VALUE_GENERATION, action.generation, true);
  view.setUint32(at + VALUE_HOW, action.how, true);
  view.setUint32(at + VALUE_IFINDEX, action.ifindex, true);
  view.setUint32(at + VALUE_EDIT, action.edit, true);
  view.setUint32(at + VALUE_FRAME_MAX, action.frame_max_bytes, true);
  view.setUint32(at + VALUE_SEGMENT_MAX, action.segment_max_bytes, true);
}

/** Exact to 2^53. */
export function counterAt(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
}
