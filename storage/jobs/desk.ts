/**
 * What jobs ask of the plane's desk (server.ts), which alone changes the catalogue and talks to the data thread. Everything here
 * runs in the main thread; what a job does with the files it is given happens in the jobs thread.
 *
 * Held layers read the same until `release`, and their fds stay open: no merge and no removal begins that has one of them. To hold
 * what is being merged waits until that is done. `release` may be called twice. Errors are StorageErrors.
 */
import type { Labels, SnapshotStatus } from '../contract/volumes.js';
import type { TlsFiles } from '../contract/config.js';
import type { Encryption } from './manifest.js';
import type { LayerOpening, TlsOpening } from '../volume/opening.js';

export interface Held {
  release(): void;
}

/** All of a snapshot, or of what a volume inherits: frozen layers, the newest first. */
export interface HeldChain extends Held {
  readonly volume: { readonly uuid: string; readonly name: string; readonly size_bytes: number };
  readonly snapshot: SnapshotStatus;
  readonly layers: readonly LayerOpening[];
}

export interface HeldMerge extends Held {
  /** Unnamed and frozen, with one child. */
  readonly lower: LayerOpening;
  /** That child, frozen too. */
  readonly upper: LayerOpening;
  /** Nothing is below `lower`. */
  readonly lowest: boolean;
  /** A sync of one of them failed, so what is read of them may not be what is on the disk: this process merges them no more. */
  spoil(): void;
}

export interface HeldFlatten extends Held {
  /** What the volume shares with others, the newest first. Empty: it shares nothing. */
  readonly shared: readonly LayerOpening[];
  /** The lowest of its own layers: it inherits so much of them. */
  readonly reach_bytes: number;
}

/** A new layer that is in no chain yet. `release` without a commit before removes it. */
export interface NewLayer extends Held {
  readonly layer: LayerOpening;
}

export interface ScrubLayer {
  readonly layer: LayerOpening;
  readonly lowest: boolean;
  /** The data thread may be writing to it. */
  readonly live: boolean;
  /** Who reads it: volumes, and snapshots as VOLUME@SNAPSHOT. */
  readonly usedBy: readonly string[];
  /** A mirror has the same: reads repair it. */
  readonly mirrored: boolean;
}

export interface HeldScrub extends Held {
  readonly layers: readonly ScrubLayer[];
}

export interface JobDesk {
  /** Merges that would give space back or shorten chains and can be done now (nothing of them is held), the most useful first. */
  mergeable(): readonly { readonly pool: string; readonly layer: string }[];
  /** `layer` is the unnamed one. Freezes the live top above it first where that is its child. null: it cannot be merged now, or not any more. */
  holdMerge(pool: string, layer: string): Promise<HeldMerge | null>;
  /**
   * `kept` has the content of both by now, durably, and is to stand where both stood, under all names that `upper` had; the other
   * one is removed. Resolves when no volume uses the other one.
   */
  commitMerge(
    held: HeldMerge,
    kept: 'lower' | 'upper',
    how: { readonly size_bytes: number; readonly inherits_bytes: number },
  ): Promise<void>;

  holdFlatten(pool: string, volume: string): Promise<HeldFlatten>;
  /** The new layer is what the volume inherits now. */
  commitFlatten(held: HeldFlatten, layer: NewLayer): Promise<void>;

  /** Empty, with a map; of the size and with or without checksums as the volume is. */
  newLayer(pool: string, volume: string): Promise<NewLayer>;
  /**
   * The volume's content is this layer from now on, encrypted so, snapshots stay. Refused while clients are connected, the size is
   * another, or (see requireKey) the encryption cannot be.
   */
  commitContent(pool: string, volume: string, layer: NewLayer, encryption: Encryption | null): Promise<void>;

  /** Nobody is connected to it; VOLUME_EXPORTED otherwise. For a restore, before it reads for hours. `isBlank`: nothing was ever written to it. */
  requireIdle(
    pool: string,
    volume: string,
  ): { readonly uuid: string; readonly size_bytes: number; readonly isBlank: boolean };

  volume(pool: string, volume: string): { readonly uuid: string; readonly encryption: Encryption | null };
  /** The key of its configured key file, which the receiver wipes; null: it is not encrypted. Throws VOLUME_KEY where that is none, or not its own. */
  keyOf(pool: string, volume: string): { readonly key: Uint8Array; readonly encryption: Encryption } | null;
  /**
   * Whether the volume may become one that is encrypted so: its key file is the one, and, where it was encrypted otherwise, nobody
   * has it open and it has no snapshots. Throws VOLUME_KEY, VOLUME_EXPORTED.
   */
  requireKey(pool: string, volume: string, encryption: Encryption | null): void;

  snapshots(pool: string, volume: string): readonly SnapshotStatus[];
  snapshot(pool: string, volume: string, name: string, labels: Labels): Promise<SnapshotStatus>;
  labelSnapshot(pool: string, volume: string, snapshot: string, labels: Labels): Promise<void>;
  deleteSnapshot(pool: string, volume: string, snapshot: string): Promise<void>;
  holdSnapshot(pool: string, volume: string, snapshot: string): Promise<HeldChain>;

  /** Keys and certificates of these files, for a client. `serverName`: whom it expects; null: not checked. */
  tlsOf(files: TlsFiles, serverName: string | null): TlsOpening;

  /** All layers of a volume and of its snapshots, or of the pool. */
  holdScrub(pool: string, volume: string | null): Promise<HeldScrub>;
}
