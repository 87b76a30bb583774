/**
 * The forwarding decision of one switch (IEEE 802.1Q-2022 8.6): pure, one frame at a time, no allocation.
 *
 *   is it a frame?  ->  which VLAN (6.9.1, tag or PVID)  ->  may the port bring it (8.6.2)
 *   ->  learn the source (8.7)  ->  is the destination reserved (8.6.3)  ->  one port, all members, or none
 *
 * `decide` answers with a port number, FLOOD, or a drop reason, and leaves beside it what an egress port needs
 * to know: the VLAN, and the edit for ports that send it tagged or untagged. The head of wire/vlan.ts says what
 * an edit is.
 *
 * Where we go beyond the standard: a frame with two customer tags is not taken from an access port. Stripped
 * of the outer one at a trunk whose native VLAN is that access VLAN, it would enter the inner VLAN at the next
 * switch; who hangs on an access port has no business with tags inside tags.
 */
import * as ethernet from '../wire/ethernet.js';
import * as vlan from '../wire/vlan.js';
import { dropReason } from './counters.js';
import { FilteringDatabase, LEARN_KNOWN, UNKNOWN } from './filteringDatabase.js';
import { VlanMembership } from './vlanMembership.js';

export const FLOOD = -1;
export const DROP_TRUNCATED = dropReason('dropTruncated');
export const DROP_OVERSIZED = dropReason('dropOversized');
export const DROP_VLAN_RESERVED = dropReason('dropVlanReserved');
export const DROP_VLAN_NOT_MEMBER = dropReason('dropVlanNotMember');
export const DROP_UNTAGGED = dropReason('dropUntagged');
export const DROP_DOUBLE_TAGGED = dropReason('dropDoubleTagged');
export const DROP_RESERVED_GROUP = dropReason('dropReservedGroup');
export const DROP_SAME_PORT = dropReason('dropSamePort');
export const DROP_NO_RECEIVER = dropReason('dropNoReceiver');
export const DROP_ISOLATED = dropReason('dropIsolated');

/** Ports of one switch at most, as the contract has it. */
export const PORTS_MAX_COUNT = 4096;

export class Relay {
  readonly database: FilteringDatabase;
  readonly vlans = new VlanMembership();
  /** 1: nothing leaves by this port (spanning tree, a fault). */
  readonly blocked = new Uint8Array(PORTS_MAX_COUNT);
  readonly isolated = new Uint8Array(PORTS_MAX_COUNT);

  // What the last `decide` found out.
  vlan = 0;
  editTagged = 0;
  editUntagged = 0;
  /** 802.1p priority of its tag; 0 without one. */
  priority = 0;
  /** The source could not be learned because it is a group address or zero. */
  sourceNotLearnable = false;
  /** What `learn` answered: see filteringDatabase.ts. */
  learned = LEARN_KNOWN;

  constructor(macLimit: number, age_ms: number) {
    this.database = new FilteringDatabase(macLimit, age_ms);
  }

  /** The edit for a frame that leaves through `port`, a member of its VLAN. */
  edit(port: number): number {
    return this.vlans.pvid(port) === this.vlan ? this.editUntagged : this.editTagged;
  }

  /** The whole of it for a plain port. */
  decide(view: DataView, at: number, length_bytes: number, port: number, now_ms: number): number {
    const dropped = this.classify(view, at, length_bytes, port);
    if (dropped !== 0) return dropped;
    this.learn(view, at, port, now_ms);
    return this.lookup(view, at, port, now_ms);
  }

  /** Is it a frame, which VLAN is it of, may the port bring it: 0, or a drop reason. */
  classify(view: DataView, at: number, length_bytes: number, port: number): number {
    this.sourceNotLearnable = false;
    this.learned = LEARN_KNOWN;
    if (length_bytes < ethernet.LENGTH) return DROP_TRUNCATED;
    if (length_bytes > ethernet.FRAME_MAX_BYTES) return DROP_OVERSIZED;
    return this.#classify(view, at, length_bytes, port);
  }

  /** 8.7: only individual addresses are learned. */
  learn(view: DataView, at: number, port: number, now_ms: number): void {
    const high = view.getUint16(at + ethernet.SOURCE);
    const low = view.getInt32(at + ethernet.SOURCE + 2);
    if ((high & 0x0100) !== 0 || (high | low) === 0) this.sourceNotLearnable = true;
    else this.learned = this.database.learn(FilteringDatabase.key0(this.vlan, high), low, port, now_ms);
  }

  /** Where it goes: a port, FLOOD, or a drop reason. */
  lookup(view: DataView, at: number, port: number, now_ms: number): number {
    const high = view.getUint16(at);
    if ((high & 0x0100) !== 0) return ethernet.isReservedGroup(view, at) ? DROP_RESERVED_GROUP : FLOOD;
    const vid = this.vlan;
    const egress = this.database.lookup(FilteringDatabase.key0(vid, high), view.getInt32(at + 2), now_ms);
    if (egress === UNKNOWN) return FLOOD;
    if (egress === port) return DROP_SAME_PORT;
    // 8.6.4: a station may have been learned before its port left the VLAN, or stopped forwarding.
    if (this.blocked[egress] !== 0 || !this.vlans.has(egress, vid)) return DROP_NO_RECEIVER;
    return this.isApart(port, egress) ? DROP_ISOLATED : egress;
  }

  /** Whether nothing may go from the one to the other, though both are members of the VLAN. */
  isApart(port: number, egress: number): boolean {
    return port >= 0 && (this.isolated[port]! & this.isolated[egress]!) !== 0;
  }

  /** A rule gave the frame another VLAN or priority: what egress ports do to its tag. */
  retag(view: DataView, at: number, vid: number, priority: number): void {
    const isTagged = vlan.isTagged(view, at);
    this.vlan = vid;
    this.priority = priority;
    this.editTagged = (isTagged ? vlan.EDIT_REPLACE : vlan.EDIT_ADD) | (priority << vlan.PCP_SHIFT) | vid;
    this.editUntagged = isTagged ? vlan.EDIT_REMOVE : vlan.EDIT_NONE;
  }

  /** A frame of our own, untagged, in a VLAN: what an egress port needs to know. */
  originate(vid: number): void {
    this.vlan = vid;
    this.editTagged = vlan.EDIT_ADD | vid;
    this.editUntagged = vlan.EDIT_NONE;
  }

  /** Sets vlan and edits. 0, or a drop reason. */
  #classify(view: DataView, at: number, length_bytes: number, port: number): number {
    if (!vlan.isTagged(view, at)) {
      const pvid = this.vlans.pvid(port);
      if (pvid === 0) return DROP_UNTAGGED;
      this.vlan = pvid;
      this.editTagged = vlan.EDIT_ADD | pvid;
      this.editUntagged = vlan.EDIT_NONE;
      this.priority = 0;
      return 0;
    }
    if (length_bytes < ethernet.LENGTH + vlan.LENGTH) return DROP_TRUNCATED;
    const control = vlan.tci(view, at);
    this.priority = control >>> vlan.PCP_SHIFT;
    let vid = control & vlan.VID_MASK;
    if (vid === vlan.VID_RESERVED) return DROP_VLAN_RESERVED;
    this.editUntagged = vlan.EDIT_REMOVE;
    if (vid === vlan.VID_NULL) {
      // 6.9.1: priority-tagged frames belong to the PVID; the priority is kept where a tag leaves.
      vid = this.vlans.pvid(port);
      if (vid === 0) return DROP_UNTAGGED;
      this.editTagged = vlan.EDIT_REPLACE | (control & ~vlan.VID_MASK) | vid;
    } else {
      this.editTagged = vlan.EDIT_NONE;
    }
    if (!this.vlans.has(port, vid)) return DROP_VLAN_NOT_MEMBER;
    if (this.vlans.isAccess(port) && view.getUint16(at + vlan.AT + vlan.LENGTH) === ethernet.TYPE_CVLAN)
      return DROP_DOUBLE_TAGGED;
    this.vlan = vid;
    return 0;
  }
}
