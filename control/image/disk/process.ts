/** Disk images by qemu-img: looked at, and copied into a volume over NBD. */
import * as fs from 'node:fs';
import { ImageError } from '../errors.js';
import type { BuildProgress } from '../host.js';
import { run } from '../program/process.js';
import { judgeDisk, lastProgress, nbdUri, type DiskFormat } from './describe.js';

export interface Disk {
  format: DiskFormat;
  virtualSize_bytes: number;
}

/** `format`: what the user says that it is; without it qemu-img's guess is taken. */
export async function inspectDisk(path: string, format: DiskFormat | undefined): Promise<Disk> {
  mustBeReadable(path);
  const args = ['info', '--output=json', ...(format === undefined ? [] : ['-f', format]), path];
  const judged = judgeDisk(await run('qemu-img', args, { code: 'IMAGE_FORMAT' }), path);
  if ('problem' in judged) throw new ImageError('IMAGE_FORMAT', judged.problem);
  return judged;
}

/**
 * The format is given and not guessed anew, so that what was judged is what is read. Zeros are written as
 * zeros, never left out: the volume may hold a part of an earlier, interrupted copy.
 */
export async function copyDisk(
  image: { path: string; format: DiskFormat },
  target: { socketPath: string; nbdName: string },
  onProgress: (progress: BuildProgress) => void,
  signal?: AbortSignal,
): Promise<void> {
  const stage = `copying ${image.path} into ${target.nbdName}`;
  onProgress({ stage, fraction: 0 });
  let last = '';
  await run(
    'qemu-img',
    // With qemu-img's own choice of cache nothing would be flushed in the end.
    ['convert', '-n', '-p', '-t', 'writeback', '-f', image.format, '-O', 'raw', image.path, nbdUri(target)],
    {
      code: 'IMAGE_FILL',
      signal,
      onOutput: text => {
        last = (last + text).slice(-64);
        const fraction = lastProgress(last);
        if (fraction !== null) onProgress({ stage, fraction });
      },
    },
  );
  onProgress({ stage, fraction: 1 });
}

export function mustBeReadable(path: string): void {
  let why;
  try {
    if (!fs.statSync(path).isFile() && !fs.statSync(path).isBlockDevice()) why = 'is not a file';
    fs.accessSync(path, fs.constants.R_OK);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    why = code === 'ENOENT' || code === 'ENOTDIR' ? 'does not exist' : 'cannot be read by weftd';
  }
  if (why !== undefined) throw new ImageError('IMAGE_FILE', `${path} ${why}`);
}
