/** What the files of a mirror share: sides, operations, and what is told of it. See mirror.ts. */
import type { Asked } from './asked.js';
import type { Later } from './later.js';
import type { SlowIo } from './slowIo.js';
import type { Memory, Volume } from './volume.js';

export interface MirrorLeg extends Volume {
  readonly busy?: boolean;
  grow?(size_bytes: number): void;
  tick?(now_ms: number): void;
  shut?(done: (result: number) => void): void;
  close?(): void;
}

export interface MirrorParts {
  readonly first: MirrorLeg;
  readonly second: MirrorLeg;
  readonly journalFd: number;
  /** See mirrorJournal.ts. */
  readonly partner: string;
  readonly io: SlowIo;
  readonly allocate: (length_bytes: number) => Memory & { unmap(): void };
  readonly later: Later;
  readonly now_ms: () => number;
  readonly onState: (volume: Volume) => void;
}

export interface MirrorStatus {
  readonly state: 'in-sync' | 'resyncing' | 'degraded';
  readonly left_bytes: number;
  readonly reason: string | null;
}

export const NAMES = ['first', 'second'] as const;

export interface Operation extends Asked {
  lock: number;
  /** Sides that have not answered. */
  open: number;
  /** Of each side: 0, -errno, or 1: was not asked. */
  results: [number, number];
  /** Answered when the journal says who is good. */
  waitsForGood: boolean;
}

export interface Leg {
  readonly volume: MirrorLeg;
  state: 'in-sync' | 'resyncing' | 'out';
  reason: string | null;
  retryAt_ms: number;
  retry_ms: number;
}
