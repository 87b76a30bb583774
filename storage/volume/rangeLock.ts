/**
 * Who may change which range now. Shared: a request that writes, beside others. Exclusive: something that reads a range in
 * order to write it again (a copy from one side of a mirror to the other, a block of which a part is replaced), beside nobody.
 * In order of asking where ranges overlap, so nobody is passed over for ever. While paused nobody is granted anything. Pure.
 */
export interface LockWaiter {
  /** The lock is granted now. Called from within somebody else's `release`. */
  granted(lock: number): void;
}

interface Lock {
  from: number;
  to: number;
  exclusive: boolean;
  state: 'free' | 'waiting' | 'held';
  order: number;
  waiter: LockWaiter | null;
}

export class RangeLock {
  #locks: Lock[] = [];
  #free: number[] = [];
  #waiting: number[] = [];
  #exclusive = 0;
  #isPaused = false;
  #order = 0;

  get heldCount(): number {
    return this.#locks.length - this.#free.length - this.#waiting.length;
  }

  /** Held or waited for. */
  get count(): number {
    return this.#locks.length - this.#free.length;
  }

  /** Whether who asked for it now would have to wait, or somebody waits for anything. */
  blocks(from: number, to: number): boolean {
    if (this.#isPaused || this.#waiting.length > 0) return true;
    if (this.count === 0) return false;
    for (const other of this.#locks)
      if (other.state !== 'free' && other.from < to && from < other.to) return true;
    return false;
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.#grant();
  }

  /** A number for `release`. `held` says whether it is granted already; else the waiter is told. */
  acquire(from: number, to: number, exclusive: boolean, waiter: LockWaiter): number {
    let index = this.#free.pop();
    if (index === undefined)
      index = this.#locks.push({ from, to, exclusive, state: 'free', order: 0, waiter: null }) - 1;
    const lock = this.#locks[index]!;
    lock.from = from;
    lock.to = to;
    lock.exclusive = exclusive;
    lock.waiter = waiter;
    lock.order = this.#order++;
    if (exclusive) this.#exclusive++;
    // Shared ones do not mind each other.
    if (!this.#isPaused && (this.#exclusive === 0 || !this.#conflicts(lock))) lock.state = 'held';
    else {
      lock.state = 'waiting';
      this.#waiting.push(index);
    }
    return index;
  }

  held(lock: number): boolean {
    return this.#locks[lock]!.state === 'held';
  }

  /** Also of one that still waits. */
  release(index: number): void {
    const lock = this.#locks[index]!;
    if (lock.state === 'waiting') this.#waiting = this.#waiting.filter(other => other !== index);
    lock.state = 'free';
    lock.waiter = null;
    if (lock.exclusive) this.#exclusive--;
    this.#free.push(index);
    this.#grant();
  }

  #grant(): void {
    if (this.#isPaused || this.#waiting.length === 0) return;
    const granted = this.#waiting.filter(other => {
      const candidate = this.#locks[other]!;
      if (this.#conflicts(candidate)) return false;
      candidate.state = 'held';
      return true;
    });
    if (granted.length === 0) return;
    this.#waiting = this.#waiting.filter(other => this.#locks[other]!.state === 'waiting');
    for (const other of granted) this.#locks[other]!.waiter!.granted(other);
  }

  /** With what is held, or has waited longer. */
  #conflicts(lock: Lock): boolean {
    for (const other of this.#locks) {
      if (other === lock || other.state === 'free' || !(other.exclusive || lock.exclusive)) continue;
      if (other.from >= lock.to || lock.from >= other.to) continue;
      if (other.state === 'held' || other.order < lock.order) return true;
    }
    return false;
  }
}
