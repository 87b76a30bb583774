/** What weft-storage is to serve: pools, how volumes are opened, exports, leases. Pushed whole; see ../contract.ts. */
import { z } from 'zod';

const PoolName = z.string().min(1).max(40);
const VolumeName = z.string().min(1).max(40);
export const SnapshotName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/);
const FilePath = z.string().startsWith('/').max(4096);

/** How a TLS server or client of ours proves who it is. Files are read by the plane; their contents are in no message, log or status. */
export const TlsFiles = z.strictObject({
  /** PEM. Without certificate and key only a pre-shared key is spoken. */
  certificate: FilePath.optional(),
  key: FilePath.optional(),
  /** PEM. As a server: clients must show a certificate of this authority. As a client: the server must (else the system's authorities). */
  authority: FilePath.optional(),
  /** Lines `identity:hex`, as psktool writes them. A client uses `pskIdentity`, else the first line. */
  psk: FilePath.optional(),
  pskIdentity: z.string().max(128).optional(),
});
export type TlsFiles = z.infer<typeof TlsFiles>;

export const NbdAddress = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('unix'), path: FilePath }),
  z.strictObject({ kind: z.literal('tcp'), host: z.string().min(1), port: z.int().min(1).max(65_535) }),
]);
export type NbdAddress = z.infer<typeof NbdAddress>;

/** Exactly one of directory, device, remote; `placeOf` tells which. */
export const PoolConfig = z.strictObject({
  name: PoolName,
  /** Absolute; made if absent. Opened by one weft-storage at a time. */
  directory: FilePath.optional(),
  /** A block device or a raw file: the one volume of this pool, as it is, whatever its name. */
  device: FilePath.optional(),
  /** Another NBD server: a volume's `remoteName` is an export there. */
  remote: z
    .strictObject({
      server: NbdAddress,
      tls: TlsFiles.optional(),
      /** To one export, when the server says that these see each other's writes (multi-conn). */
      connections: z.int().min(1).max(16).optional(),
      /** Requests wait so long for a server that is away; then they fail with EIO, until it is back. 0: for ever. */
      patience_ms: z.int().min(0).optional(),
    })
    .optional(),
  /** No volume is made or grown beyond: sum of sizes <= this x capacity. */
  overcommitMax: z.number().min(0.1).max(1000).optional(),
  /** The pool's state is `low` when less is free in the file system below; 10 when left out. */
  lowSpace_percent: z.number().min(0).max(100).optional(),
});
export type PoolConfig = z.infer<typeof PoolConfig>;

/** Where a pool is, in one word: its directory, its device, or the address of its server. */
export function placeOf({ directory, device, remote }: PoolConfig): string {
  if (remote === undefined) return directory ?? device ?? '';
  return remote.server.kind === 'unix' ? remote.server.path : `${remote.server.host}:${remote.server.port}`;
}

/** A rate and how much may be saved up while less is used. `burst` defaults to one second's worth. */
export const RateLimit = z.strictObject({
  rate_per_s: z.number().positive(),
  burst: z.number().positive().optional(),
});
export type RateLimit = z.infer<typeof RateLimit>;

/** What is limited of a volume, for all its clients together. Bytes and operations; each direction, or both. */
export const VolumeLimits = z.strictObject({
  operations: RateLimit.optional(),
  readOperations: RateLimit.optional(),
  writeOperations: RateLimit.optional(),
  bytes: RateLimit.optional(),
  readBytes: RateLimit.optional(),
  writeBytes: RateLimit.optional(),
});
export type VolumeLimits = z.infer<typeof VolumeLimits>;

/** How a volume is opened while it is in use. A volume that is not named here is opened as it is. */
export const VolumeConfig = z.strictObject({
  pool: PoolName,
  name: VolumeName,
  limits: VolumeLimits.optional(),
  /** Bytes at rest are AES-256-XTS by a key derived from this file (32 bytes to 64 KiB, mode 0600). */
  encryption: z.strictObject({ keyFile: FilePath }).optional(),
  /** Kept the same as another volume of the same size; see storage/volume/mirror.ts. */
  mirror: z.strictObject({ pool: PoolName, volume: VolumeName }).optional(),
  /** In a remote pool: the export's name there; default: the volume's name. */
  remoteName: z.string().max(4096).optional(),
});
export type VolumeConfig = z.infer<typeof VolumeConfig>;

/** Who may connect besides ourselves: the socket is given to this user, mode 0600. */
const SocketOwner = z.strictObject({ uid: z.int().min(0), gid: z.int().min(0) });

export const ExportListen = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('unix'),
    path: z.string().min(1).max(107),
    owner: SocketOwner.optional(),
  }),
  z.strictObject({
    kind: z.literal('tcp'),
    host: z.string().min(1),
    port: z.int().min(1).max(65_535),
    /** Clients must begin TLS. All exports at one address agree on it. */
    tls: TlsFiles.optional(),
  }),
  /** No NBD: a disk for one guest on this machine, whose QEMU shares the guest's memory (`vhost-user-blk`). */
  z.strictObject({
    kind: z.literal('vhost-user'),
    path: z.string().min(1).max(107),
    owner: SocketOwner.optional(),
    /** The most that QEMU may use. */
    queues: z.int().min(1).max(16).default(8),
    /** What the guest finds as the disk's serial number: 20 bytes of it. */
    serial: z.string().max(20).default(''),
  }),
]);
export type ExportListen = z.infer<typeof ExportListen>;

export const ExportConfig = z.strictObject({
  /** Unique in the configuration: names it in status and events. */
  name: z.string().min(1).max(200),
  /** What an NBD client asks for (NBD_OPT_GO); exports may share a listener when these differ. Any UTF-8 without NUL. */
  nbdName: z.string().max(4096),
  /** NBD_INFO_DESCRIPTION. */
  description: z.string().max(4096).optional(),
  pool: PoolName,
  volume: VolumeName,
  /** Serve this snapshot of it, read-only, instead. */
  snapshot: SnapshotName.optional(),
  readOnly: z.boolean().default(false),
  /** NBD_INFO_BLOCK_SIZE minimum; requests that are not whole blocks are refused. 1 (default) takes any. */
  minimumBlock_bytes: z.union([z.literal(1), z.literal(512), z.literal(4096)]).optional(),
  /** Who may use it: client addresses (CIDR; Unix sockets always pass) and, with TLS, the certificate's common names or PSK identities. */
  allow: z
    .strictObject({
      addresses: z.array(z.string()).max(1000).optional(),
      identities: z.array(z.string().max(256)).max(1000).optional(),
    })
    .optional(),
  connectionLimit: z.int().min(1).max(16_384).optional(),
  /** Clients dial again by themselves: they are hung up on when the volume has grown, since NBD tells its size once. */
  redialWhenGrown: z.boolean().optional(),
  /** A client that asks nothing for so long is disconnected. */
  idleLimit_ms: z.int().min(1000).optional(),
  listen: z.array(ExportListen).min(1).max(16),
});
export type ExportConfig = z.infer<typeof ExportConfig>;

export const StorageConfig = z.strictObject({
  generation: z.int().min(0),
  pools: z.array(PoolConfig).max(256),
  volumes: z.array(VolumeConfig).max(20_000).optional(),
  exports: z.array(ExportConfig).max(20_000),
});
export type StorageConfig = z.infer<typeof StorageConfig>;
