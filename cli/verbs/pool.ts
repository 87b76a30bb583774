/** `weft pool …`: where volumes lie, how full it is there, and whether everything in it is whole. */
import type { Command } from 'commander';
import { z } from 'zod';
import { PoolExports, storage } from '../../control/api/contract.js';
import { CliError, nearest } from '../errors.js';
import { formatBytes, formatJson, formatYaml, outputOption, type OutputForm } from '../format.js';
import type { Register } from '../resources.js';
import type { Session } from '../session.js';
import { runJobs } from '../storage/jobs.js';
import { parseVolume, rate_bytes_per_s } from '../storage/names.js';
import { formatFields, formatTable } from '../table.js';
import { registerTop } from './poolTop.js';

const Pools = z.object({ pools: z.array(storage.PoolStatus) });
const REPAIR_DEADLINE_MS = 60_000;

export const registerPool: Register = (program, session) => {
  const group = program.command('pool').description('where volumes lie');

  group
    .command('list')
    .alias('ls')
    .description('list pools: how full they are, and how much is promised of them')
    .addOption(outputOption(['table', 'yaml', 'json']))
    .action(async (options: { output: OutputForm }, command: Command) => {
      const reply = await session.client(command).call('GET', '/v1/pools', Pools);
      if (options.output === 'json') return session.print(formatJson(reply));
      if (options.output === 'yaml') return session.print(formatYaml(reply));
      const style = session.out;
      const rows = reply.pools.map(pool => [
        pool.name,
        pool.kind ?? 'directory',
        {
          text: pool.state,
          paint: pool.state === 'open' ? style.green : pool.state === 'low' ? style.yellow : style.red,
        },
        String(pool.volumeCount),
        formatBytes(pool.capacity_bytes),
        formatBytes(pool.free_bytes),
        formatBytes(pool.allocated_bytes),
        overcommit(pool),
        pool.reason ?? (pool.problems?.length ? `${pool.problems.length} problems: weft pool show` : ''),
      ]);
      const headers = ['POOL', 'KIND', 'STATE', 'VOLUMES', 'CAPACITY', 'FREE', 'ALLOCATED', 'PROMISED'];
      session.printAll(formatTable([...headers, 'MESSAGE'], rows, style));
    });

  group
    .command('show')
    .description('say everything about one pool, what is wrong with it too')
    .argument('<pool>', 'name of a pool')
    .addOption(outputOption(['table', 'yaml', 'json']))
    .action(async (name: string, options: { output: OutputForm }, command: Command) => {
      const pool = await askPool(session, command, name);
      if (options.output === 'json') return session.print(formatJson(pool));
      if (options.output === 'yaml') return session.print(formatYaml(pool));
      session.printAll(
        formatFields([
          ['Pool', pool.name],
          ['Kind', pool.kind ?? 'directory'],
          ['Place', pool.directory],
          ['State', [pool.state, pool.reason].filter(Boolean).join(': ')],
          ['Capacity', formatBytes(pool.capacity_bytes)],
          ['Free', formatBytes(pool.free_bytes)],
          ['Allocated', formatBytes(pool.allocated_bytes)],
          ['Promised', `${formatBytes(pool.provisioned_bytes)} (${overcommit(pool)} of the capacity)`],
          ['Volumes', String(pool.volumeCount)],
          ['Problems', (pool.problems ?? []).join('\n') || 'none'],
        ]),
      );
    });

  registerTop(group, session, askPool);

  group
    .command('exports')
    .description('ask the NBD server behind a pool of kind remote what it offers')
    .argument('<pool>', 'name of a pool')
    .addOption(outputOption(['table', 'yaml', 'json']))
    .action(async (name: string, options: { output: OutputForm }, command: Command) => {
      await askPool(session, command, name);
      const path = `/v1/pools/${encodeURIComponent(name)}/exports`;
      const reply = await session.client(command).call('GET', path, PoolExports);
      if (options.output === 'json') return session.print(formatJson(reply));
      if (options.output === 'yaml') return session.print(formatYaml(reply));
      if (reply.exports.length === 0) session.say('It offers nothing by name.');
      else {
        const rows = reply.exports.map(one => [
          one.name === '' ? '""' : one.name,
          one.size_bytes === null ? '-' : formatBytes(one.size_bytes),
          one.readOnly === null ? '-' : one.readOnly ? 'read-only' : 'read-write',
          one.volume ?? '-',
          one.reason ?? one.description,
        ]);
        const headers = ['EXPORT', 'SIZE', 'ACCESS', 'VOLUME', 'MESSAGE'];
        session.printAll(formatTable(headers, rows, session.out));
      }
      if (reply.isCut) session.say('There are more, or some with names that are no UTF-8.');
    });

  group
    .command('scrub')
    .description('read all that is there and compare checksums; what is damaged is told')
    .argument('<pool>', 'name of a pool; or POOL/VOLUME')
    .option('--rate <rate>', 'at most so much each second: 50MiB', rate_bytes_per_s)
    .option('--no-wait', 'do not wait for its end')
    .addOption(outputOption(['table', 'json']))
    .action(
      async (
        name: string,
        options: { rate?: number; wait: boolean; output: OutputForm },
        command: Command,
      ) => {
        const what = name.includes('/') ? parseVolume(name) : { pool: name };
        if (!name.includes('/')) await askPool(session, command, name);
        const rate = options.rate === undefined ? {} : { rate_bytes_per_s: options.rate };
        await runJobs(session, session.client(command), [{ kind: 'scrub', ...what, ...rate }], options);
      },
    );

  group
    .command('repair')
    .description('write the catalogue of a damaged pool anew, from what can be found; no data is removed')
    .argument('<pool>', 'name of a pool')
    .option('--dry-run', 'only say what is wrong, and what would be done', false)
    .option('--new-identity', "the directory is a copy of another pool's: make it a pool of its own", false)
    .addOption(outputOption(['table', 'json']))
    .action(
      async (
        name: string,
        options: { dryRun: boolean; newIdentity: boolean; output: OutputForm },
        command: Command,
      ) => {
        const { dryRun, newIdentity } = options;
        await askPool(session, command, name);
        const path = `/v1/pools/${encodeURIComponent(name)}/repair`;
        const client = session.client(command);
        const report = await client.call('POST', path, storage.RepairReport, {
          body: { dryRun, newIdentity },
          deadline_ms: REPAIR_DEADLINE_MS,
        });
        if (options.output === 'json') return session.print(formatJson(report));
        if (report.actions.length === 0)
          return session.print(
            `${[...report.found, `pool ${name}: there is nothing to repair`].join('\n')}\n`,
          );
        const done = dryRun ? 'would be done' : 'done';
        session.print(`${[...report.found, ...report.actions.map(what => `${done}: ${what}`)].join('\n')}\n`);
      },
    );
};

async function askPool(session: Session, command: Command, name: string): Promise<storage.PoolStatus> {
  const { pools } = await session.client(command).call('GET', '/v1/pools', Pools);
  const pool = pools.find(one => one.name === name);
  if (pool !== undefined) return pool;
  const near = nearest(
    name,
    pools.map(one => one.name),
  );
  throw new CliError(
    'NOT_FOUND',
    `there is no pool "${name}"${near === undefined ? '' : `; did you mean "${near}"?`}`,
    {
      hint: '"weft pool list" lists those there are.',
    },
  );
}

function overcommit({ provisioned_bytes, capacity_bytes }: storage.PoolStatus): string {
  return capacity_bytes === 0 ? '-' : `${Math.round((provisioned_bytes / capacity_bytes) * 100)}%`;
}
