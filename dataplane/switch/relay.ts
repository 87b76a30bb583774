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
import { FilteringDatabase, LEARN_KNOWN, NOWHERE, UNKNOWN } from './filteringDatabase.js';
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
export const DROP_STATIC_NOWHERE = dropReason('dropStaticNowhere');
export const DROP_ISOLATED = dropReason('dropIsolated');

/** No type of a tag: what stands in the frame has to be replaced in any case. */
const TPID_CHANGED = -1;

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
  /** For ports that are simple to VLANs; `edit` knows the others. */
  editTagged = 0;
  editUntagged = 0;
  /** Type of the tag it came with, 0: none that its port knows; and what stands in it, or would: priority and VLAN. */
  tagTpid = 0;
  tagControl = 0;
  /** It came without a tag, or with a customer's of its own VLAN. */
  isPlainlyTagged = true;
  /** 802.1p priority of its tag; 0 without one. */
  priority = 0;
  /** The source could not be learned because it is a group address or zero. */
  sourceNotLearnable = false;
  /** What `learn` answered: see filteringDatabase.ts. */
  learned = LEARN_KNOWN;

  constructor(macLimit: number, age_ms: number) {
    this.database = new FilteringDatabase(macLimit, age_ms);
  }

  /** The edit for a frame that leaves through `port`, by which its VLAN leaves. */
  edit(port: number): number {
    const pvid = this.vlans.simplePvid(port);
    if (pvid >= 0 && this.isPlainlyTagged) return pvid === this.vlan ? this.editUntagged : this.editTagged;
    return this.#editFor(port);
  }

  /** Service tags, translation, hybrid ports, private VLANs. */
  #editFor(port: number): number {
    const { vlans } = this;
    if (vlans.leavesUntagged(port, this.vlan)) return this.editUntagged;
    const tpid = vlans.tpid(port);
    const control = (this.tagControl & ~vlan.VID_MASK) | vlans.outward(port, this.vlan);
    if (this.tagTpid === tpid && this.tagControl === control) return vlan.EDIT_NONE;
    const how = this.tagTpid === 0 ? vlan.EDIT_ADD : vlan.EDIT_REPLACE;
    return how | vlan.editOfTpid(tpid) | control;
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
    else
      this.learned = this.database.learn(
        FilteringDatabase.key0(this.vlans.fid(this.vlan), high),
        low,
        port,
        now_ms,
      );
  }

  /** Sets what `learn` would set, and notes nothing. */
  wouldLearn(view: DataView, at: number, port: number, now_ms: number): void {
    const high = view.getUint16(at + ethernet.SOURCE);
    const low = view.getInt32(at + ethernet.SOURCE + 2);
    this.sourceNotLearnable = (high & 0x0100) !== 0 || (high | low) === 0;
    if (this.sourceNotLearnable) return;
    const key0 = FilteringDatabase.key0(this.vlans.fid(this.vlan), high);
    this.learned = this.database.wouldLearn(key0, low, port, now_ms);
  }

  /** Where it goes: a port, FLOOD, or a drop reason. */
  lookup(view: DataView, at: number, port: number, now_ms: number): number {
    const high = view.getUint16(at);
    if ((high & 0x0100) !== 0) return ethernet.isReservedGroup(view, at) ? DROP_RESERVED_GROUP : FLOOD;
    const vid = this.vlan;
    const egress = this.database.lookup(
      FilteringDatabase.key0(this.vlans.fid(vid), high),
      view.getInt32(at + 2),
      now_ms,
    );
    if (egress === UNKNOWN) return FLOOD;
    if (egress === port) return DROP_SAME_PORT;
    // 8.6.4: a station may have been learned before its port left the VLAN, or stopped forwarding.
    if (this.blocked[egress] !== 0) return egress === NOWHERE ? DROP_STATIC_NOWHERE : DROP_NO_RECEIVER;
    if (!this.vlans.leaves(egress, vid))
      return this.vlans.fid(vid) === vid ? DROP_NO_RECEIVER : DROP_ISOLATED;
    return this.isApart(port, egress) ? DROP_ISOLATED : egress;
  }

  /** Whether nothing may go from the one to the other, though both are members of the VLAN. */
  isApart(port: number, egress: number): boolean {
    return port >= 0 && (this.isolated[port]! & this.isolated[egress]!) !== 0;
  }

  /** A rule gave the frame another VLAN or priority: what egress ports do to its tag. */
  retag(vid: number, priority: number): void {
    this.vlan = vid;
    this.priority = priority;
    this.editTagged =
      (this.tagTpid === 0 ? vlan.EDIT_ADD : vlan.EDIT_REPLACE) | (priority << vlan.PCP_SHIFT) | vid;
    this.editUntagged = this.tagTpid === 0 ? vlan.EDIT_NONE : vlan.EDIT_REMOVE;
    // What stands in the frame is neither now: every tag is written anew.
    if (this.tagTpid !== 0) this.tagTpid = TPID_CHANGED;
    this.tagControl = (priority << vlan.PCP_SHIFT) | vid;
  }

  // What `setAside` keeps.
  #asideVlan = 0;
  #asidePriority = 0;
  #asideEditTagged = 0;
  #asideEditUntagged = 0;
  #asideTagTpid = 0;
  #asideTagControl = 0;
  #asideIsPlain = true;

  /** Keeps what was found out about the frame in hand, while another is sent; `putBack` ends that. Not nested. */
  setAside(): void {
    this.#asideVlan = this.vlan;
    this.#asidePriority = this.priority;
    this.#asideEditTagged = this.editTagged;
    this.#asideEditUntagged = this.editUntagged;
    this.#asideTagTpid = this.tagTpid;
    this.#asideTagControl = this.tagControl;
    this.#asideIsPlain = this.isPlainlyTagged;
  }

  putBack(): void {
    this.vlan = this.#asideVlan;
    this.priority = this.#asidePriority;
    this.editTagged = this.#asideEditTagged;
    this.editUntagged = this.#asideEditUntagged;
    this.tagTpid = this.#asideTagTpid;
    this.tagControl = this.#asideTagControl;
    this.isPlainlyTagged = this.#asideIsPlain;
  }

  /** A frame of our own, untagged, in a VLAN: what an egress port needs to know. */
  originate(vid: number): void {
    this.#untagged(vid);
  }

  #untagged(vid: number): void {
    this.vlan = vid;
    this.priority = 0;
    this.tagTpid = 0;
    this.tagControl = vid;
    this.isPlainlyTagged = true;
    this.editTagged = vlan.EDIT_ADD | vid;
    this.editUntagged = vlan.EDIT_NONE;
  }

  /** Sets vlan and edits. 0, or a drop reason. */
  #classify(view: DataView, at: number, length_bytes: number, port: number): number {
    const { vlans } = this;
    const pvid = vlans.pvid(port);
    const type = view.getUint16(at + ethernet.TYPE);
    if (type !== vlans.tpid(port)) {
      if (pvid === 0) return DROP_UNTAGGED;
      this.#untagged(pvid);
      return 0;
    }
    if (length_bytes < ethernet.LENGTH + vlan.LENGTH) return DROP_TRUNCATED;
    const control = vlan.tci(view, at);
    const onWire = control & vlan.VID_MASK;
    if (onWire === vlan.VID_RESERVED) return DROP_VLAN_RESERVED;
    // 6.9.1: priority-tagged frames belong to the PVID; the priority is kept where a tag leaves.
    const vid = onWire === vlan.VID_NULL ? pvid : vlans.inward(port, onWire);
    if (vid === 0) return DROP_UNTAGGED;
    if (!vlans.has(port, vid)) return DROP_VLAN_NOT_MEMBER;
    if (vlans.isAccess(port) && view.getUint16(at + vlan.AT + vlan.LENGTH) === ethernet.TYPE_CVLAN)
      return DROP_DOUBLE_TAGGED;
    this.vlan = vid;
    this.priority = control >>> vlan.PCP_SHIFT;
    this.tagTpid = type;
    this.tagControl = control;
    this.isPlainlyTagged = type === vlan.TPID_CUSTOMER;
    this.editTagged = onWire === vid ? vlan.EDIT_NONE : vlan.EDIT_REPLACE | (control & ~vlan.VID_MASK) | vid;
    this.editUntagged = vlan.EDIT_REMOVE;
    return 0;
  }
}
