/**
 * What a switch tells the queues about a frame, in the upper bits of its HOPS word (engine/frames.ts):
 *
 *   31..24   23      22..20     19..8   7..0
 *   0      | noted | priority | VLAN  | hops
 *
 * A frame that nobody noted anything of (its port has no QoS) is judged by its tag as it leaves; one to a reserved
 * group address is network control.
 */
import { AT, FRAME_WORDS, HOPS, HOPS_MASK } from '../engine/frames.js';
import * as ethernet from '../wire/ethernet.js';
import * as vlan from '../wire/vlan.js';

const NOTED = 1 << 23;
const NETWORK_CONTROL = 7;

export function noted(hops: number, vid: number, priority: number): number {
  return (hops & HOPS_MASK) | (vid << 8) | (priority << 20) | NOTED;
}

/** 0 when it is not known. */
export function vlanOf(words: Int32Array, frame: number): number {
  return (words[frame * FRAME_WORDS + HOPS]! >>> 8) & vlan.VID_MASK;
}

export function priorityOf(view: DataView, words: Int32Array, frame: number, edit: number): number {
  const w = frame * FRAME_WORDS;
  const note = words[w + HOPS]!;
  if ((note & NOTED) !== 0) return (note >>> 20) & 7;
  const at = words[w + AT]!;
  if (ethernet.isReservedGroup(view, at)) return NETWORK_CONTROL;
  if ((edit & vlan.EDIT_ADD) !== 0) return (edit & 0xffff) >>> vlan.PCP_SHIFT;
  const type = view.getUint16(at + ethernet.TYPE);
  if (type !== ethernet.TYPE_CVLAN && type !== ethernet.TYPE_SVLAN) return 0;
  return vlan.tci(view, at) >>> vlan.PCP_SHIFT;
}
