/** A volume, as users say it. What it is made with, what of it can be changed, and how it is opened. */
import { z } from 'zod';
import { SnapshotName } from '../../../storage/contract.js';
import type { VolumeConfig, VolumeSpec as PlaneVolumeSpec } from '../../../storage/contract.js';
import { Duration, Name, Size, parseSize } from '../words.js';
import { FilePath } from './network.js';
import { LimitsWords, limitsToPlane } from './rates.js';

/** What guests and clients see as the smallest block. */
export const Block = z.union([z.literal(512), z.literal(4096)]);
export type Block = z.infer<typeof Block>;

const Label = z.string().min(1).max(63);
const RemoteName = z.string().max(4096);

const MirrorWords = z.strictObject({
  pool: Name.meta({ description: 'where the second side lies, under the same name; weft makes it too' }),
  remoteName: RemoteName.optional().meta({ description: "in a remote pool: the export's name there" }),
});

const ScheduleWords = z
  .strictObject({
    every: Duration.meta({ description: 'from 1m on' }),
    keep: z.int().min(1).max(1000).meta({ description: 'so many of these snapshots; the oldest go' }),
  })
  .meta({ description: 'snapshots by the clock, named auto-YYYYMMDD-HHMM (UTC)' });
export type ScheduleWords = z.infer<typeof ScheduleWords>;

export const VolumeSpec = z.strictObject({
  pool: Name,
  size: Size.optional().meta({
    description:
      'needed where it is made; left out: of a clone its source, of a device or remote pool what is there',
  }),
  shrink: z.boolean().optional().meta({
    description:
      'a smaller size is meant so: what lies behind it is gone. Nothing may use the volume meanwhile',
  }),
  image: Name.optional().meta({ description: 'fill it from this disk image when it is made' }),
  from: z
    .strictObject({ volume: Name, snapshot: SnapshotName.optional() })
    .optional()
    .meta({ description: 'made as a clone of this volume, or of a snapshot of it' }),
  preallocated: z.boolean().optional().meta({ description: 'take all its room when it is made' }),
  checksums: z.boolean().optional().meta({
    description: 'of each 4 KiB, verified on read; said when it is made, default true',
  }),
  labels: z.record(Label, z.string().max(255)).optional().meta({ description: 'to find it by' }),
  quota: Size.optional().meta({ description: 'most that it and its snapshots may take' }),
  limits: LimitsWords.optional(),
  encryption: z
    .strictObject({
      keyFile: FilePath.meta({
        description: '64 bytes or more, readable by weft alone; lost: so is the data',
      }),
    })
    .optional()
    .meta({ description: 'at rest it is AES-256-XTS; said when it is made' }),
  mirror: MirrorWords.optional().meta({ description: 'the same data in a second pool' }),
  remoteName: RemoteName.optional().meta({
    description: "in a remote pool: the export's name there; default: the volume's name",
  }),
  snapshots: ScheduleWords.optional(),
  block: Block.optional().meta({
    description:
      'smallest block that guests and clients are told of; default 512 for guests, any for clients',
  }),
});
export type VolumeSpec = z.infer<typeof VolumeSpec>;

function sizeWord(word: string | undefined): number | undefined {
  return word === undefined ? undefined : (parseSize(word) ?? Number.NaN);
}

/** What a volume is made with. `size_bytes` is the source's where the spec leaves it out. */
export function toMake(spec: VolumeSpec, size_bytes: number): PlaneVolumeSpec {
  const { preallocated, checksums, from, labels } = spec;
  const quota_bytes = sizeWord(spec.quota);
  return {
    size_bytes,
    shrink: false,
    ...(preallocated === undefined ? {} : { preallocated }),
    ...(checksums === undefined ? {} : { checksums }),
    ...(from === undefined
      ? {}
      : {
          from: { volume: from.volume, ...(from.snapshot === undefined ? {} : { snapshot: from.snapshot }) },
        }),
    ...(labels === undefined ? {} : { labels }),
    ...(quota_bytes === undefined ? {} : { quota_bytes }),
  };
}

export function sizeOfVolume(spec: VolumeSpec): number | undefined {
  return sizeWord(spec.size);
}

export function quotaOf(spec: VolumeSpec): number | null {
  return sizeWord(spec.quota) ?? null;
}

/** How it is opened. Undefined: as it lies there. `withMirror`: its second side is there. */
export function toOpen(
  name: string,
  spec: VolumeSpec,
  { isNamed, withMirror }: { isNamed: boolean; withMirror: boolean },
): VolumeConfig | undefined {
  const { pool, encryption, mirror, remoteName } = spec;
  const limits = limitsToPlane(spec.limits);
  const config: VolumeConfig = {
    pool,
    name,
    ...(limits === undefined ? {} : { limits }),
    ...(encryption === undefined ? {} : { encryption }),
    ...(mirror === undefined || !withMirror ? {} : { mirror: { pool: mirror.pool, volume: name } }),
    ...(remoteName === undefined ? {} : { remoteName }),
  };
  return isNamed || Object.keys(config).length > 2 ? config : undefined;
}

/** The second side of its mirror, as a volume by itself. */
export function legOf(spec: VolumeSpec): VolumeSpec | undefined {
  const { mirror, size, preallocated, checksums } = spec;
  if (mirror === undefined) return undefined;
  const { pool, remoteName } = mirror;
  return { pool, size, preallocated, checksums, remoteName };
}
