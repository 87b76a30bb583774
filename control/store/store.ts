/**
 * The desired state, durable: an interface, because one machine keeps it in `level` (level.ts) and several will
 * keep it in etcd. memory.ts is the double. All take the same exam (test/control/store/exam.ts).
 *
 * What is kept:
 *
 *   resources    what the user wrote, by kind and name, each with its generation
 *   tombstones   resources that left the configuration and are not yet gone from the machine
 *   facts        what weftd must remember across its own death and cannot observe: a machine stopped by hand, a
 *                volume half filled from an image. Small JSON under a name.
 *   revisions    each change made a numbered one, with the whole configuration as it was then
 *   events       what happened, the newest ones
 *
 * `commit` is atomic and durable when it resolves: what weftd acknowledges to a user went through it first.
 * Events are neither: losing the last few when the machine loses power is no harm.
 */
import type { Kind } from '../model/spec.js';
import type { Key } from '../model/resource.js';

export interface StoredResource {
  kind: Kind;
  name: string;
  /** Goes up by one whenever the meaning of the spec changes. Begins at 1. */
  generation: number;
  /** As the user wrote it. */
  written: unknown;
}

export interface Tombstone extends StoredResource {
  /** The user said in so many words that the data goes too. */
  destroyData: boolean;
}

export interface RevisionHead {
  revision: number;
  /** ISO 8601. */
  at: string;
  /** `apply`, `delete machine/alice`, … */
  why: string;
}

export interface Revision extends RevisionHead {
  resources: { kind: Kind; name: string; written: unknown }[];
}

export interface StoredEvent {
  seq: number;
  at: string;
  level: 'info' | 'warning' | 'error';
  kind: string;
  name: string;
  reason: string;
  message: string;
}

export interface Contents {
  /** 0 before the first change. */
  revision: number;
  resources: StoredResource[];
  tombstones: Tombstone[];
  facts: Map<string, unknown>;
  /** Oldest first. */
  events: StoredEvent[];
}

export interface Change {
  revision?: Revision;
  put?: readonly StoredResource[];
  remove?: readonly Key[];
  bury?: readonly Tombstone[];
  unbury?: readonly Key[];
  /** null forgets it. */
  facts?: ReadonlyMap<string, unknown>;
}

export interface Store {
  read(): Promise<Contents>;
  /** All of it or nothing; on disk when it resolves. */
  commit(change: Change): Promise<void>;
  /** Kept in the background; the oldest go when there are more than EVENTS_MAX. */
  log(events: readonly StoredEvent[]): Promise<void>;
  /** Newest first. */
  revisions(): Promise<RevisionHead[]>;
  revision(number: number): Promise<Revision | undefined>;
  close(): Promise<void>;
}

export const EVENTS_MAX = 10_000;
/** Kept are the newest revisions that satisfy both. */
export const REVISIONS_MAX = 1000;
export const REVISIONS_MAX_BYTES = 64 * 2 ** 20;

export interface StoreLimits {
  events: number;
  revisions: number;
  revisions_bytes: number;
}

export const LIMITS: StoreLimits = {
  events: EVENTS_MAX,
  revisions: REVISIONS_MAX,
  revisions_bytes: REVISIONS_MAX_BYTES,
};

/** Which of the kept revisions must go so that the newest remain within the limits. Oldest first in and out. */
export function superfluous(
  kept: readonly { revision: number; size_bytes: number }[],
  limits: StoreLimits,
): number[] {
  let total_bytes = 0;
  let count = 0;
  const gone: number[] = [];
  for (const { revision, size_bytes } of kept.toReversed()) {
    total_bytes += size_bytes;
    count += 1;
    // The newest one stays, however large it is.
    if (count > 1 && (count > limits.revisions || total_bytes > limits.revisions_bytes)) gone.push(revision);
  }
  return gone.reverse();
}
