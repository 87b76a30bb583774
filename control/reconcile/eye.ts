/**
 * Looking at something that may not answer. A look has little patience: what is late counts as not seen in this
 * turn, and the question stays open, so that a stuck plane or file system gets one question, not one per turn, and
 * holds up no turn for longer than the patience.
 */
import type { Clock } from '../clock.js';

export class Eye<T> {
  #open: Promise<T> | undefined;

  /**
   * Undefined when there is no answer yet; `onLate` is called when it has come. Rejects when the answer is a refusal.
   */
  async look(
    ask: () => Promise<T>,
    patience_ms: number,
    clock: Clock,
    onLate: () => void,
  ): Promise<T | undefined> {
    if (this.#open === undefined) {
      const asked = ask();
      this.#open = asked;
      const close = (): void => {
        this.#open = undefined;
      };
      asked.then(close, close);
    }
    const question = this.#open;
    let cancel = (): void => {};
    const late = new Promise<undefined>(resolve => {
      cancel = clock.after(patience_ms, () => {
        question.then(onLate, onLate);
        resolve(undefined);
      });
    });
    try {
      return await Promise.race([question, late]);
    } finally {
      cancel();
    }
  }
}
