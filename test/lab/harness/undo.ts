/**
 * What has to be taken back, in reverse order, however the program ends.
 *
 * Steps are synchronous on purpose: the same few lines then serve a test's teardown, an uncaught exception,
 * `process.exit` and Ctrl-C, and nothing depends on an event loop that may already be gone. A step that fails
 * is told on stderr and does not hold back the others.
 */
import { owner } from './owner.js';

interface Step {
  readonly what: string;
  readonly undo: () => void;
}

export class Undo {
  readonly #steps: Step[] = [];

  constructor() {
    open.add(this);
    armOnce();
  }

  /** Register how to take back what is about to be done; call it before doing it. Returns how to do it early. */
  push(what: string, undo: () => void): () => void {
    const step = { what, undo };
    this.#steps.push(step);
    return () => {
      const at = this.#steps.indexOf(step);
      if (at < 0) return;
      this.#steps.splice(at, 1);
      perform(step);
    };
  }

  run(): void {
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) perform(step);
    open.delete(this);
  }
}

function perform(step: Step): void {
  try {
    step.undo();
  } catch (error) {
    process.stderr.write(`lab: could not undo: ${step.what}: ${String(error)}\n`);
  }
}

/** All that are not yet run; a program has one for each lab that it opened. */
const open = new Set<Undo>();

const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;

let armed = false;
function armOnce(): void {
  if (armed) return;
  armed = true;
  // A forked copy of this process must not take down what its parent still uses.
  const armedBy = owner.pid;
  process.on('exit', () => {
    if (process.pid === armedBy) for (const undo of [...open].reverse()) undo.run();
  });
  for (const [signal, number] of Object.entries(SIGNALS)) {
    process.on(signal, () => process.exit(128 + number));
  }
}
