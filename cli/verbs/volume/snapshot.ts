/** `weft volume snapshot`, `delete-snapshot`, `rollback`, `diff`: a volume as it was. */
import type { Command } from 'commander';
import { z } from 'zod';
import { storage } from '../../../control/api/contract.js';
import type { Client } from '../../client.js';
import { UsageError } from '../../errors.js';
import { formatBytes, formatJson, outputOption, type OutputForm } from '../../format.js';
import { withProgress } from '../../progress.js';
import type { Session } from '../../session.js';
import {
  label,
  parseSnapshot,
  parseTarget,
  timedName,
  volumePath,
  type VolumeName,
} from '../../storage/names.js';
import { formatTable } from '../../table.js';

const Snapshots = z.object({ snapshots: z.array(storage.SnapshotStatus) });
const Deleted = z.object({ deleted: z.literal(true) });
const DEADLINE_MS = 70_000;
/** Of `diff` for people; -o json tells all. */
const ROWS_MAX = 1000;

interface SnapshotOptions {
  name?: string;
  machine?: string;
  label: Record<string, string>;
  output: OutputForm;
}

export function registerSnapshot(group: Command, session: Session): void {
  group
    .command('snapshot')
    .description("keep volumes, or all of a machine's disks, as they are at this instant")
    .argument('[volume...]', 'as POOL/VOLUME, or POOL/VOLUME@NAME')
    .option('--name <name>', 'of the snapshots; default: snap- and the time')
    .option('--machine <machine>', 'all disks of this machine, running or not')
    .option('--label <key=value>', 'to find it by; may be said many times', label, {})
    .addOption(outputOption(['table', 'json']))
    .action(async (targets: string[], options: SnapshotOptions, command: Command) => {
      const { name, volumes } = nameOf(targets, options);
      const { machine } = options;
      const reply = await withProgress(session, `Making snapshot ${name}`, () =>
        session.client(command).call('POST', '/v1/snapshots', Snapshots, {
          body: {
            name,
            ...(volumes.length === 0 ? {} : { volumes }),
            ...(machine === undefined ? {} : { machine }),
            labels: options.label,
          },
          deadline_ms: DEADLINE_MS,
        }),
      );
      if (options.output === 'json') return session.print(formatJson(reply));
      const of = [
        ...volumes.map(({ pool, volume }) => `${pool}/${volume}`),
        ...(machine === undefined ? [] : [`machine ${machine}`]),
      ].join(', ');
      session.print(`snapshot ${name} of ${of} made.`);
    });
}

function nameOf(
  targets: readonly string[],
  { name, machine }: SnapshotOptions,
): { name: string; volumes: VolumeName[] } {
  const parsed = targets.map(parseTarget);
  if (parsed.length === 0 && machine === undefined)
    throw new UsageError('of which volumes?', 'Say POOL/VOLUME..., or --machine MACHINE.');
  const names = new Set(parsed.flatMap(({ snapshot }) => (snapshot === undefined ? [] : [snapshot])));
  if (name !== undefined) names.add(name);
  if (names.size > 1)
    throw new UsageError(`snapshots of one instant have one name, not ${[...names].join(' and ')}`);
  const [only = timedName('snap', Date.now())] = names;
  if (!storage.SnapshotName.safeParse(only).success)
    throw new UsageError(
      `"${only}" is no name for a snapshot`,
      'It is 1 to 63 letters, digits, dots, underscores and hyphens, a letter or digit first.',
    );
  return { name: only, volumes: parsed.map(({ pool, volume }) => ({ pool, volume })) };
}

export function registerDeleteSnapshot(group: Command, session: Session): void {
  group
    .command('delete-snapshot')
    .description('delete snapshots; the volume and its other snapshots stay as they are')
    .argument('<snapshot...>', 'as POOL/VOLUME@SNAPSHOT')
    .action(async (targets: string[], _options: unknown, command: Command) => {
      const wanted = targets.map(parseSnapshot);
      const client = session.client(command);
      for (const { snapshot, ...volume } of wanted) {
        const path = volumePath(volume, `/snapshots/${encodeURIComponent(snapshot)}`);
        await client.call('DELETE', path, Deleted, { deadline_ms: DEADLINE_MS });
        session.print(`snapshot ${volume.pool}/${volume.volume}@${snapshot} deleted.`);
      }
    });
}

export function registerRollback(group: Command, session: Session): void {
  group
    .command('rollback')
    .description('make a volume what a snapshot of it is; nothing may be using it')
    .argument('<snapshot>', 'as POOL/VOLUME@SNAPSHOT')
    .option('--discard-changes', 'say that what was written since may go; there is no way back', false)
    .option('--keep-as <name>', 'make a snapshot of it as it is now first')
    .action(
      async (target: string, options: { discardChanges: boolean; keepAs?: string }, command: Command) => {
        const { snapshot, ...volume } = parseSnapshot(target);
        const { keepAs } = options;
        if (!options.discardChanges && keepAs === undefined)
          throw new UsageError(
            `what was written to ${volume.pool}/${volume.volume} after ${snapshot} would be lost`,
            'Say --keep-as NAME to keep it as a snapshot, or --discard-changes if it may go.',
          );
        const client = session.client(command);
        await withProgress(session, `Rolling back to ${target}`, async () => {
          if (keepAs !== undefined)
            await client.call('POST', '/v1/snapshots', Snapshots, {
              body: { name: keepAs, volumes: [volume] },
              deadline_ms: DEADLINE_MS,
            });
          await client.call('POST', volumePath(volume, '/rollback'), storage.VolumeStatus, {
            body: { snapshot },
            deadline_ms: DEADLINE_MS,
          });
        });
        session.print(`volume ${volume.pool}/${volume.volume} is as it was at ${snapshot}.`);
      },
    );
}

export function registerDiff(group: Command, session: Session): void {
  group
    .command('diff')
    .description('what was written between two snapshots, or up to now')
    .argument('<volume>', 'as POOL/VOLUME, as it is now, or POOL/VOLUME@SNAPSHOT')
    .option('--from <snapshot>', 'after this snapshot; default: from the beginning')
    .addOption(outputOption(['table', 'json']))
    .action(async (target: string, options: { from?: string; output: OutputForm }, command: Command) => {
      const { snapshot: to, ...volume } = parseTarget(target);
      const extents = await allExtents(session.client(command), volume, { from: options.from, to });
      if (options.output === 'json') return session.print(formatJson({ extents }));
      const rows = extents
        .slice(0, ROWS_MAX)
        .map(({ offset_bytes, length_bytes, zero }) => [
          String(offset_bytes),
          String(length_bytes),
          zero ? 'zeroed' : 'written',
        ]);
      if (rows.length > 0) session.printAll(formatTable(['OFFSET', 'LENGTH', 'WHAT'], rows, session.out));
      if (extents.length > rows.length)
        session.say(`… and ${extents.length - rows.length} more; -o json tells all.`);
      const sum = (zero: boolean): number =>
        extents.reduce((total, one) => total + (one.zero === zero ? one.length_bytes : 0), 0);
      session.say(`${formatBytes(sum(false))} written, ${formatBytes(sum(true))} zeroed.`);
    });
}

async function allExtents(
  client: Client,
  volume: VolumeName,
  range: { from?: string | undefined; to?: string | undefined },
): Promise<storage.Diff['extents']> {
  const extents: storage.Diff['extents'] = [];
  let offset: number | undefined;
  for (;;) {
    const page = await client.call('GET', volumePath(volume, '/diff'), storage.Diff, {
      query: { ...range, offset },
      deadline_ms: DEADLINE_MS,
    });
    extents.push(...page.extents);
    if (page.next_bytes === null) return extents;
    // A plane that does not get on would keep us here for ever.
    if (page.next_bytes <= (offset ?? -1)) throw new Error(`diff did not advance beyond ${offset}`);
    offset = page.next_bytes;
  }
}
