/**
 * `weft volume export`: a volume, or a snapshot of it, as a file for others. As import.ts, qemu-img runs here and as the user;
 * the file has its name only once all of it is there and synced, and what is broken off leaves none.
 */
import { open, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, extname, join, resolve } from 'node:path';
import type { Command } from 'commander';
import { Option } from 'commander';
import { CliError, UsageError } from '../../errors.js';
import { formatBytes } from '../../format.js';
import type { Session } from '../../session.js';
import { parseTarget } from '../../storage/names.js';
import { takeLease } from '../../transfer/lease.js';
import { writeOva } from '../../transfer/ovaWriter.js';
import { EXPORT_FORMATS, copyOut, type ExportFormat } from '../../transfer/qemuImg.js';
import { withBar } from './import.js';

/** An OVA is not qemu-img's to make. */
const FORMATS = [...EXPORT_FORMATS, 'ova'] as const;
type Format = ExportFormat | 'ova';

interface Options {
  format?: Format;
  compress: boolean;
  force: boolean;
}

const BY_EXTENSION: Readonly<Record<string, Format>> = {
  '.ova': 'ova',
  '.qcow2': 'qcow2',
  '.raw': 'raw',
  '.img': 'raw',
  '.vmdk': 'vmdk',
  '.vhdx': 'vhdx',
  '.vdi': 'vdi',
};
const COMPRESSES: readonly Format[] = ['qcow2', 'vmdk'];

export function registerExport(group: Command, session: Session): void {
  group
    .command('export')
    .description('write a volume, or one of its snapshots, into a disk image')
    .argument('<volume>', 'as POOL/VOLUME, as it is now, or POOL/VOLUME@SNAPSHOT')
    .argument('<file>', 'the image; its ending says the format')
    .addOption(new Option('--format <format>', 'of the image; default: by its ending').choices(FORMATS))
    .option('--compress', 'smaller and slower: of qcow2 and vmdk', false)
    .option('--force', 'replace a file that is there', false)
    .action(async (target: string, file: string, options: Options, command: Command) => {
      session.refuseUrl(command, 'an export');
      const from = parseTarget(target);
      const path = resolve(session.io.cwd, file);
      const format = options.format ?? BY_EXTENSION[extname(file).toLowerCase()];
      if (format === undefined)
        throw new UsageError(`${file}: its ending does not say a format`, 'Say one with --format.');
      if (options.compress && !COMPRESSES.includes(format))
        throw new UsageError(`--compress is for ${COMPRESSES.join(' and ')}, not for ${format}`);
      const there = await stat(path).catch(() => null);
      if (there !== null && !there.isFile()) throw new UsageError(`${file} is there and no file`);
      if (there !== null && !options.force)
        throw new UsageError(`${file} is there already`, 'Say --force if it may be replaced.');
      const written_bytes = await writeFile(session, command, from, {
        path,
        format,
        compress: options.compress,
      });
      session.print(`${file}: ${format}, ${formatBytes(written_bytes)} written.`);
    });
}

/** Bytes that the file takes on the disk. */
async function writeFile(
  session: Session,
  command: Command,
  from: { pool: string; volume: string; snapshot?: string },
  to: { path: string; format: Format; compress: boolean },
): Promise<number> {
  const interrupted = new AbortController();
  const off = session.io.onSignal(() => interrupted.abort());
  const partial = join(dirname(to.path), `.${basename(to.path).slice(0, 200)}.${process.pid}.part`);
  const parts = [partial];
  const lease = await takeLease(session.client(command), { kind: 'export', ...from }).catch(
    (error: unknown) => {
      off();
      throw error;
    },
  );
  try {
    // Made by us, so that nobody else may read a disk while it is written, whatever the umask.
    await (await open(partial, 'wx', 0o600)).close();
    const title = `exporting ${from.pool}/${from.volume}${from.snapshot === undefined ? '' : `@${from.snapshot}`}`;
    const signal = AbortSignal.any([interrupted.signal, lease.lost]);
    const { format } = to;
    if (format === 'ova') {
      const disk = `${partial}-disk`;
      parts.push(disk);
      await (await open(disk, 'wx', 0o600)).close();
      await withBar(session, title, lease.size_bytes, show =>
        copyOut(lease, { path: disk, format: 'vmdk', compress: true }, show, signal),
      );
      const { size } = await stat(disk);
      const about = { path: disk, name: from.volume, capacity_bytes: lease.size_bytes, now_ms: Date.now() };
      await withBar(session, `packing ${basename(to.path)}`, size, show =>
        writeOva(partial, about, show, signal),
      );
      await rm(disk);
    } else
      await withBar(session, title, lease.size_bytes, show =>
        copyOut(lease, { path: partial, format, compress: to.compress }, show, signal),
      );
    await sync(partial);
    const { blocks } = await stat(partial);
    await rename(partial, to.path);
    await sync(dirname(to.path));
    return blocks * 512;
  } catch (error) {
    for (const part of parts) await rm(part, { force: true });
    if (interrupted.signal.aborted)
      throw new CliError('INTERRUPTED', `interrupted: ${to.path} was not written`, { exit: 130 });
    if (lease.lost.aborted)
      throw new CliError('TRANSFER_LOST', `weftd went away: ${to.path} was not written`, { cause: error });
    if (error instanceof CliError) throw error;
    throw new CliError(
      'UNWRITABLE',
      `cannot write ${to.path}: ${error instanceof Error ? error.message : String(error)}`,
      {
        cause: error,
      },
    );
  } finally {
    lease.end();
    off();
  }
}

async function sync(path: string): Promise<void> {
  const file = await open(path, 'r');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}
