/**
 * VLAN tags (IEEE 802.1Q-2022 9.6): four octets between source address and type.
 *
 *   0          2                    4
 *   +----------+--------------------+
 *   | TPID     | PCP 3  DEI 1 VID 12|      TPID 0x8100 (customer), 0x88a8 (service), 0x9100 (older outer tags)
 *   +----------+--------------------+
 *
 * Tags are pushed and popped while a frame is sent, never in the buffer it lies in: the same buffer may be on
 * its way to many ports. What is to be done to a frame is a word, `edit`: 0 leaves it as it is, REMOVE
 * takes the tag away, and any other value is the tag to add, or with REPLACE set to put instead of the old one.
 */
import { TYPE_CVLAN } from './ethernet.js';

// Specification constants.
/** Where the tag stands in a frame. */
export const AT = 12;
export const LENGTH = 4;
export const VID_MASK = 0x0fff;
/** Table 9-2: the null VLAN: the tag carries a priority only. */
export const VID_NULL = 0;
/** Table 9-2: reserved, never transmitted. */
export const VID_RESERVED = 4095;
export const VID_MAX = 4094;
export const PCP_SHIFT = 13;
export const DEI = 0x1000;

export const TPID_CUSTOMER = TYPE_CVLAN;
export const TPID_SERVICE = 0x88a8;
export const TPID_OLD_OUTER = 0x9100;

// Our constants: edits.
export const EDIT_NONE = 0;
export const EDIT_REMOVE = 1 << 16;
export const EDIT_ADD = 1 << 17;
export const EDIT_REPLACE = EDIT_REMOVE | EDIT_ADD;
/** Of the tag that is added; none of them: a customer tag. */
export const EDIT_SERVICE = 1 << 18;
export const EDIT_OLD_OUTER = 1 << 19;

export interface Tag {
  pcp: number;
  dei: boolean;
  vid: number;
}

export function isTagged(view: DataView, frameAt: number): boolean {
  return view.getUint16(frameAt + AT) === TYPE_CVLAN;
}

/** Tag control information of a tagged frame. */
export function tci(view: DataView, frameAt: number): number {
  return view.getUint16(frameAt + AT + 2);
}

/** The bits of an edit that adds a tag of this type. */
export function editOfTpid(tpid: number): number {
  if (tpid === TPID_CUSTOMER) return 0;
  return tpid === TPID_SERVICE ? EDIT_SERVICE : EDIT_OLD_OUTER;
}

/** The tag that an edit adds, as the 32-bit word that stands in the frame. */
export function word(edit: number): number {
  let tpid = TPID_CUSTOMER;
  if ((edit & (EDIT_SERVICE | EDIT_OLD_OUTER)) !== 0)
    tpid = (edit & EDIT_SERVICE) !== 0 ? TPID_SERVICE : TPID_OLD_OUTER;
  return (tpid << 16) | (edit & 0xffff) | 0;
}

/** By how much an edit makes a frame longer: -4, 0 or 4. */
export function growth(edit: number): number {
  return (edit & EDIT_ADD ? LENGTH : 0) - (edit & EDIT_REMOVE ? LENGTH : 0);
}

export function parse(view: DataView, frameAt: number, out: Tag): void {
  const control = tci(view, frameAt);
  out.pcp = control >>> PCP_SHIFT;
  out.dei = (control & DEI) !== 0;
  out.vid = control & VID_MASK;
}

export function emit(view: DataView, frameAt: number, tag: Tag): number {
  view.setUint16(frameAt + AT, TYPE_CVLAN);
  view.setUint16(frameAt + AT + 2, (tag.pcp << PCP_SHIFT) | (tag.dei ? DEI : 0) | tag.vid);
  return LENGTH;
}

/** Where in the old frame the part begins that an edit leaves as it is. */
export function editedFrom(edit: number): number {
  return edit & EDIT_REMOVE ? AT + LENGTH : AT;
}

/**
 * Writes the beginning of the edited frame elsewhere: addresses, and the tag if there is one to add. What is
 * to follow is the old frame from `editedFrom` on. Returns the bytes written: 12 or 16.
 */
export function emitEdited(view: DataView, outAt: number, frameAt: number, edit: number): number {
  view.setInt32(outAt, view.getInt32(frameAt));
  view.setInt32(outAt + 4, view.getInt32(frameAt + 4));
  view.setInt32(outAt + 8, view.getInt32(frameAt + 8));
  if ((edit & EDIT_ADD) === 0) return AT;
  view.setInt32(outAt + AT, word(edit));
  return AT + LENGTH;
}

/** Edits a frame in memory that is nobody else's, four bytes of room before it. Returns where it begins now. */
export function editInPlace(view: DataView, frameAt: number, edit: number): number {
  if (edit === EDIT_NONE) return frameAt;
  const outAt = frameAt - growth(edit);
  if (outAt < frameAt) {
    emitEdited(view, outAt, frameAt, edit);
  } else {
    // Backwards, since the addresses move towards the end, over themselves.
    if (outAt > frameAt)
      for (let i = AT - 4; i >= 0; i -= 4) view.setInt32(outAt + i, view.getInt32(frameAt + i));
    if (edit & EDIT_ADD) view.setInt32(outAt + AT, word(edit));
  }
  return outAt;
}
