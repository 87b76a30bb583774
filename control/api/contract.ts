/**
 * weftd's API: what the CLI, the console and other programs may ask. HTTP + JSON on `run/weftd.sock` in the
 * state directory, and on TCP when asked for (then with `Authorization: Bearer TOKEN`).
 *
 *   GET    /healthz                                {ok: true}
 *   GET    /metrics                                Prometheus text
 *   GET    /openapi.json                           made from this file
 *   GET    /v1/schema                              JSON Schema of a configuration
 *   GET    /v1/status                              SystemStatus
 *   GET    /v1/doctor                              Doctor
 *   POST   /v1/plan            ChangeRequest       Plan          changes nothing
 *   POST   /v1/apply           ChangeRequest       ApplyReply    stores a new revision; the loop carries it out
 *   GET    /v1/resources       ?kind=&name=&limit=&cursor=        ResourcePage
 *   GET    /v1/resources/:kind/:name               Resource
 *   DELETE /v1/resources/:kind/:name ?destroyData= DeleteReply   data stays unless destroyData=true
 *   GET    /v1/events          ?since=&kind=&name= SSE of WeftEvent (id: = seq); with ?follow=false JSON {events}
 *   GET    /v1/logs/:component ?follow=&lines=     text/plain; component: weftd, dataplane, storage, machine/NAME (serial), qemu/NAME
 *   POST   /v1/machines/:name/:verb  MachineRequest {}           verb: start stop kill reset pause resume
 *   GET    /v1/machines/:name/console              Upgrade: weft-console; raw bytes of the serial line both ways
 *   GET    /v1/switches/:name/macs                 MacTable of the dataplane
 *   DELETE /v1/switches/:name/macs ?port=&vlan=    {flushed}
 *   GET    /v1/switches/:name/show/:what           what a capability of the dataplane's switch knows, as its contract says
 *   POST   /v1/switches/:name/trace TraceRequest   TraceView of the dataplane: what would become of a frame
 *   GET    /v1/switches/:name/top ?seconds=&limit=  TopTalkers of the dataplane: watches for so long, then tells
 *   GET    /v1/switches/:name/capture ?port=&snaplen_bytes=&count=&filter=    pcapng stream
 *   GET    /v1/pools                               {pools: PoolStatus[]} of the storage plane
 *   POST   /v1/pools/:pool/repair  RepairRequest   RepairReport   nothing uses the pool, unless there is nothing to do
 *   GET    /v1/pools/:pool/exports                 PoolExports   of a pool of kind remote
 *   GET    /v1/volumes         ?pool=&name=&label=&limit=&cursor= VolumePage   those no resource names too
 *   GET    /v1/volumes/:pool/:volume               VolumeView
 *   PUT    /v1/volumes/:pool/:volume VolumeSpec    VolumeStatus  makes or changes one that no resource names
 *   DELETE /v1/volumes/:pool/:volume ?snapshots=   {deleted: true}  destroys the data of a volume no resource names
 *   POST   /v1/volumes/:pool/:volume/rename        RenameRequest -> VolumeStatus     no resource names it
 *   POST   /v1/volumes/:pool/:volume/move          MoveRequest -> {}   to another pool, while it is used
 *   DELETE /v1/volumes/:pool/:volume/move          {}            goes on where it is
 *   POST   /v1/volumes/:pool/:volume/rollback      RollbackRequest -> VolumeStatus   nothing uses it
 *   GET    /v1/volumes/:pool/:volume/diff ?from=&to=&offset=    Diff
 *   GET    /v1/volumes/:pool/:volume/snapshots ?name=&label=&limit=&cursor=   SnapshotPage
 *   DELETE /v1/volumes/:pool/:volume/snapshots/:snapshot   {deleted: true}
 *   POST   /v1/snapshots       SnapshotOrder       {snapshots: SnapshotStatus[]}   several volumes, or a machine's, at one instant
 *   GET    /v1/jobs                                {jobs: JobStatus[]}
 *   POST   /v1/jobs            JobRequest          JobStatus
 *   GET    /v1/jobs/:id                            JobStatus
 *   GET    /v1/jobs/:id/events                     SSE of JobStatus, until it has ended
 *   DELETE /v1/jobs/:id                            JobStatus     cancels it
 *   GET    /v1/backups         ?directory=         {backups: BackupEntry[]}
 *   POST   /v1/transfers       TransferRequest     SSE: one TransferReady; the transfer lives as long as this answer
 *   POST   /v1/transfers/:id/commit                {}            what was imported is kept
 *   POST   /v1/images/:name/build                  ImageBuild as SSE lines of ImageProgress; built ones answer at once
 *   POST   /v1/shutdown        ShutdownRequest     {}            weftd ends; `everything`: planes and guests too
 *
 * A page has at most 1000 rows, and in `next` the cursor of the one after it: ask again with `cursor=` and the same filters.
 * Every error is an ErrorReply with a status code that fits.
 */
import { z } from 'zod';
import { RemoteExports, SnapshotRequest, SnapshotStatus, VolumeStatus } from '../../storage/contract.js';
import { KINDS } from '../model/spec.js';

/** Schemas of what `/v1/switches/:name/show/:what` passes on. */
export * as dataplane from '../../dataplane/contract.js';
/** Schemas of pools, volumes, snapshots, jobs and backups, as the plane has them. */
export * as storage from '../../storage/contract.js';

export const Kind = z.enum(KINDS);

/** `True` is the good state for every type, so that a table of them reads at a glance. */
export const Condition = z.object({
  /** `Ready` on every kind is good when `True`; `RestartRequired` and `SpaceLow` tell of a trouble and are good when `False`. */
  type: z.string(),
  status: z.enum(['True', 'False', 'Unknown']),
  /** One CamelCase word for programs. */
  reason: z.string(),
  /** For people: what, where, what to do. */
  message: z.string(),
  lastTransitionTime: z.iso.datetime(),
});
export type Condition = z.infer<typeof Condition>;

export const Resource = z.object({
  kind: Kind,
  name: z.string(),
  /** Goes up by one whenever the spec changes. */
  generation: z.int(),
  spec: z.record(z.string(), z.unknown()),
  status: z.object({
    /** The generation that the conditions speak of. */
    observedGeneration: z.int(),
    conditions: z.array(Condition),
    lastError: z.string().nullable(),
    /** What was observed, by kind: a machine's state, a switch's ports, a volume's allocated bytes, … */
    observed: z.record(z.string(), z.unknown()),
  }),
  /** Being deleted: gone from the configuration, not yet from the machine. */
  deleting: z.boolean(),
});
export type Resource = z.infer<typeof Resource>;

/** Of a list in pages: what to ask the next one with; null after the last. */
const next = z.string().nullable().optional();

export const ResourcePage = z.object({ resources: z.array(Resource), next });

export const ConfigFile = z.object({
  /** As the user named it; appears in messages. */
  path: z.string(),
  text: z.string().max(8 * 1024 * 1024),
});
export type ConfigFile = z.infer<typeof ConfigFile>;

export const ChangeRequest = z.object({
  files: z.array(ConfigFile).max(1000),
  /** Delete resources that the files do not mention (never their data). */
  prune: z.boolean().default(false),
  /** Refuse when the configuration has moved on from this revision. */
  ifRevision: z.int().optional(),
});
export type ChangeRequest = z.infer<typeof ChangeRequest>;

export const Problem = z.object({
  path: z.string(),
  /** Both from 1; 0 when the whole file is meant. */
  line: z.int(),
  column: z.int(),
  /** `machine.alice.nics[0].switch`; empty for syntax. */
  at: z.string(),
  message: z.string(),
});
export type Problem = z.infer<typeof Problem>;

export const PlannedAction = z.object({
  verb: z.enum(['create', 'update', 'delete', 'restart', 'none']),
  kind: Kind,
  name: z.string(),
  /** In words, for people. */
  summary: z.string(),
  changes: z.array(z.object({ path: z.string(), from: z.unknown(), to: z.unknown() })),
});
export type PlannedAction = z.infer<typeof PlannedAction>;

/** With problems there are no actions, and apply changes nothing. */
export const Plan = z.object({
  revision: z.int(),
  problems: z.array(Problem),
  actions: z.array(PlannedAction),
});
export type Plan = z.infer<typeof Plan>;

export const ApplyReply = Plan;
export type ApplyReply = Plan;

export const DeleteReply = z.object({
  revision: z.int(),
  /** What was kept, in words, with the command that removes it. */
  kept: z.array(z.string()),
});
export type DeleteReply = z.infer<typeof DeleteReply>;

export const WeftEvent = z.object({
  seq: z.int(),
  at: z.iso.datetime(),
  level: z.enum(['info', 'warning', 'error']),
  kind: z.string(),
  name: z.string(),
  reason: z.string(),
  message: z.string(),
});
export type WeftEvent = z.infer<typeof WeftEvent>;

export const PlaneStatus = z.object({
  name: z.enum(['dataplane', 'storage']),
  state: z.enum(['up', 'starting', 'backoff', 'stopped']),
  pid: z.int().nullable(),
  version: z.string().nullable(),
  startedAt: z.iso.datetime().nullable(),
  restartCount: z.int(),
  reason: z.string().nullable(),
});
export type PlaneStatus = z.infer<typeof PlaneStatus>;

export const SystemStatus = z.object({
  version: z.string(),
  pid: z.int(),
  stateDirectory: z.string(),
  revision: z.int(),
  /** Every resource is at its generation and Ready. */
  settled: z.boolean(),
  planes: z.array(PlaneStatus),
});
export type SystemStatus = z.infer<typeof SystemStatus>;

export const Doctor = z.object({
  checks: z.array(
    z.object({
      name: z.string(),
      status: z.enum(['ok', 'warning', 'missing']),
      /** What was found. */
      found: z.string(),
      /** What does not work without it, and what to do; null when ok. */
      advice: z.string().nullable(),
      /** Debian package that brings it, if one does. */
      debianPackage: z.string().nullable(),
    }),
  ),
});
export type Doctor = z.infer<typeof Doctor>;

export const MachineRequest = z.object({ timeout_ms: z.int().min(0).max(3_600_000).optional() });
export type MachineRequest = z.infer<typeof MachineRequest>;

export const VolumeRow = z.object({
  pool: z.string(),
  name: z.string(),
  size_bytes: z.number(),
  allocated_bytes: z.number(),
  state: z.string(),
  reason: z.string().nullable(),
  /** Whether a volume resource names it. */
  configured: z.boolean(),
  usedBy: z.array(z.string()),
  labels: z.record(z.string(), z.string()).optional(),
  /** `VOLUME@SNAPSHOT` that it was cloned from and still needs. */
  parent: z.string().nullable().optional(),
  snapshotCount: z.int().optional(),
});
export type VolumeRow = z.infer<typeof VolumeRow>;

/** What another server offers; `volume`: of the configuration, which is this export. */
export const PoolExports = RemoteExports.extend({
  exports: z.array(RemoteExports.shape.exports.element.extend({ volume: z.string().nullable() })),
});
export type PoolExports = z.infer<typeof PoolExports>;

/** Of a volume of the configuration, to a pool that is a directory. */
export const MoveRequest = z.strictObject({
  to: z.string(),
  /** What lies in the first pool is not destroyed. Snapshots do not move: they need it. */
  keepSource: z.boolean().default(false),
});
export type MoveRequest = z.infer<typeof MoveRequest>;

/** By pool and name. */
export const VolumePage = z.object({ volumes: z.array(VolumeRow), next });
/** The oldest first. */
export const SnapshotPage = z.object({ snapshots: z.array(SnapshotStatus), next });

/** What the plane knows of a volume, and what the configuration makes of it. Of its snapshots the first thousand. */
export const VolumeView = VolumeStatus.extend({
  snapshotCount: z.int().optional(),
  configured: z.boolean(),
  usedBy: z.array(z.string()),
  /** A machine that has it as a disk now, or null. */
  runningOn: z.string().nullable(),
  /** The pool that it is on its way to; `mirror` says how much is left. */
  movingTo: z.string().nullable().optional(),
});
export type VolumeView = z.infer<typeof VolumeView>;

/** Volumes by name, or all disks of a machine, running or not. */
export const SnapshotOrder = z.strictObject({
  name: SnapshotRequest.shape.name,
  volumes: SnapshotRequest.shape.volumes.optional(),
  machine: z.string().optional(),
  labels: SnapshotRequest.shape.labels,
});
export type SnapshotOrder = z.infer<typeof SnapshotOrder>;

/**
 * Bytes of a volume for a program on this host, by NBD on a Unix socket of weftd's own user. `import`: a volume that is
 * not there is made, under another name until it is committed; one that is there takes `overwrite`. `export`: of a
 * snapshot, made for this when none is named.
 */
export const TransferRequest = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('import'),
    pool: z.string(),
    volume: z.string(),
    /** Of what will be written. A volume that is made has this size, one that is there at least this. */
    size_bytes: z.int().min(4096),
    overwrite: z.boolean().default(false),
  }),
  z.strictObject({
    kind: z.literal('export'),
    pool: z.string(),
    volume: z.string(),
    snapshot: z.string().optional(),
  }),
]);
export type TransferRequest = z.infer<typeof TransferRequest>;

export const TransferReady = z.object({
  id: z.string(),
  socketPath: z.string(),
  nbdName: z.string(),
  size_bytes: z.number(),
  /** Of an import: reads as zeroes everywhere. */
  isEmpty: z.boolean(),
});
export type TransferReady = z.infer<typeof TransferReady>;

export const ImageProgress = z.object({
  stage: z.string(),
  fraction: z.number().min(0).max(1).nullable(),
  done: z.boolean(),
  error: z.string().nullable(),
});
export type ImageProgress = z.infer<typeof ImageProgress>;

export const ShutdownRequest = z.object({
  everything: z.boolean().default(false),
  timeout_ms: z.int().min(0).max(3_600_000).default(60_000),
});
export type ShutdownRequest = z.infer<typeof ShutdownRequest>;

export const ErrorReply = z.object({
  error: z.object({ code: z.string(), message: z.string(), problems: z.array(Problem).optional() }),
});
export type ErrorReply = z.infer<typeof ErrorReply>;
