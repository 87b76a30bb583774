/** `weft pool top`: why a pool is full. What each volume holds itself, and what each snapshot holds alone, the largest first. */
import type { Command } from 'commander';
import { SnapshotPage, VolumePage, type VolumeRow } from '../../control/api/contract.js';
import type { Client } from '../client.js';
import { formatBytes, formatJson, outputOption, type OutputForm } from '../format.js';
import { rowsOf } from '../pages.js';
import type { Session } from '../session.js';
import { volumePath } from '../storage/names.js';
import { formatTable } from '../table.js';

/** Volumes whose snapshots are looked at: those that hold most. */
const LOOKED_AT = 200;

export interface TopRow {
  name: string;
  kind: 'volume' | 'snapshot';
  allocated_bytes: number;
  /** By which it can be had back, or null: it is in use. */
  remove: string | null;
}

export function registerTop(
  group: Command,
  session: Session,
  /** Rejects where there is no such pool. */
  require: (session: Session, command: Command, pool: string) => Promise<unknown>,
): void {
  group
    .command('top')
    .description('why a pool is full: the volumes and snapshots that hold most, and which nobody uses')
    .argument('<pool>', 'name of a pool')
    .option('--limit <count>', 'so many rows', Number, 20)
    .addOption(outputOption(['table', 'json']))
    .action(async (pool: string, options: { limit: number; output: OutputForm }, command: Command) => {
      await require(session, command, pool);
      const client = session.client(command);
      const query = { pool };
      const volumes = await rowsOf(client, '/v1/volumes', VolumePage, page => page.volumes, { query });
      const rows = (await topOf(client, volumes)).slice(0, options.limit);
      if (options.output === 'json') return session.print(formatJson({ rows }));
      if (rows.length === 0) return session.say(`Pool ${pool} holds no volumes.`);
      const cells = rows.map(row => [row.name, formatBytes(row.allocated_bytes), row.remove ?? 'in use']);
      session.printAll(formatTable(['HOLDS', 'ALONE', 'REMOVED BY'], cells, session.out));
    });
}

async function topOf(client: Client, volumes: readonly VolumeRow[]): Promise<TopRow[]> {
  const largest = volumes.toSorted((a, b) => b.allocated_bytes - a.allocated_bytes);
  const rows: TopRow[] = [];
  for (const [index, volume] of largest.entries()) {
    const name = `${volume.pool}/${volume.name}`;
    const path = volumePath({ pool: volume.pool, volume: volume.name }, '/snapshots');
    const hasSnapshots = (volume.snapshotCount ?? 0) > 0;
    const snapshots =
      hasSnapshots && index < LOOKED_AT
        ? await rowsOf(client, path, SnapshotPage, page => page.snapshots)
        : [];
    for (const { name: snapshot, allocated_bytes, clones } of snapshots) {
      const taken = `${name}@${snapshot}`;
      rows.push({
        name: taken,
        kind: 'snapshot',
        allocated_bytes,
        // What clones share stays with them.
        remove: clones.length > 0 ? null : `weft volume delete-snapshot ${taken}`,
      });
    }
    const others_bytes = snapshots.reduce((sum, one) => sum + one.allocated_bytes, 0);
    const isUsed = volume.configured || volume.usedBy.length > 0;
    rows.push({
      name,
      kind: 'volume',
      allocated_bytes: Math.max(0, volume.allocated_bytes - others_bytes),
      remove: isUsed
        ? null
        : `weft volume delete ${name} --destroy-data${hasSnapshots ? ' --snapshots' : ''}`,
    });
  }
  return rows.toSorted((a, b) => b.allocated_bytes - a.allocated_bytes);
}
