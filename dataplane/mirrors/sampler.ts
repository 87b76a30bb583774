/**
 * Takes one frame in so many: at random distances of that mean, so that traffic with a rhythm of its own is not
 * seen only on its beat. The same for the same seed.
 */
export class Sampler {
  readonly oneIn: number;
  #left: number;
  #state: number;

  constructor(oneIn: number, seed = 0x2545_f491) {
    this.oneIn = oneIn;
    this.#state = seed | 0 || 1;
    this.#left = this.#distance();
  }

  takes(): boolean {
    if (this.oneIn === 1) return true;
    if (--this.#left > 0) return false;
    this.#left = this.#distance();
    return true;
  }

  /** 1 to 2 * oneIn - 1, evenly. */
  #distance(): number {
    let state = this.#state;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    this.#state = state;
    return 1 + ((state >>> 1) % (2 * this.oneIn - 1));
  }
}
