/**
 * How a volume is put together, as plain values: the main thread, which knows pools and keys, tells it to the data
 * thread, which builds it (dataThread/build.ts). File descriptors are numbers that both threads share; they stay the main
 * thread's and are closed by it when the volume is closed, or when `layersReleased` says so.
 *
 *   NBD, iSCSI  ->  limits  ->  encryption  ->  mirror of two  ->  layers | file | remote
 */

/** One layer of a chain on files; storage/layers/README.md has the format. */
export interface LayerOpening {
  /** Of the layer: unique in its pool, so a layer that is in two chains is known again. */
  readonly uuid: string;
  readonly dataFd: number;
  /** -1: a plain layer. It has no map: all of it is there, holes are zeroes, nothing is verified. Only a lowest layer is. */
  readonly mapFd: number;
  readonly size_bytes: number;
  /** Blocks from here on are not looked for in the layers below: the volume was shorter once. */
  readonly inherits_bytes: number;
  /** Checksums are kept and verified. */
  readonly checksums: boolean;
  /** Which; left out: XXH3, as older layers have it. */
  readonly sum?: 'products' | undefined;
  /** A job works on it: what a process that died has left in it is not put in order meanwhile. Left out: nobody does. */
  readonly held?: boolean;
}

/** Several layers, the one that is written first. */
export interface LayersOpening {
  readonly kind: 'layers';
  readonly layers: readonly LayerOpening[];
  readonly size_bytes: number;
  /** False: all layers are frozen (a snapshot, or a damaged volume). */
  readonly writable: boolean;
  /** Space is kept: trim and zero must not give it back. */
  readonly preallocated: boolean;
  /** Bytes of data that the written layer may still get; Infinity: no quota. */
  readonly quotaLeft_bytes: number;
  /** What block status can tell changes since: name of a snapshot, and how many of the first layers are newer. */
  readonly checkpoints: readonly { readonly name: string; readonly newerLayers: number }[];
}

/** A file or block device as it is. */
export interface FileOpening {
  readonly kind: 'file';
  readonly fd: number;
  readonly size_bytes: number;
  readonly writable: boolean;
}

/**
 * An export of another server; storage/remote/. Where `host` is a name, its addresses come beside this and may change
 * (`hostAddresses` of nbd/messages.ts): the data thread cannot wait for a look-up.
 */
export interface RemoteOpening {
  readonly kind: 'remote';
  readonly server: { kind: 'unix'; path: string } | { kind: 'tcp'; host: string; port: number };
  readonly exportName: string;
  readonly size_bytes: number;
  readonly connections: number;
  readonly patience_ms: number;
  readonly tls: TlsOpening | null;
  /** Under this name a newer `tls` is told (`remoteTls` of nbd/messages.ts). */
  readonly pool: string;
}

/** PEM texts and keys: never logged. */
export interface TlsOpening {
  readonly certificate: string | null;
  readonly key: string | null;
  readonly authority: string | null;
  /** Identity to key, hex. */
  readonly psk: ReadonlyMap<string, string>;
  readonly pskIdentity: string | null;
  /** Whom a client expects; null: not checked (Unix socket, PSK). */
  readonly serverName: string | null;
}

export interface MirrorOpening {
  readonly kind: 'mirror';
  readonly first: SingleOpening;
  readonly second: SingleOpening;
  /** A small file of the first one's pool: which regions may differ. */
  readonly journalFd: number;
  /** Who the second side is, as long as nobody else has written to it; see volume/mirrorJournal.ts. */
  readonly partner: string;
}

export type SingleOpening = LayersOpening | FileOpening | RemoteOpening;

export interface RateOpening {
  readonly rate_per_s: number;
  readonly burst: number;
}
export interface LimitsOpening {
  readonly operations: RateOpening | null;
  readonly readOperations: RateOpening | null;
  readonly writeOperations: RateOpening | null;
  readonly bytes: RateOpening | null;
  readonly readBytes: RateOpening | null;
  readonly writeBytes: RateOpening | null;
}

export interface VolumeOpening {
  readonly base: SingleOpening | MirrorOpening;
  /** 64 bytes: AES-256-XTS. Never logged. */
  readonly encryptionKey: Uint8Array | null;
  readonly limits: LimitsOpening | null;
  /** Memory that both threads share: requests that waited for a limit, and how long altogether, in ms. Left out: nobody asks. */
  readonly throttled?: Float64Array;
}
