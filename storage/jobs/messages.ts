/** What the main thread and the jobs thread say to each other. Fds are numbers that both share; they stay the main thread's. */
import type { BackupEntry, BackupKeep } from '../contract/jobs.js';
import type { RemoteOpening, LayerOpening, TlsOpening } from '../volume/opening.js';
import type { Copied, Merged } from './copyTask.js';
import type { ScrubLayer } from './desk.js';
import type { Encryption } from './manifest.js';
import type { Verified } from './restoreTask.js';
import type { Scrubbed } from './scrubTask.js';
import type { Finding } from './slices.js';

/** The last backup of a volume in a place: what the next one may build upon. */
interface LastBackup {
  readonly name: string;
  readonly snapshotUuid: string;
  readonly sequence: number;
  readonly manifestSha256: string;
  readonly encryption: Encryption | null;
}

interface RemoteTarget {
  readonly address: RemoteOpening['server'];
  readonly exportName: string;
  readonly tls: TlsOpening | null;
}

/** What can be asked of the thread, and what it answers. */
export interface Tasks {
  merge: { ask: { lower: LayerOpening; upper: LayerOpening; lowest: boolean }; answer: Merged };
  flatten: {
    ask: { shared: readonly LayerOpening[]; reach_bytes: number; into: LayerOpening };
    answer: Copied;
  };
  scrub: { ask: { layers: readonly ScrubLayer[] }; answer: Scrubbed };
  /** Of the directory, which is made a place for backups: its uuid, and the last whole backup with this volume's uuid. */
  place: {
    ask: { directory: string; volume: string; volumeUuid: string };
    answer: {
      placeUuid: string;
      last: LastBackup | null;
      lastSequence: number;
      /** Of this volume: snapshots whose backup was cut short. */
      incomplete: string[];
      problems: string[];
    };
  };
  backup: {
    ask: {
      chain: readonly LayerOpening[];
      from: readonly LayerOpening[] | null;
      directory: string;
      name: string;
      volume: { uuid: string; name: string; size_bytes: number };
      snapshot: { name: string; uuid: string };
      sequence: number;
      base: { name: string; snapshotUuid: string; manifestSha256: string } | null;
      createdAt_ms: number;
      encryption: Encryption | null;
      /** What is read is decrypted. */
      key: Uint8Array | null;
    };
    /** `resumed_bytes` of `data_bytes` were there. */
    answer: { name: string; data_bytes: number; resumed_bytes: number };
  };
  remoteBackup: {
    ask: {
      chain: readonly LayerOpening[];
      from: readonly LayerOpening[] | null;
      target: RemoteTarget;
      key: Uint8Array | null;
    };
    answer: { data_bytes: number };
  };
  /** What a restore would take; throws where it could not. */
  findBackup: {
    ask: { directory: string; volume: string; backup: string | null };
    answer: { name: string; size_bytes: number; count: number; encryption: Encryption | null };
  };
  restore: {
    /** `key`: what the layer gets is encrypted. */
    ask: { directory: string; volume: string; backup: string; into: LayerOpening; key: Uint8Array | null };
    answer: { count: number };
  };
  verify: {
    ask: { directory: string; volume: string | null; backup: string | null };
    answer: Verified;
  };
  /** `volume` null: of all. `skipped`: volumes of which nothing went, and why. */
  prune: {
    ask: { directory: string; volume: string | null; keep: BackupKeep; now_ms: number };
    answer: { removed: string[]; kept: number; skipped: string[] };
  };
  list: { ask: { directory: string }; answer: { backups: BackupEntry[]; problems: string[] } };
}
export type TaskKind = keyof Tasks;

export type ToJobs =
  | {
      [K in TaskKind]: {
        type: 'run';
        task: number;
        kind: K;
        ask: Tasks[K]['ask'];
        rate_bytes_per_s: number | null;
      };
    }[TaskKind]
  /** `stopping`: by nobody who wants what it did to be gone. */
  | { type: 'cancel'; task: number; stopping: boolean }
  /** Exits when nothing runs; what runs is cancelled. */
  | { type: 'stop' };

export type FromJobs =
  | { type: 'progress'; task: number; done_bytes: number; total_bytes: number | null }
  | { type: 'found'; task: number; finding: Finding }
  | { type: 'done'; task: number; answer: unknown }
  | { type: 'failed'; task: number; code: string; message: string };
