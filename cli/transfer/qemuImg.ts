/**
 * qemu-img and qemu-io as programs of the user: they open the user's files with the user's own rights, and a volume
 * through a socket that only weftd's user may open. Their arguments are built here, in the long form (`--image-opts`), so that no
 * name of a file can be taken for something else.
 */
import { spawn } from 'node:child_process';
import { z } from 'zod';
import {
  IMPORT_FORMATS,
  judgeDiskOf,
  lastProgress,
  nbdUri,
  type ImportFormat,
} from '../../control/image/disk/describe.js';
import { CliError } from '../errors.js';

/** A range of a file (a member of an OVA), or all of it. */
export interface Bytes {
  path: string;
  range?: { offset_bytes: number; size_bytes: number };
}

export interface Disk {
  bytes: Bytes;
  /** In messages. */
  name: string;
  format: ImportFormat;
  virtualSize_bytes: number;
}

export interface NbdTarget {
  socketPath: string;
  nbdName: string;
}

export const EXPORT_FORMATS = ['qcow2', 'raw', 'vmdk', 'vhdx', 'vdi'] as const;
export type ExportFormat = (typeof EXPORT_FORMATS)[number];

const OUTPUT_MAX_CHARS = 256 * 1024;
/** A look at headers: nothing that takes long, unless the file is made to. */
const LOOK_TIMEOUT_MS = 60_000;
const Range = z.object({
  driver: z.literal('raw'),
  offset: z.string(),
  file: z.object({ filename: z.string() }),
});
/** NBD's largest length is 32 bits; a whole number of any block. */
const ZERO_PIECE_BYTES = 2 ** 30;
const SECTOR_BYTES = 512;

export async function inspect(bytes: Bytes, name: string, format: ImportFormat | undefined): Promise<Disk> {
  const known = format !== undefined || bytes.range !== undefined;
  const where = known ? ['--image-opts', imageOptions(bytes, format ?? 'raw')] : [`file:${bytes.path}`];
  const json = await run('qemu-img', ['info', '--output=json', ...where], { timeout_ms: LOOK_TIMEOUT_MS });
  const judged = judgeDiskOf(IMPORT_FORMATS, json, name, part => isPart(part, bytes));
  if ('problem' in judged) throw new CliError('IMAGE_REFUSED', judged.problem);
  return { bytes, name, ...judged };
}

/** qemu-img calls a file by its path, and a range of one by the options that it was given, as JSON. */
function isPart(part: string, { path, range }: Bytes): boolean {
  if (range === undefined) return part === path;
  try {
    const options = Range.parse(JSON.parse(part.replace(/^json:/, '')));
    return options.offset === String(range.offset_bytes) && options.file.filename === path;
  } catch {
    return false;
  }
}

/** Into a volume that reads as zeroes: what is zero in the image is not written. */
export async function copyIn(
  disk: Disk,
  to: NbdTarget,
  onFraction: (fraction: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const source = ['--image-opts', imageOptions(disk.bytes, disk.format)];
  // Flushed in the end, which qemu-img's own choice of cache would not do.
  const how = ['-n', '--target-is-zero', '-p', '-t', 'writeback', '-W', '-O', 'raw'];
  await run('qemu-img', ['convert', ...how, ...source, nbdUri(to)], { signal, onFraction });
}

export async function copyOut(
  from: NbdTarget,
  to: { path: string; format: ExportFormat; compress: boolean },
  onFraction: (fraction: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const how = ['-p', '-t', 'writeback', '-O', to.format, ...compression(to)];
  await run('qemu-img', ['convert', ...how, '--image-opts', nbdOptions(from), to.path], {
    signal,
    onFraction,
  });
}

function compression({ format, compress }: { format: ExportFormat; compress: boolean }): string[] {
  if (!compress) return [];
  return format === 'vmdk' ? ['-c', '-o', 'subformat=streamOptimized'] : ['-c'];
}

/** Makes a volume that has had content read as zeroes, and gives its space back. */
export async function makeZero(
  volume: NbdTarget,
  size_bytes: number,
  onFraction: (fraction: number) => void,
  signal: AbortSignal,
): Promise<void> {
  for (let at = 0; at < size_bytes; at += ZERO_PIECE_BYTES) {
    const length = Math.min(ZERO_PIECE_BYTES, size_bytes - at);
    await run('qemu-io', ['-f', 'raw', '-c', `write -z -u ${at} ${length}`, nbdUri(volume)], { signal });
    onFraction((at + length) / size_bytes);
  }
}

type Options = Readonly<Record<string, string>>;

const under = (prefix: string, options: Options): Options =>
  Object.fromEntries(Object.entries(options).map(([key, value]) => [`${prefix}.${key}`, value]));

/** QEMU's own syntax of options: a comma in a value is doubled. */
const written = (options: Options): string =>
  Object.entries(options)
    .map(([key, value]) => `${key}=${value.replaceAll(',', ',,')}`)
    .join(',');

export function imageOptions({ path, range }: Bytes, format: ImportFormat): string {
  const file: Options = { driver: 'file', filename: path };
  if (range === undefined) return written({ driver: format, ...under('file', file) });
  // Whole sectors: the tar is padded to them.
  const size_bytes = Math.ceil(range.size_bytes / SECTOR_BYTES) * SECTOR_BYTES;
  const part = {
    driver: 'raw',
    offset: String(range.offset_bytes),
    size: String(size_bytes),
    ...under('file', file),
  };
  return written(format === 'raw' ? part : { driver: format, ...under('file', part) });
}

export function nbdOptions({ socketPath, nbdName }: NbdTarget): string {
  const server = { 'server.type': 'unix', 'server.path': socketPath };
  return written({ driver: 'raw', ...under('file', { driver: 'nbd', ...server, export: nbdName }) });
}

interface RunOptions {
  signal?: AbortSignal;
  timeout_ms?: number;
  onFraction?: (fraction: number) => void;
}

/** Its standard output. Rejects with its own words when it fails; ended by SIGTERM when `signal` aborts. */
function run(program: string, args: readonly string[], options: RunOptions): Promise<string> {
  const { signal, timeout_ms, onFraction } = options;
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, LC_ALL: 'C.UTF-8' },
      ...(signal === undefined ? {} : { signal }),
      ...(timeout_ms === undefined ? {} : { timeout: timeout_ms }),
    });
    let output = '';
    let errors = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output = (output + text).slice(-OUTPUT_MAX_CHARS);
      const fraction = onFraction === undefined ? null : lastProgress(output.slice(-64));
      if (fraction !== null) onFraction?.(fraction);
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors = (errors + text).slice(-OUTPUT_MAX_CHARS);
    });
    let failed: Error | undefined;
    child.on('error', error => {
      failed = error;
      // It never began: there will be no `close`.
      if (child.pid === undefined) reject(explain(program, error));
    });
    child.on('close', (status, how) => {
      if (status === 0) return resolve(output);
      if (signal?.aborted === true) return reject(new CliError('INTERRUPTED', 'interrupted', { exit: 130 }));
      if (failed !== undefined) return reject(explain(program, failed));
      // qemu-io says on standard output what its commands had to complain of.
      const words = (errors.trim() === '' ? output : errors).trim().split('\n').slice(-3).join(' | ');
      reject(
        new CliError(
          'PROGRAM_FAILED',
          `${program} failed: ${words.slice(-600) || (how ?? `exit status ${status}`)}`,
        ),
      );
    });
  });
}

function explain(program: string, error: Error): CliError {
  const isMissing = 'code' in error && error.code === 'ENOENT';
  return isMissing
    ? new CliError('PROGRAM_MISSING', `${program} is not installed`, {
        hint: 'On Debian: sudo apt-get install qemu-utils',
        cause: error,
      })
    : new CliError('PROGRAM_FAILED', `${program}: ${error.message}`, { cause: error });
}
