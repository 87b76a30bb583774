/**
 * Port numbers that no rule tells apart are one class: with rules about 22 and 80-90 there are five, and all the
 * ephemeral ports of clients are in one of them. The cache keeps classes instead of ports, so that ten thousand
 * connections to one server are one flow to it.
 */
export class Intervals {
  readonly #classOf = new Uint16Array(65_536);
  readonly count: number;

  /** Inclusive ranges, in any order, overlapping at will. */
  constructor(ranges: readonly (readonly [number, number])[]) {
    const begins = new Uint8Array(65_537);
    for (const [first, last] of ranges) {
      begins[first] = 1;
      begins[last + 1] = 1;
    }
    let current = 0;
    for (let port = 0; port < 65_536; port++) {
      if (port > 0 && begins[port] === 1) current++;
      this.#classOf[port] = current;
    }
    this.count = current + 1;
  }

  classOf(port: number): number {
    return this.#classOf[port]!;
  }
}
