/**
 * `weft volume import`: disk images and OVAs become volumes. qemu-img runs here, as the user who asks, on a socket that
 * weftd opens for it: so an image is read with that user's rights, and a program that parses what strangers have made
 * is never one of weftd's. All or nothing: what is made has its name only once all of it is there.
 */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { Option } from 'commander';
import { VolumeView } from '../../../control/api/contract.js';
import { IMPORT_FORMATS, type ImportFormat } from '../../../control/image/disk/describe.js';
import type { Client } from '../../client.js';
import { ApiError, CliError, UsageError } from '../../errors.js';
import { formatBytes, formatJson } from '../../format.js';
import { count } from '../../options.js';
import { startProgress } from '../../progress.js';
import type { Session } from '../../session.js';
import { amountText } from '../../storage/bar.js';
import { parseVolume, size_bytes, volumePath, type VolumeName } from '../../storage/names.js';
import { takeLease, type Lease } from '../../transfer/lease.js';
import { copyIn, makeZero, type Disk } from '../../transfer/qemuImg.js';
import { openSource } from '../../transfer/source.js';

interface Options {
  size?: number;
  format?: ImportFormat;
  disk?: number;
  overwrite: boolean;
  output: string;
}

const BLOCK_BYTES = 4096;

export function registerImport(group: Command, session: Session): void {
  group
    .command('import')
    .description('make a volume of a disk image: raw, qcow2, vmdk, vhdx, vdi, vhd, or the disks of an OVA')
    .argument('<file>', 'the image')
    .argument('<volume>', 'as POOL/VOLUME; of an OVA with several disks VOLUME-1, VOLUME-2, …')
    .option('--size <size>', 'of the volume; default: what the image says', size_bytes)
    .addOption(
      new Option('--format <format>', 'what the image is; default: as it looks').choices(IMPORT_FORMATS),
    )
    .option('--disk <number>', 'of an OVA: only this disk, counted from 1', count)
    .option('--overwrite', 'replace what is in a volume that is there already', false)
    .addOption(
      new Option('-o, --output <form>', 'form of the answer').choices(['table', 'json']).default('table'),
    )
    .action(async (file: string, target: string, options: Options, command: Command) => {
      session.refuseUrl(command, 'an import');
      const to = parseVolume(target);
      const path = resolve(session.io.cwd, file);
      const { disks, verify } = await openSource(path, options.format);
      const chosen = choose(disks, to, options, file);
      const client = session.client(command);
      const interrupted = new AbortController();
      const off = session.io.onSignal(() => interrupted.abort());
      try {
        if (verify !== null)
          await withBar(session, `comparing ${file} with its manifest`, fileBytes(disks), show =>
            verify(show, interrupted.signal),
          );
        await importAll(session, client, chosen, options.overwrite, interrupted.signal);
      } finally {
        off();
      }
      const made: VolumeView[] = [];
      for (const { name } of chosen) made.push(await client.call('GET', volumePath(name), VolumeView));
      if (options.output === 'json') return session.print(formatJson({ volumes: made }));
      for (const one of made)
        session.print(
          `volume ${one.pool}/${one.name}: ${formatBytes(one.size_bytes)}, ${formatBytes(one.allocated_bytes)} allocated.`,
        );
      tellHowToUse(session, made);
    });
}

interface Wanted {
  disk: Disk;
  name: VolumeName;
  size_bytes: number;
}

function choose(disks: readonly Disk[], to: VolumeName, options: Options, file: string): Wanted[] {
  const { disk: number, size_bytes: asked_bytes } = { disk: options.disk, size_bytes: options.size };
  if (number !== undefined && (number < 1 || number > disks.length))
    throw new UsageError(
      `${file} has ${disks.length} disk${disks.length === 1 ? '' : 's'}: --disk ${number} is none`,
    );
  const chosen = number === undefined ? disks : disks.slice(number - 1, number);
  if (asked_bytes !== undefined && chosen.length > 1)
    throw new UsageError(
      `${file} has ${disks.length} disks: --size is for one`,
      'Choose with --disk NUMBER.',
    );
  return chosen.map((disk, i) => {
    const least_bytes = Math.max(BLOCK_BYTES, Math.ceil(disk.virtualSize_bytes / BLOCK_BYTES) * BLOCK_BYTES);
    if (asked_bytes !== undefined && asked_bytes < least_bytes)
      throw new UsageError(
        `the disk in ${file} has ${formatBytes(disk.virtualSize_bytes)}: --size is too small`,
        'A file system in it would lose its end. Make it smaller inside first.',
      );
    if (asked_bytes !== undefined && asked_bytes % BLOCK_BYTES !== 0)
      throw new UsageError(`--size: a volume has whole blocks of ${BLOCK_BYTES} bytes`);
    return {
      disk,
      name: chosen.length === 1 ? to : { ...to, volume: `${to.volume}-${i + 1}` },
      size_bytes: asked_bytes ?? least_bytes,
    };
  });
}

const fileBytes = (disks: readonly Disk[]): number =>
  disks.reduce((sum, { bytes }) => sum + (bytes.range?.size_bytes ?? 0), 0);

/** All are copied before the first is kept. */
async function importAll(
  session: Session,
  client: Client,
  wanted: readonly Wanted[],
  overwrite: boolean,
  interrupted: AbortSignal,
): Promise<void> {
  const leases: Lease[] = [];
  try {
    for (const { name, size_bytes: size } of wanted) {
      const body = { kind: 'import' as const, ...name, size_bytes: size, overwrite };
      leases.push(await takeLease(client, body).catch(explain));
    }
    for (const [i, { disk, name }] of wanted.entries()) {
      const lease = leases[i]!;
      const title = `${name.pool}/${name.volume}`;
      const signal = AbortSignal.any([interrupted, ...leases.map(({ lost }) => lost)]);
      try {
        if (!lease.isEmpty)
          await withBar(session, `emptying ${title}`, lease.size_bytes, show =>
            makeZero(lease, lease.size_bytes, show, signal),
          );
        await withBar(session, `importing ${disk.name} into ${title}`, disk.virtualSize_bytes, show =>
          copyIn(disk, lease, show, signal),
        );
      } catch (error) {
        if (interrupted.aborted)
          throw new CliError(
            'INTERRUPTED',
            `interrupted: ${title} ${overwrite ? 'is as it was' : 'was not made'}`,
            {
              exit: 130,
            },
          );
        if (leases.some(({ lost }) => lost.aborted))
          throw new CliError('TRANSFER_LOST', 'weftd went away: nothing was imported', { cause: error });
        throw error;
      }
    }
    for (const lease of leases) await lease.commit();
  } finally {
    for (const lease of leases) lease.end();
  }
}

function explain(error: unknown): never {
  if (error instanceof ApiError && error.code === 'VOLUME_EXISTS')
    throw new UsageError(error.message, 'Choose another name, or say --overwrite if its data may go.');
  throw error;
}

/** Draws on a terminal; says one line in a log. */
export async function withBar<T>(
  session: Session,
  title: string,
  total_bytes: number,
  work: (show: (fraction: number) => void) => Promise<T>,
): Promise<T> {
  const progress = startProgress(session);
  const live = session.io.stderr.isTTY === true;
  const began_ms = Date.now();
  const show = (fraction: number): void => {
    const amount = { done_bytes: Math.round(fraction * total_bytes), total_bytes };
    const text = live ? `${title}: ${amountText(amount, Date.now() - began_ms)}` : title;
    progress.update([{ key: 'transfer', state: 'busy', text }]);
  };
  show(0);
  try {
    return await work(show);
  } finally {
    progress.end({ wipe: true });
  }
}

function tellHowToUse(session: Session, made: readonly VolumeView[]): void {
  const loose = made.filter(({ configured }) => !configured);
  if (loose.length === 0) return;
  session.say('To give it to a machine, add to the configuration and apply:');
  session.say(snippet(loose));
}

/** What the configuration would say of volumes that are there. */
export function snippet(volumes: readonly { pool: string; name: string; size_bytes: number }[]): string {
  const lines = volumes.map(
    ({ pool, name, size_bytes: size }) => `  ${name}: { pool: ${pool}, size: ${sizeWord(size)} }`,
  );
  return ['volume:', ...lines].join('\n');
}

/** Exact, in the largest unit that divides it. */
function sizeWord(size: number): string {
  const units = [
    ['TiB', 2 ** 40],
    ['GiB', 2 ** 30],
    ['MiB', 2 ** 20],
    ['KiB', 2 ** 10],
  ] as const;
  const [unit, unit_bytes] = units.find(([, one]) => size % one === 0) ?? ['B', 1];
  return `${size / unit_bytes}${unit}`;
}
