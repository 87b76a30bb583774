/** What qemu-img says, read and judged. Pure; the CLI's imports and exports use it too. */
import { z } from 'zod';

/** What images of a configuration may be. */
export const DISK_FORMATS = ['raw', 'qcow2'] as const;
export type DiskFormat = (typeof DISK_FORMATS)[number];

/** What can be imported; `vpc` is qemu-img's word for VHD. */
export const IMPORT_FORMATS = ['raw', 'qcow2', 'vmdk', 'vhdx', 'vdi', 'vpc'] as const;
export type ImportFormat = (typeof IMPORT_FORMATS)[number];

const Info = z.object({
  format: z.string(),
  'virtual-size': z.number(),
  encrypted: z.boolean().optional(),
  'backing-filename': z.string().optional(),
  'full-backing-filename': z.string().optional(),
  'format-specific': z
    .object({
      data: z
        .object({
          'data-file': z.string().optional(),
          corrupt: z.boolean().optional(),
          /** Of vmdk: the files that it is made of, itself among them. */
          extents: z.array(z.object({ filename: z.string().optional() })).optional(),
        })
        .optional(),
    })
    .optional(),
});

/**
 * Judges `qemu-img info --output=json`. An image that names other files is refused whatever they are: whoever
 * made the image would choose which of this host's files become readable in a guest.
 */
export function judgeDisk(json: string, path: string): Judged<DiskFormat> {
  return judgeDiskOf(DISK_FORMATS, json, path);
}

export type Judged<Format> = { format: Format; virtualSize_bytes: number } | { problem: string };

/** As `judgeDisk`, for these formats. `isItself`: whether a part that qemu-img names is the image, not another file. */
export function judgeDiskOf<Format extends string>(
  formats: readonly Format[],
  json: string,
  path: string,
  isItself = (part: string): boolean => part === path,
): Judged<Format> {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    return { problem: `qemu-img said nothing that can be read about ${path}` };
  }
  const parsed = Info.safeParse(value);
  if (!parsed.success) return { problem: `qemu-img said nothing that can be understood about ${path}` };
  const info = parsed.data;
  const format = formats.find(one => one === info.format);
  if (format === undefined)
    return {
      problem: `${path} is of format ${info.format}; weft takes ${formats.slice(0, -1).join(', ')} and ${formats.at(-1)}. Convert it: qemu-img convert -O qcow2 ${path} NEW.qcow2`,
    };
  const specific = info['format-specific']?.data;
  const other =
    info['backing-filename'] ??
    info['full-backing-filename'] ??
    specific?.['data-file'] ??
    specific?.extents?.find(({ filename }) => filename !== undefined && !isItself(filename))?.filename;
  if (other !== undefined)
    return {
      problem: `${path} needs another file (${other}); weft takes only images that stand alone. Flatten it: qemu-img convert -O qcow2 ${path} NEW.qcow2`,
    };
  if (info.encrypted === true) return { problem: `${path} is encrypted, which weft cannot read` };
  if (specific?.corrupt === true)
    return { problem: `${path} is marked as corrupt; see qemu-img check ${path}` };
  return { format, virtualSize_bytes: info['virtual-size'] };
}

/** The last `(12.34/100%)` of what `qemu-img convert -p` printed, from 0 to 1; null when there is none. */
export function lastProgress(output: string): number | null {
  const match = [...output.matchAll(/\((\d{1,3}(?:\.\d+)?)\/100%\)/g)].at(-1)?.[1];
  return match === undefined ? null : Math.min(Number(match) / 100, 1);
}

/** NBD URI specification, `nbd+unix`. */
export function nbdUri(target: { socketPath: string; nbdName: string }): string {
  return `nbd+unix:///${encodeURIComponent(target.nbdName)}?socket=${encodeURIComponent(target.socketPath)}`;
}
