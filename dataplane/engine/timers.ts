/**
 * Timers of the engine: a binary heap ordered by due time. Time is passed in, so tests wind it by hand.
 * Few and slow (reconnects, sweeps): nothing on the frame path arms one.
 */

export class Timer {
  due_ms: number;
  /** Place in the heap; -1 when not armed. */
  index = -1;
  readonly run: (now_ms: number) => void;

  constructor(run: (now_ms: number) => void) {
    this.due_ms = 0;
    this.run = run;
  }

  get isArmed(): boolean {
    return this.index >= 0;
  }
}

export class Timers {
  readonly #heap: Timer[] = [];

  /** Infinity when nothing is armed. */
  get next_ms(): number {
    return this.#heap.length === 0 ? Infinity : this.#heap[0]!.due_ms;
  }

  /** Also moves one that is armed already. */
  arm(timer: Timer, due_ms: number): void {
    this.cancel(timer);
    timer.due_ms = due_ms;
    timer.index = this.#heap.length;
    this.#heap.push(timer);
    this.#up(timer.index);
  }

  cancel(timer: Timer): void {
    const index = timer.index;
    if (index < 0) return;
    const last = this.#heap.pop()!;
    timer.index = -1;
    if (last === timer) return;
    this.#heap[index] = last;
    last.index = index;
    this.#up(index);
    this.#down(last.index);
  }

  /**
   * Runs what is due, each at most once: a timer that arms itself again for now waits for the next turn.
   * Returns how many ran.
   */
  runDue(now_ms: number): number {
    if (this.next_ms > now_ms) return 0;
    const due: Timer[] = [];
    while (this.next_ms <= now_ms) {
      const timer = this.#heap[0]!;
      this.cancel(timer);
      due.push(timer);
    }
    for (const timer of due) timer.run(now_ms);
    return due.length;
  }

  #up(from: number): void {
    let index = from;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (this.#heap[parent]!.due_ms <= this.#heap[index]!.due_ms) return;
      this.#swap(index, parent);
      index = parent;
    }
  }

  #down(from: number): void {
    let index = from;
    for (;;) {
      let least = index;
      for (let child = index * 2 + 1; child <= index * 2 + 2 && child < this.#heap.length; child++)
        if (this.#heap[child]!.due_ms < this.#heap[least]!.due_ms) least = child;
      if (least === index) return;
      this.#swap(index, least);
      index = least;
    }
  }

  #swap(a: number, b: number): void {
    const timer = this.#heap[a]!;
    this.#heap[a] = this.#heap[b]!;
    this.#heap[b] = timer;
    this.#heap[a].index = a;
    timer.index = b;
  }
}
