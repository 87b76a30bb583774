/**
 * Which addresses belong to which port because a DHCP server said so (DHCP snooping). Pure: time is passed in.
 *
 *   client's message on an untrusted port   -> remembered: this transaction of this station is of that port
 *   server's word on a trusted port         -> the address belongs to the port of the transaction, until it expires
 *   client releases it, or time is over     -> forgotten
 *
 * Looked up for every packet of a port that lives by leases, so they stand in an open-addressed table: per entry a
 * port and an address of four words (IPv4: the address in the last, after ::ffff:). A table that is full learns
 * nothing more and says so; it is bounded per port as well, so that one port cannot fill it.
 */

export const LEASES_MAX_COUNT = 8192;
export const LEASES_OF_PORT_MAX_COUNT = 256;
const PENDING_MAX_COUNT = 4096;
const PENDING_OF_PORT_MAX_COUNT = 64;
const PENDING_MS = 60_000;
export const FOR_EVER_S = 0xffff_ffff;
const KEY_WORDS = 5;
/** The third word of an IPv4 address as an IPv6 one (RFC 4291 2.5.5.2). */
export const MAPPED = 0xffff;

export interface Lease {
  port: number;
  vlan: number;
  macHigh: number;
  macLow: number;
  /** Four words. */
  address: readonly number[];
  /** Infinity: for ever. */
  expires_ms: number;
}

interface Pending {
  port: number;
  vlan: number;
  expires_ms: number;
}

export class Leases {
  readonly #slots = new Int32Array(LEASES_MAX_COUNT * 4);
  readonly #keys = new Int32Array(LEASES_MAX_COUNT * KEY_WORDS);
  readonly #leases: (Lease | undefined)[] = [];
  readonly #free: number[] = [];
  readonly #pending = new Map<string, Pending>();
  readonly #ofPort = new Map<number, number>();
  readonly #pendingOfPort = new Map<number, number>();
  count = 0;
  /** Leases that were not learned for want of room. */
  untaken = 0;

  /** A client asked: `transaction` is of this port for a while. */
  asked(transaction: string, port: number, vlan: number, now_ms: number): void {
    const before = this.#pending.get(transaction);
    if (before !== undefined) this.#forgetPending(transaction, before);
    const own = this.#pendingOfPort.get(port) ?? 0;
    if (own >= PENDING_OF_PORT_MAX_COUNT || this.#pending.size >= PENDING_MAX_COUNT) return;
    this.#pendingOfPort.set(port, own + 1);
    this.#pending.set(transaction, { port, vlan, expires_ms: now_ms + PENDING_MS });
  }

  /** The port and VLAN that this transaction is of, if it is known. */
  whose(transaction: string): Readonly<Pending> | undefined {
    return this.#pending.get(transaction);
  }

  #forgetPending(transaction: string, pending: Pending): void {
    this.#pending.delete(transaction);
    this.#pendingOfPort.set(pending.port, (this.#pendingOfPort.get(pending.port) ?? 1) - 1);
  }

  /** The lease that this port has on the address; undefined: none, or no more. */
  find(port: number, a: number, b: number, c: number, d: number, now_ms: number): Lease | undefined {
    const index = this.#slots[this.#slotOf(port, a, b, c, d)]! - 1;
    if (index < 0) return undefined;
    const lease = this.#leases[index]!;
    return lease.expires_ms > now_ms ? lease : undefined;
  }

  /** A server gave it; one station's new port takes it from the old. False: no room. */
  learn(lease: Lease): boolean {
    for (const [index, other] of this.#leases.entries())
      if (other !== undefined && other.vlan === lease.vlan && sameAddress(other, lease)) this.#remove(index);
    const [a, b, c, d] = lease.address as [number, number, number, number];
    const own = this.#ofPort.get(lease.port) ?? 0;
    if (this.count >= LEASES_MAX_COUNT || own >= LEASES_OF_PORT_MAX_COUNT) {
      this.untaken++;
      return false;
    }
    const index = this.#free.pop() ?? this.#leases.length;
    this.#leases[index] = lease;
    this.#keys.set([lease.port, a, b, c, d], index * KEY_WORDS);
    this.#slots[this.#slotOf(lease.port, a, b, c, d)] = index + 1;
    this.count++;
    this.#ofPort.set(lease.port, own + 1);
    return true;
  }

  release(port: number, a: number, b: number, c: number, d: number): void {
    const index = this.#slots[this.#slotOf(port, a, b, c, d)]! - 1;
    if (index >= 0) this.#remove(index);
  }

  /** The port is gone, or does not live by leases any more. */
  forgetPort(port: number): void {
    for (const [index, lease] of this.#leases.entries()) if (lease?.port === port) this.#remove(index);
    for (const [name, pending] of this.#pending)
      if (pending.port === port) this.#forgetPending(name, pending);
  }

  /** Forgets what has expired. */
  sweep(now_ms: number): void {
    for (const [index, lease] of this.#leases.entries())
      if (lease !== undefined && lease.expires_ms <= now_ms) this.#remove(index);
    for (const [name, pending] of this.#pending) {
      // In the order in which they were asked, so the rest is younger.
      if (pending.expires_ms > now_ms) break;
      this.#forgetPending(name, pending);
    }
  }

  *[Symbol.iterator](): Generator<Lease> {
    for (const lease of this.#leases) if (lease !== undefined) yield lease;
  }

  #remove(index: number): void {
    const lease = this.#leases[index]!;
    this.#leases[index] = undefined;
    this.#free.push(index);
    this.count--;
    this.#ofPort.set(lease.port, this.#ofPort.get(lease.port)! - 1);
    this.#close(index);
  }

  /** Takes an entry out of the table; those behind it that were pushed on move up (Knuth 6.4, algorithm R). */
  #close(index: number): void {
    const slots = this.#slots;
    const mask = slots.length - 1;
    let hole = this.#homeOf(index);
    while (slots[hole] !== index + 1) hole = (hole + 1) & mask;
    for (let at = (hole + 1) & mask; slots[at] !== 0; at = (at + 1) & mask) {
      const home = this.#homeOf(slots[at]! - 1);
      if (((at - home) & mask) < ((at - hole) & mask)) continue;
      slots[hole] = slots[at]!;
      hole = at;
    }
    slots[hole] = 0;
  }

  #homeOf(index: number): number {
    const k = this.#keys;
    const at = index * KEY_WORDS;
    return hash(k[at]!, k[at + 1]!, k[at + 2]!, k[at + 3]!, k[at + 4]!) & (this.#slots.length - 1);
  }

  /** Where the entry stands, or where it would. */
  #slotOf(port: number, a: number, b: number, c: number, d: number): number {
    const slots = this.#slots;
    const k = this.#keys;
    const mask = slots.length - 1;
    for (let slot = hash(port, a, b, c, d) & mask; ; slot = (slot + 1) & mask) {
      const index = slots[slot]! - 1;
      if (index < 0) return slot;
      const at = index * KEY_WORDS;
      if (k[at] === port && k[at + 1] === a && k[at + 2] === b && k[at + 3] === c && k[at + 4] === d)
        return slot;
    }
  }
}

function hash(port: number, a: number, b: number, c: number, d: number): number {
  let h = Math.imul(port ^ d, 0x9e37_79b1);
  h = Math.imul(h ^ (h >>> 15) ^ c, 0x85eb_ca6b);
  h = Math.imul(h ^ (h >>> 13) ^ b, 0xc2b2_ae35);
  h = Math.imul(h ^ (h >>> 16) ^ a, 0x27d4_eb2f);
  return h ^ (h >>> 15);
}

function sameAddress(a: Lease, b: Lease): boolean {
  return a.address.every((word, i) => word === b.address[i]);
}
