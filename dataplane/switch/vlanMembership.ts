/**
 * VLAN membership of the ports of one switch (IEEE 802.1Q-2022 8.6.2 ingress, 8.6.4 egress, 8.8.10).
 *
 * Per port: the set of VLANs it is a member of (a bitmap), the PVID (the VLAN of untagged frames, 0: none)
 * and the one VLAN whose frames leave untagged (0: none). Access: all three are the same VLAN. Trunk: the
 * allowed ones and the native one; PVID and untagged are the native one.
 *
 * Member lists per VLAN, for flooding, are made when a VLAN is first flooded and forgotten at any change, so
 * that a thousand trunks of all VLANs cost nothing for the VLANs nobody speaks in.
 */

const VLANS = 4096;
const BITMAP_WORDS = VLANS / 32;

export type Membership =
  | { mode: 'access'; vlan: number }
  | { mode: 'trunk'; allowed: readonly (readonly [number, number])[]; native: number | null };

export class VlanMembership {
  #pvid: Int32Array;
  #isAccess: Uint8Array;
  #member: Int32Array;
  readonly #lists: (Int32Array | undefined)[] = Array.from({ length: VLANS });

  constructor(capacity = 8) {
    this.#pvid = new Int32Array(capacity);
    this.#isAccess = new Uint8Array(capacity);
    this.#member = new Int32Array(capacity * BITMAP_WORDS);
  }

  /** Also for a port that had a membership before. */
  set(port: number, membership: Membership): void {
    this.#reserve(port);
    this.clear(port);
    if (membership.mode === 'access') {
      this.#isAccess[port] = 1;
      this.#pvid[port] = membership.vlan;
      this.#add(port, membership.vlan);
      return;
    }
    for (const [first, last] of membership.allowed)
      for (let vlan = first; vlan <= last; vlan++) this.#add(port, vlan);
    if (membership.native !== null) {
      this.#pvid[port] = membership.native;
      this.#add(port, membership.native);
    }
  }

  clear(port: number): void {
    if (port >= this.#pvid.length) return;
    this.#isAccess[port] = 0;
    this.#pvid[port] = 0;
    this.#member.fill(0, port * BITMAP_WORDS, (port + 1) * BITMAP_WORDS);
    this.#lists.fill(undefined);
  }

  /** The VLAN of untagged frames that come in, and of those that go out untagged; 0: none. */
  pvid(port: number): number {
    return this.#pvid[port]!;
  }

  isAccess(port: number): boolean {
    return this.#isAccess[port] !== 0;
  }

  has(port: number, vlan: number): boolean {
    return (this.#member[port * BITMAP_WORDS + (vlan >>> 5)]! & (1 << (vlan & 31))) !== 0;
  }

  /** Ports that are members of the VLAN, ascending. Not to be changed by the caller. */
  members(vlan: number): Int32Array {
    return this.#lists[vlan] ?? this.#list(vlan);
  }

  #list(vlan: number): Int32Array {
    const ports: number[] = [];
    for (let port = 0; port < this.#pvid.length; port++) if (this.has(port, vlan)) ports.push(port);
    const list = Int32Array.from(ports);
    this.#lists[vlan] = list;
    return list;
  }

  #add(port: number, vlan: number): void {
    this.#member[port * BITMAP_WORDS + (vlan >>> 5)]! |= 1 << (vlan & 31);
  }

  #reserve(port: number): void {
    if (port < this.#pvid.length) return;
    const capacity = Math.max(port + 1, this.#pvid.length * 2);
    const pvid = new Int32Array(capacity);
    const isAccess = new Uint8Array(capacity);
    const member = new Int32Array(capacity * BITMAP_WORDS);
    pvid.set(this.#pvid);
    isAccess.set(this.#isAccess);
    member.set(this.#member);
    this.#pvid = pvid;
    this.#isAccess = isAccess;
    this.#member = member;
  }
}
