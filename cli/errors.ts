/**
 * What can go wrong in the CLI, and the exit codes that scripts may rely on. Every error carries a stable
 * `code`, a message that says what and where, and a hint that says what to do next; main.ts prints them.
 */
import type { Problem } from '../control/api/contract.js';

/** Written down for users in docs/cli.md; they never change their meaning. */
export const EXIT = {
  ok: 0,
  failure: 1,
  usage: 2,
  /** `plan --exit-code`: the plan is good and would change something. */
  changes: 3,
} as const;

export class CliError extends Error {
  readonly code: string;
  readonly hint: string | undefined;
  readonly exit: number;

  constructor(
    code: string,
    message: string,
    options: { hint?: string | undefined; exit?: number; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.hint = options.hint;
    this.exit = options.exit ?? EXIT.failure;
  }
}

/** The command line itself is wrong: exit code 2. */
export class UsageError extends CliError {
  constructor(message: string, hint?: string) {
    super('USAGE', message, { hint, exit: EXIT.usage });
  }
}

/** Nobody listens where weftd should. */
export class NotRunningError extends CliError {
  constructor(where: string, stateDirectory: string | null) {
    super('WEFTD_NOT_RUNNING', `weftd is not running: nobody answers at ${where}`, {
      hint:
        stateDirectory === null
          ? 'Check --url; weftd listens on TCP only when it was started with --listen HOST:PORT.'
          : `Start it with "weft up FILE...", or say with --state DIR which state directory is meant (now ${stateDirectory}).`,
    });
  }
}

export class TimeoutError extends CliError {
  constructor(what: string, deadline_ms: number) {
    super('TIMEOUT', `${what} did not answer within ${deadline_ms / 1000} s`, {
      hint: 'It may be busy or stuck; its log is logs/weftd.log in the state directory.',
    });
  }
}

/** weftd answered with an ErrorReply. */
export class ApiError extends CliError {
  readonly status: number;
  readonly problems: readonly Problem[];

  constructor(status: number, code: string, message: string, problems: readonly Problem[] = []) {
    super(code, message, { hint: HINTS[code] });
    this.status = status;
    this.problems = problems;
  }
}

const HINTS: Readonly<Record<string, string>> = {
  UNAUTHORIZED: 'Say the token with --token-file FILE; weftd keeps it as "token" in its state directory.',
};

/** What the user typed is not among the names that exist: the nearest one, when one is near. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(1, Math.floor(word.length / 3)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(word, candidate);
    if (distance < bestDistance) {
      bestDistance = distance;
      best = candidate;
    }
  }
  return best;
}

/** Levenshtein's distance; words here are short. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, substitution));
    }
    row = next;
  }
  return row[b.length]!;
}
