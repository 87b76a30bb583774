/** Time for what must be testable: the real one is made in main.ts, tests wind theirs by hand. */
export interface Clock {
  /** Since the Unix epoch. */
  now_ms(): number;
  /** Returns how to call it off. */
  after(delay_ms: number, then: () => void): () => void;
}
