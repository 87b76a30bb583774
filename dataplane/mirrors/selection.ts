/**
 * Which sessions want a frame: pure. A set of sessions is the bits of a small integer; per port and way, and per
 * VLAN, there is one, so that asking costs two loads.
 *
 * What is in a VLAN that takes copies of a session is itself a copy (of ours, or of another switch's on its way
 * through): no session that copies into a VLAN takes it, whatever watches the port it came by.
 */

const VLANS = 4096;

/** What selection needs to know of a session; `in` and `out` are the switch's numbers of ports. */
export interface Watch {
  readonly in: readonly number[];
  readonly out: readonly number[];
  readonly vlans: readonly (readonly [number, number])[];
  /** 0: to a port. */
  readonly toVlan: number;
}

export class Selection {
  readonly #in: Int32Array;
  readonly #out: Int32Array;
  readonly #vlans = new Int32Array(VLANS);
  /** Bits of the sessions that copy into a VLAN. */
  readonly #remote: number;
  readonly #isRemote = new Uint8Array(VLANS);
  constructor(watches: readonly Watch[], portsEnd: number) {
    this.#in = new Int32Array(portsEnd);
    this.#out = new Int32Array(portsEnd);
    let remote = 0;
    for (const [index, watch] of watches.entries()) {
      const bit = 1 << index;
      for (const port of watch.in) this.#in[port]! |= bit;
      for (const port of watch.out) this.#out[port]! |= bit;
      for (const [first, last] of watch.vlans)
        for (let vlan = first; vlan <= last; vlan++) this.#vlans[vlan]! |= bit;
      if (watch.toVlan === 0) continue;
      remote |= bit;
      this.#isRemote[watch.toVlan] = 1;
    }
    this.#remote = remote;
  }

  /** Of a frame that came in by the port and belongs to the VLAN. */
  in(port: number, vlan: number): number {
    return this.allowed((port < this.#in.length ? this.#in[port]! : 0) | this.#vlans[vlan]!, vlan);
  }

  /** Of a frame of the VLAN that leaves by the port. */
  out(port: number, vlan: number): number {
    return this.allowed(port < this.#out.length ? this.#out[port]! : 0, vlan);
  }

  /** Those of the sessions that may have a frame of the VLAN. */
  allowed(sessions: number, vlan: number): number {
    return this.#isRemote[vlan] === 0 ? sessions : sessions & ~this.#remote;
  }
}
