/**
 * How the ports of one switch stand to VLANs (IEEE 802.1Q-2022 8.6.2 ingress, 8.6.4 egress, 8.8.10), and which VLANs
 * belong together (RFC 5517 private VLANs).
 *
 * Per port: the VLANs whose frames it may bring (`has`), those whose frames may leave by it (`leaves`), those that
 * leave untagged, the PVID (of untagged frames, 0: none), the type of its tags, and a translation of the VIDs.
 *
 *   access    all is one VLAN              hybrid    PVID; tagged and untagged sets
 *   trunk     tagged, the native one not   tunnel    whatever comes, tagged or not, is of one (service) VLAN
 *
 * Private VLANs: secondary VLANs share the primary's addresses (`fid`), and hang on access ports:
 *
 *   frames of             leave by access ports of
 *   the primary           primary (promiscuous), isolated and community VLANs
 *   an isolated VLAN      the primary alone
 *   a community VLAN      the primary and this community
 *
 * Trunks carry each of them as any VLAN, so a private VLAN may span switches.
 *
 * Member lists per VLAN, for flooding, are made when a VLAN is first flooded and forgotten at any change, so
 * that a thousand trunks of all VLANs cost nothing for the VLANs nobody speaks in.
 */
import * as vlan from '../wire/vlan.js';

const VLANS = 4096;
const BITMAP_WORDS = VLANS / 32;

type Ranges = readonly (readonly [number, number])[];

export type Membership =
  | { mode: 'access'; vlan: number }
  | {
      mode: 'trunk';
      allowed: Ranges;
      native: number | null;
      tpid?: number | undefined;
      translate?: Ranges | undefined;
    }
  | { mode: 'hybrid'; pvid: number; untagged: Ranges; tagged: Ranges; translate?: Ranges | undefined }
  | { mode: 'tunnel'; vlan: number };

export interface PrivateVlanSet {
  primary: number;
  isolated: number | null;
  communities: readonly number[];
}

class Bitmap {
  readonly words = new Int32Array(BITMAP_WORDS);

  has(vid: number): boolean {
    return (this.words[vid >>> 5]! & (1 << (vid & 31))) !== 0;
  }

  set(vid: number, on = true): void {
    if (on) this.words[vid >>> 5]! |= 1 << (vid & 31);
    else this.words[vid >>> 5]! &= ~(1 << (vid & 31));
  }

  addRanges(ranges: Ranges): void {
    for (const [first, last] of ranges) for (let vid = first; vid <= last; vid++) this.set(vid);
  }
}

/** One port. */
class PortVlans {
  readonly isAccess: boolean;
  readonly isTunnel: boolean;
  readonly pvid: number;
  /** See wire/vlan.ts. */
  readonly tpid: number;
  readonly member = new Bitmap();
  readonly untagged = new Bitmap();
  /** VID on the wire -> in the switch, and back; undefined: the same. */
  readonly inward: Uint16Array | undefined;
  readonly outward: Uint16Array | undefined;

  constructor(membership: Membership) {
    this.isAccess = membership.mode === 'access';
    this.isTunnel = membership.mode === 'tunnel';
    this.tpid = (membership.mode === 'trunk' ? membership.tpid : undefined) ?? vlan.TPID_CUSTOMER;
    let translate: Ranges | undefined;
    switch (membership.mode) {
      case 'access':
      case 'tunnel':
        this.pvid = membership.vlan;
        this.member.set(membership.vlan);
        this.untagged.set(membership.vlan);
        break;
      case 'trunk':
        this.pvid = membership.native ?? 0;
        this.member.addRanges(membership.allowed);
        if (this.pvid !== 0) {
          this.member.set(this.pvid);
          this.untagged.set(this.pvid);
        }
        translate = membership.translate;
        break;
      case 'hybrid':
        this.pvid = membership.pvid;
        this.member.set(this.pvid);
        this.member.addRanges(membership.untagged);
        this.member.addRanges(membership.tagged);
        this.untagged.addRanges(membership.untagged);
        // Said twice, the tag wins but for the PVID, whose frames come without one.
        for (const [first, last] of membership.tagged)
          for (let vid = first; vid <= last; vid++) if (vid !== this.pvid) this.untagged.set(vid, false);
        translate = membership.translate;
        break;
    }
    if (translate !== undefined && translate.length > 0) {
      this.inward = Uint16Array.from({ length: VLANS }, (_, vid) => vid);
      this.outward = Uint16Array.from({ length: VLANS }, (_, vid) => vid);
      // What has another number on the wire does not come by its own too, unless that number means something else.
      for (const [, inSwitch] of translate) this.inward[inSwitch] = vlan.VID_RESERVED;
      for (const [onWire, inSwitch] of translate) {
        this.inward[onWire] = inSwitch;
        this.outward[inSwitch] = onWire;
      }
    }
  }
}

/** Bits of `flags`. */
const ACCESS = 1;
const TRANSLATES = 2;

export class VlanMembership {
  readonly #ports: (PortVlans | undefined)[] = [];
  // What the frame path looks at, by port; flat, since it is looked at for every frame.
  #pvid = new Int32Array(0);
  /** Type of the tags that the port knows; 0 for a tunnel, which knows none. */
  #tpid = new Int32Array(0);
  #simplePvid = new Int32Array(0);
  #flags = new Uint8Array(0);
  #member = new Int32Array(0);
  #egress = new Int32Array(0);
  readonly #fid = Uint16Array.from({ length: VLANS }, (_, vid) => vid);
  readonly #lists: (Int32Array | undefined)[] = Array.from({ length: VLANS });
  #private: readonly PrivateVlanSet[] = [];

  constructor() {
    this.#reserve(7);
  }

  /** Also for a port that had a membership before. */
  set(port: number, membership: Membership): void {
    this.#reserve(port);
    this.#ports[port] = new PortVlans(membership);
    this.#lay(port);
    this.#lists.fill(undefined);
  }

  clear(port: number): void {
    this.#reserve(port);
    this.#ports[port] = undefined;
    this.#pvid[port] = 0;
    this.#tpid[port] = 0;
    this.#simplePvid[port] = -1;
    this.#flags[port] = 0;
    this.#member.fill(0, port * BITMAP_WORDS, (port + 1) * BITMAP_WORDS);
    this.#egress.fill(0, port * BITMAP_WORDS, (port + 1) * BITMAP_WORDS);
    this.#lists.fill(undefined);
  }

  /** Takes effect for all ports that are there. */
  setPrivate(sets: readonly PrivateVlanSet[]): void {
    this.#private = sets;
    for (let vid = 0; vid < VLANS; vid++) this.#fid[vid] = vid;
    for (const { primary, isolated, communities } of sets) {
      if (isolated !== null) this.#fid[isolated] = primary;
      for (const community of communities) this.#fid[community] = primary;
    }
    for (let port = 0; port < this.#ports.length; port++)
      if (this.#ports[port] !== undefined) this.#lay(port);
    this.#lists.fill(undefined);
  }

  /** 802.1Q-2022 8.8.8: VLANs of one FID share what was learned. */
  fid(vid: number): number {
    return this.#fid[vid]!;
  }

  /** The VLAN of untagged frames that come in; 0: none. */
  pvid(port: number): number {
    return this.#pvid[port]!;
  }

  /** The PVID of a port whose frames leave untagged in this VLAN only, and tagged as customers do; -1: not so simple. */
  simplePvid(port: number): number {
    return this.#simplePvid[port]!;
  }

  isAccess(port: number): boolean {
    return (this.#flags[port]! & ACCESS) !== 0;
  }

  /** What a frame's type must be for it to be tagged in the eyes of this port; 0: none is (a tunnel). */
  tpid(port: number): number {
    return this.#tpid[port]!;
  }

  /** The VLAN that a VID on this port's wire means. */
  inward(port: number, vid: number): number {
    return (this.#flags[port]! & TRANSLATES) === 0 ? vid : this.#ports[port]!.inward![vid]!;
  }

  outward(port: number, vid: number): number {
    return (this.#flags[port]! & TRANSLATES) === 0 ? vid : this.#ports[port]!.outward![vid]!;
  }

  /** Whether the port may bring frames of the VLAN. */
  has(port: number, vid: number): boolean {
    return (this.#member[port * BITMAP_WORDS + (vid >>> 5)]! & (1 << (vid & 31))) !== 0;
  }

  /** Whether frames of the VLAN may leave by the port. */
  leaves(port: number, vid: number): boolean {
    return (this.#egress[port * BITMAP_WORDS + (vid >>> 5)]! & (1 << (vid & 31))) !== 0;
  }

  /** Whether they do so untagged. */
  leavesUntagged(port: number, vid: number): boolean {
    const vlans = this.#ports[port]!;
    return vlans.isAccess || vlans.isTunnel || vlans.untagged.has(vid);
  }

  /** Ports by which frames of the VLAN may leave, ascending. Not to be changed by the caller. */
  members(vid: number): Int32Array {
    return this.#lists[vid] ?? this.#list(vid);
  }

  #list(vid: number): Int32Array {
    const ports: number[] = [];
    for (let port = 0; port < this.#ports.length; port++) if (this.leaves(port, vid)) ports.push(port);
    const list = Int32Array.from(ports);
    this.#lists[vid] = list;
    return list;
  }

  #isSimple(vlans: PortVlans): boolean {
    if (this.#private.length > 0 || vlans.isTunnel || vlans.tpid !== vlan.TPID_CUSTOMER) return false;
    return vlans.inward === undefined && isUntaggedOnlyPvid(vlans);
  }

  /** Puts a port's words where the frame path looks. */
  #lay(port: number): void {
    const vlans = this.#ports[port]!;
    this.#pvid[port] = vlans.pvid;
    this.#tpid[port] = vlans.isTunnel ? 0 : vlans.tpid;
    this.#simplePvid[port] = this.#isSimple(vlans) ? vlans.pvid : -1;
    this.#flags[port] = (vlans.isAccess ? ACCESS : 0) | (vlans.inward === undefined ? 0 : TRANSLATES);
    this.#member.set(vlans.member.words, port * BITMAP_WORDS);
    this.#egress.set(this.#egressOf(vlans).words, port * BITMAP_WORDS);
  }

  #egressOf(vlans: PortVlans): Bitmap {
    const egress = new Bitmap();
    egress.words.set(vlans.member.words);
    if (!vlans.isAccess) return egress;
    for (const { primary, isolated, communities } of this.#private) {
      const secondaries = isolated === null ? communities : [isolated, ...communities];
      if (vlans.pvid === primary) for (const secondary of secondaries) egress.set(secondary);
      else if (secondaries.includes(vlans.pvid)) egress.set(primary);
      if (isolated !== null && vlans.pvid === isolated) egress.set(isolated, false);
    }
    return egress;
  }

  #reserve(port: number): void {
    const before = this.#pvid.length;
    if (port < before) return;
    const capacity = Math.max(port + 1, before * 2);
    const grown = (old: Int32Array<ArrayBuffer>, words: number): Int32Array<ArrayBuffer> => {
      const array = new Int32Array(capacity * words);
      array.set(old);
      return array;
    };
    this.#pvid = grown(this.#pvid, 1);
    this.#tpid = grown(this.#tpid, 1);
    this.#simplePvid = grown(this.#simplePvid, 1).fill(-1, before);
    this.#member = grown(this.#member, BITMAP_WORDS);
    this.#egress = grown(this.#egress, BITMAP_WORDS);
    const flags = new Uint8Array(capacity);
    flags.set(this.#flags);
    this.#flags = flags;
  }
}

/** As an access port or a trunk has it. */
function isUntaggedOnlyPvid({ untagged, pvid }: PortVlans): boolean {
  return untagged.words.every(
    (word, index) => word === (pvid !== 0 && pvid >>> 5 === index ? 1 << (pvid & 31) : 0),
  );
}
