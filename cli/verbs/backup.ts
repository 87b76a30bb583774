/**
 * `weft backup …`: volumes into a directory (full the first time, then what changed) or onto another NBD server, and back.
 * The plane reads and writes the directory, as its own user: it is named absolutely, on the host where weft runs.
 */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { InvalidArgumentError, type Command } from 'commander';
import { z } from 'zod';
import { Resource, VolumeView, storage } from '../../control/api/contract.js';
import type { Client } from '../client.js';
import { ApiError, CliError, UsageError } from '../errors.js';
import { formatAge, formatBytes, formatJson, formatYaml, outputOption, type OutputForm } from '../format.js';
import { resourcePath, type Register } from '../resources.js';
import type { Session } from '../session.js';
import { runJobs } from '../storage/jobs.js';
import {
  backupTarget,
  parseTarget,
  parseVolume,
  rate_bytes_per_s,
  timedName,
  volumePath,
  type VolumeName,
} from '../storage/names.js';
import { formatTable } from '../table.js';

const Backups = z.object({ backups: z.array(storage.BackupEntry) });
const Snapshots = z.object({ snapshots: z.array(storage.SnapshotStatus) });
const DEADLINE_MS = 70_000;

interface CreateOptions {
  to: string;
  all?: string;
  full: boolean;
  plaintext: boolean;
  keep?: number;
  keepDays?: number;
  rate?: number;
  wait: boolean;
  output: OutputForm;
}

export const registerBackup: Register = (program, session) => {
  const group = program.command('backup').description('volumes into safety, and back');
  registerCreate(group, session);
  registerBackupList(group, session);
  registerRestore(group, session);
  registerVerify(group, session);
  registerPrune(group, session);
};

function registerCreate(group: Command, session: Session): void {
  group
    .command('create')
    .description('back up volumes: all of them the first time, then what has changed')
    .argument('[volume...]', 'as POOL/VOLUME, as it is now, or POOL/VOLUME@SNAPSHOT')
    .requiredOption(
      '--to <dir>',
      'a directory, nbd://HOST:PORT/NAME (nbds: with TLS), or nbd+unix:///NAME?socket=PATH',
    )
    .option('--all <machine>', 'all disks of this machine, at one instant')
    .option('--full', 'all of it, though an earlier backup is there', false)
    .option('--plaintext', 'of an encrypted volume: decrypted, readable without its key', false)
    .option('--keep <count>', 'afterwards remove all but so many of the newest', whole)
    .option('--keep-days <days>', 'afterwards remove what is older, and not needed by what stays', whole)
    .option('--rate <rate>', 'at most so much each second: 50MiB', rate_bytes_per_s)
    .option('--no-wait', 'do not wait for its end')
    .addOption(outputOption(['table', 'json']))
    .action(async (targets: string[], options: CreateOptions, command: Command) => {
      const client = session.client(command);
      const wanted = await sources(client, targets, options.all);
      const target = backupTarget(options.to, {
        resolve: path => resolve(session.io.cwd, path),
        isThere: existsSync,
      });
      if ('server' in target && wanted.length > 1)
        throw new UsageError('an export of another server takes one volume', 'Back up one at a time.');
      const rate = options.rate === undefined ? {} : { rate_bytes_per_s: options.rate };
      const keep = keepOf(options);
      if ('server' in target && keep !== null)
        throw new UsageError(
          'an export of another server has one backup',
          'Leave --keep and --keep-days out.',
        );
      const requests = wanted.map(one => ({
        kind: 'backup' as const,
        ...one,
        target,
        full: options.full,
        ...(options.plaintext ? { plaintext: true } : {}),
        ...(keep === null ? {} : { keep }),
        ...rate,
      }));
      await runJobs(session, client, requests, options);
    });
}

/**
 * Several without a snapshot of their own get one of the same instant, labelled as those that backups make for themselves: it
 * goes when no backup builds upon it any more.
 */
async function sources(
  client: Client,
  targets: readonly string[],
  machine: string | undefined,
): Promise<(VolumeName & { snapshot?: string })[]> {
  if (targets.length === 0 && machine === undefined)
    throw new UsageError('of which volumes?', 'Say POOL/VOLUME..., or --all MACHINE.');
  const named = targets.map(parseTarget);
  const now = named.filter(({ snapshot }) => snapshot === undefined);
  if (machine !== undefined) now.push(...(await disksOf(client, machine)));
  if (now.length < 2) return [...named.filter(({ snapshot }) => snapshot !== undefined), ...now];
  const snapshot = timedName('backup', Date.now());
  const volumes = [
    ...new Map(now.map(({ pool, volume }) => [`${pool}/${volume}`, { pool, volume }])).values(),
  ];
  await client.call('POST', '/v1/snapshots', Snapshots, {
    body: { name: snapshot, volumes, labels: { 'weft.backup': 'made' } },
    deadline_ms: DEADLINE_MS,
  });
  return [
    ...named.filter(one => one.snapshot !== undefined),
    ...volumes.map(volume => ({ ...volume, snapshot })),
  ];
}

async function disksOf(client: Client, machine: string): Promise<VolumeName[]> {
  const { spec } = await client.call('GET', resourcePath('machine', machine), Resource);
  const { disks } = z.object({ disks: z.array(z.object({ volume: z.string() })).default([]) }).parse(spec);
  const found: VolumeName[] = [];
  for (const { volume } of disks) {
    const { spec: of } = await client.call('GET', resourcePath('volume', volume), Resource);
    found.push({ pool: z.object({ pool: z.string() }).parse(of).pool, volume });
  }
  if (found.length === 0) throw new CliError('NO_DISKS', `machine ${machine} has no disks`);
  return found;
}

function registerBackupList(group: Command, session: Session): void {
  group
    .command('list')
    .alias('ls')
    .description('list the backups in a directory')
    .argument('<dir>', 'where they were put')
    .addOption(outputOption(['table', 'yaml', 'json']))
    .action(async (text: string, options: { output: OutputForm }, command: Command) => {
      const directory = resolve(session.io.cwd, text);
      const reply = await listBackups(session.client(command), directory);
      if (options.output === 'json') return session.print(formatJson(reply));
      if (options.output === 'yaml') return session.print(formatYaml(reply));
      if (reply.backups.length === 0) return session.say(`There are no backups in ${directory}.`);
      const now_ms = Date.now();
      const rows = reply.backups.map(one => [
        one.volume,
        one.name,
        one.state === 'whole'
          ? `${one.kind}${one.encrypted ? ', encrypted' : ''}`
          : { text: 'incomplete', paint: session.out.yellow },
        one.base ?? '-',
        formatAge(now_ms - one.createdAt_ms),
        formatBytes(one.size_bytes),
        formatBytes(one.stored_bytes),
      ]);
      session.printAll(
        formatTable(['VOLUME', 'BACKUP', 'KIND', 'BASE', 'AGE', 'SIZE', 'STORED'], rows, session.out),
      );
    });
}

function listBackups(client: Client, directory: string): Promise<z.infer<typeof Backups>> {
  return client.call('GET', '/v1/backups', Backups, { query: { directory }, deadline_ms: DEADLINE_MS });
}

interface RestoreOptions {
  from: string;
  volume?: string;
  backup?: string;
  overwrite: boolean;
  rate?: number;
  wait: boolean;
  output: OutputForm;
}

function registerRestore(group: Command, session: Session): void {
  group
    .command('restore')
    .description('make a volume what a backup of it is; one that is not there is made')
    .argument('<volume>', 'as POOL/VOLUME')
    .requiredOption('--from <dir>', 'where the backups are')
    .option('--volume <name>', 'that was backed up; default: the same name')
    .option('--backup <name>', 'which one; default: the newest')
    .option('--overwrite', 'replace what is in a volume that is there already', false)
    .option('--rate <rate>', 'at most so much each second: 50MiB', rate_bytes_per_s)
    .option('--no-wait', 'do not wait for its end')
    .addOption(outputOption(['table', 'json']))
    .action(async (target: string, options: RestoreOptions, command: Command) => {
      const to = parseVolume(target);
      const client = session.client(command);
      const directory = resolve(session.io.cwd, options.from);
      const sourceVolume = options.volume ?? to.volume;
      const { backups } = await listBackups(client, directory);
      const all = backups.filter(({ volume, state }) => volume === sourceVolume && state === 'whole');
      // They come in the order in which they were made, whatever the clock said then.
      const chosen =
        options.backup === undefined ? all.at(-1) : all.find(({ name }) => name === options.backup);
      if (chosen === undefined)
        throw new CliError(
          'BACKUP_UNKNOWN',
          `there is no backup ${options.backup ?? ''} of volume ${sourceVolume} in ${directory}`,
          {
            hint: `"weft backup list ${options.from}" lists those there are; --volume NAME chooses another.`,
          },
        );
      await makeTarget(client, to, chosen, options.overwrite);
      const request = {
        kind: 'restore' as const,
        ...to,
        source: { directory },
        sourceVolume,
        backup: chosen.name,
        overwrite: options.overwrite,
        ...(options.rate === undefined ? {} : { rate_bytes_per_s: options.rate }),
      };
      await runJobs(session, client, [request], options);
    });
}

async function makeTarget(
  client: Client,
  to: VolumeName,
  { size_bytes }: storage.BackupEntry,
  overwrite: boolean,
): Promise<void> {
  const there = await client.call('GET', volumePath(to), VolumeView).catch((error: unknown) => {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  });
  if (there === null) {
    await client.call('PUT', volumePath(to), storage.VolumeStatus, { body: { size_bytes } });
    return;
  }
  if (!overwrite)
    throw new UsageError(
      `volume ${to.pool}/${to.volume} is there already`,
      'Say --overwrite if what is in it may go, or choose another name.',
    );
}

function registerVerify(group: Command, session: Session): void {
  group
    .command('verify')
    .description('read a backup and compare its checksums')
    .argument('<dir>', 'where the backups are')
    .option('--volume <name>', 'that was backed up; default: all')
    .option('--backup <name>', 'this one, with what it builds upon; default: all')
    .option('--rate <rate>', 'at most so much each second: 50MiB', rate_bytes_per_s)
    .option('--no-wait', 'do not wait for its end')
    .addOption(outputOption(['table', 'json']))
    .action(
      async (
        text: string,
        options: { volume?: string; backup?: string; rate?: number; wait: boolean; output: OutputForm },
        command: Command,
      ) => {
        const client = session.client(command);
        const directory = resolve(session.io.cwd, text);
        const { backups } = await listBackups(client, directory);
        const volumes = new Set(backups.filter(({ state }) => state === 'whole').map(({ volume }) => volume));
        const wanted = [...volumes].filter(one => options.volume === undefined || one === options.volume);
        if (wanted.length === 0)
          throw new CliError('BACKUP_UNKNOWN', `there is no backup to verify in ${directory}`);
        if (options.backup !== undefined && wanted.length > 1)
          throw new UsageError('--backup is of one volume', 'Say which with --volume NAME.');
        const requests = wanted.map(sourceVolume => ({
          kind: 'verify' as const,
          source: { directory },
          sourceVolume,
          ...(options.backup === undefined ? {} : { backup: options.backup }),
          ...(options.rate === undefined ? {} : { rate_bytes_per_s: options.rate }),
        }));
        await runJobs(session, client, requests, options);
      },
    );
}

function registerPrune(group: Command, session: Session): void {
  group
    .command('prune')
    .description('remove old backups; never one that a kept one builds upon')
    .argument('<dir>', 'where the backups are')
    .option('--volume <name>', 'that was backed up; default: all')
    .option('--keep <count>', 'so many of the newest stay', whole)
    .option('--keep-days <days>', 'what is not older stays', whole)
    .option('--no-wait', 'do not wait for its end')
    .addOption(outputOption(['table', 'json']))
    .action(
      async (
        text: string,
        options: Keeping & { volume?: string; wait: boolean; output: OutputForm },
        command: Command,
      ) => {
        const keep = keepOf(options);
        if (keep === null)
          throw new UsageError('which are to stay?', 'Say --keep COUNT, --keep-days DAYS, or both.');
        const request = {
          kind: 'prune' as const,
          source: { directory: resolve(session.io.cwd, text) },
          ...(options.volume === undefined ? {} : { sourceVolume: options.volume }),
          keep,
        };
        await runJobs(session, session.client(command), [request], options);
      },
    );
}

interface Keeping {
  keep?: number;
  keepDays?: number;
}

const DAY_MS = 86_400_000;

/** null: nothing is said of it. */
function keepOf({ keep, keepDays }: Keeping): { last?: number; age_ms?: number } | null {
  if (keep === undefined && keepDays === undefined) return null;
  return {
    ...(keep === undefined ? {} : { last: keep }),
    ...(keepDays === undefined ? {} : { age_ms: keepDays * DAY_MS }),
  };
}

function whole(text: string): number {
  const number = Number(text);
  if (!/^[1-9][0-9]{0,3}$/.test(text)) throw new InvalidArgumentError('it is a number from 1 to 9999.');
  return number;
}
