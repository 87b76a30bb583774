/** `weft volume clone`, `resize`, `rename`, `flatten`, `delete`: of volumes that no resource names, but flatten. */
import type { Command } from 'commander';
import { z } from 'zod';
import { VolumeView, storage } from '../../../control/api/contract.js';
import { UsageError } from '../../errors.js';
import { formatBytes, formatJson, outputOption, type OutputForm } from '../../format.js';
import { withProgress } from '../../progress.js';
import type { Session } from '../../session.js';
import { runJobs } from '../../storage/jobs.js';
import {
  label,
  parseTarget,
  parseVolume,
  rate_bytes_per_s,
  size_bytes,
  volumePath,
} from '../../storage/names.js';
import { snippet } from './import.js';

const Deleted = z.object({ deleted: z.literal(true) });
const DEADLINE_MS = 70_000;

export function registerClone(group: Command, session: Session): void {
  group
    .command('clone')
    .description('make a volume that begins as another one, or a snapshot of it; takes no time and no space')
    .argument('<volume>', 'as POOL/VOLUME, as it is now, or POOL/VOLUME@SNAPSHOT')
    .argument('<new-name>', 'of the clone, in the same pool')
    .option('--label <key=value>', 'to find it by; may be said many times', label, {})
    .addOption(outputOption(['table', 'json']))
    .action(
      async (
        target: string,
        name: string,
        options: { label: Record<string, string>; output: OutputForm },
        command: Command,
      ) => {
        const { snapshot, ...source } = parseTarget(target);
        const client = session.client(command);
        const to = cloneName(name, source.pool);
        const { size_bytes: now_bytes, snapshots = [] } = await client.call(
          'GET',
          volumePath(source),
          VolumeView,
        );
        const size = snapshots.find(one => one.name === snapshot)?.size_bytes ?? now_bytes;
        const from = { volume: source.volume, ...(snapshot === undefined ? {} : { snapshot }) };
        // PUT of what is there already would be no change, and no clone.
        const taken = await client
          .call('GET', volumePath(to), VolumeView)
          .then(() => true)
          .catch(() => false);
        if (taken) throw new UsageError(`volume ${to.pool}/${to.volume} is there already`);
        const made = await withProgress(session, `Cloning ${target}`, () =>
          client.call('PUT', volumePath(to), storage.VolumeStatus, {
            body: { size_bytes: size, from, labels: options.label },
            deadline_ms: DEADLINE_MS,
          }),
        );
        if (options.output === 'json') return session.print(formatJson(made));
        session.print(`volume ${made.pool}/${made.name} is a clone of ${target}.`);
        session.say('To give it to a machine, add to the configuration and apply:');
        session.say(snippet([made]));
      },
    );
}

/** `NAME` or `POOL/NAME`, of the pool that the source is in. */
function cloneName(name: string, pool: string): { pool: string; volume: string } {
  const to = name.includes('/') ? parseVolume(name) : { pool, volume: name };
  if (to.pool !== pool)
    throw new UsageError(
      `a clone shares what its source has, so it is in pool ${pool} too`,
      'To have a copy elsewhere: weft volume export, then weft volume import.',
    );
  return to;
}

export function registerResize(group: Command, session: Session): void {
  group
    .command('resize')
    .description('change the size of a volume that no resource names; growing is done while it is in use')
    .argument('<volume>', 'as POOL/VOLUME')
    .argument('<size>', 'as 20GiB')
    .option('--shrink', 'say that what lies behind a smaller size may go; there is no way back', false)
    .action(async (target: string, text: string, options: { shrink: boolean }, command: Command) => {
      const size = size_bytes(text);
      const made = await session
        .client(command)
        .call('PUT', volumePath(parseVolume(target)), storage.VolumeStatus, {
          body: { size_bytes: size, shrink: options.shrink },
          deadline_ms: DEADLINE_MS,
        });
      session.print(`volume ${target} has ${formatBytes(made.size_bytes)}.`);
    });
}

export function registerRename(group: Command, session: Session): void {
  group
    .command('rename')
    .description('give a volume that no resource names another name')
    .argument('<volume>', 'as POOL/VOLUME')
    .argument('<new-name>', 'in the same pool')
    .action(async (target: string, name: string, _options: unknown, command: Command) => {
      const volume = parseVolume(target);
      const to = name.startsWith(`${volume.pool}/`) ? name.slice(volume.pool.length + 1) : name;
      if (to.includes('/')) throw new UsageError(`a volume stays in its pool: ${volume.pool}`);
      await session.client(command).call('POST', volumePath(volume, '/rename'), storage.VolumeStatus, {
        body: { to },
      });
      session.print(`volume ${target} is now ${volume.pool}/${to}.`);
    });
}

export function registerFlatten(group: Command, session: Session): void {
  group
    .command('flatten')
    .description('copy into a clone what it shares, so that it needs its source no more')
    .argument('<volume>', 'as POOL/VOLUME')
    .option('--rate <rate>', 'at most so much each second: 50MiB', rate_bytes_per_s)
    .option('--no-wait', 'do not wait for its end')
    .addOption(outputOption(['table', 'json']))
    .action(
      async (
        target: string,
        options: { rate?: number; wait: boolean; output: OutputForm },
        command: Command,
      ) => {
        const rate = options.rate === undefined ? {} : { rate_bytes_per_s: options.rate };
        const request = { kind: 'flatten' as const, ...parseVolume(target), ...rate };
        await runJobs(session, session.client(command), [request], options);
      },
    );
}

export function registerDelete(group: Command, session: Session): void {
  group
    .command('delete')
    .description('destroy a volume that no resource names, with its data')
    .argument('<volume>', 'as POOL/VOLUME')
    .option('--destroy-data', 'say that its data may go; there is no way back', false)
    .option('--snapshots', 'its snapshots too', false)
    .action(
      async (target: string, options: { destroyData: boolean; snapshots: boolean }, command: Command) => {
        const volume = parseVolume(target);
        if (!options.destroyData)
          throw new UsageError(
            `this would destroy volume ${target} and all data in it`,
            `If that is meant: weft volume delete ${target} --destroy-data`,
          );
        await session.client(command).call('DELETE', volumePath(volume), Deleted, {
          query: options.snapshots ? { snapshots: true } : {},
          deadline_ms: DEADLINE_MS,
        });
        session.print(`volume ${target} destroyed.`);
      },
    );
}
