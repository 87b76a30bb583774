/** The streams, environment and signals of this process, as the verbs want them. */
import { homedir } from 'node:os';
import type { Io } from './session.js';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** 128 + SIGPIPE, as a shell sees a program that this signal has ended. */
const EXIT_PIPE = 141;

export function processIo(options: { outliveReader?: boolean } = {}): Io {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      // The terminal is gone, but what was started here still has to be taken down.
      if (options.outliveReader === true) return;
      // Whoever read our output has seen enough (`weft events -f | head`).
      if (error.code === 'EPIPE') process.exit(EXIT_PIPE);
      throw error;
    });
  }
  return {
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    cwd: process.cwd(),
    uid: process.geteuid?.() ?? -1,
    home: homedir(),
    onSignal(listener) {
      for (const signal of SIGNALS) process.on(signal, listener);
      return () => {
        for (const signal of SIGNALS) process.off(signal, listener);
      };
    },
  };
}
