/** `weft volume list`, `show` and `snapshots`: what lies in the pools. */
import { Option, type Command } from 'commander';
import { SnapshotPage, VolumePage, VolumeView, type VolumeRow } from '../../../control/api/contract.js';
import {
  formatAge,
  formatBytes,
  formatJson,
  formatYaml,
  outputOption,
  type OutputForm,
} from '../../format.js';
import { UsageError } from '../../errors.js';
import { rowsOf } from '../../pages.js';
import type { Session } from '../../session.js';
import { parseVolume, volumePath } from '../../storage/names.js';
import { formatFields, formatTable } from '../../table.js';

export const labelText = (labels: Readonly<Record<string, string>> | undefined): string =>
  Object.entries(labels ?? {})
    .map(([key, value]) => `${key}=${value}`)
    .join(',') || '-';

export function registerList(group: Command, session: Session): void {
  group
    .command('list')
    .alias('ls')
    .description('list all volumes, those that no resource names too')
    .argument('[pattern]', 'only those whose name matches it: POOL/*, web-*, */*-data')
    .option('--pool <pool>', 'only of this pool')
    .option('--labels <selector>', 'only with these labels: env=test, !tmp, env!=test; several with commas')
    .addOption(
      new Option('--sort <by>', 'in which order; of sizes the largest first')
        .choices(['name', 'size', 'used', 'snapshots'])
        .default('name'),
    )
    .addOption(outputOption(['table', 'wide', 'yaml', 'json']))
    .action(async (pattern: string | undefined, options: ListOptions, command: Command) => {
      const query = { ...filterOf(pattern, options.pool), label: options.labels };
      const client = session.client(command);
      const all = await rowsOf(client, '/v1/volumes', VolumePage, page => page.volumes, { query });
      const volumes = sorted(all, options.sort);
      if (options.output === 'json') return session.print(formatJson({ volumes }));
      if (options.output === 'yaml') return session.print(formatYaml({ volumes }));
      if (volumes.length === 0 && (pattern ?? options.pool ?? options.labels) !== undefined)
        return session.say('No volume is like that.');
      const style = session.out;
      const wide = options.output === 'wide';
      const rows = volumes.map(row => [
        `${row.pool}/${row.name}`,
        formatBytes(row.size_bytes),
        formatBytes(row.allocated_bytes),
        { text: row.state, paint: row.state === 'ok' ? style.green : style.red },
        row.snapshotCount === undefined ? '-' : String(row.snapshotCount),
        ...(wide ? [row.parent ?? '-', labelText(row.labels)] : []),
        row.configured ? 'yes' : 'no',
        row.usedBy.join(',') || '-',
        row.reason ?? '',
      ]);
      const more = wide ? ['PARENT', 'LABELS'] : [];
      const headers = ['VOLUME', 'SIZE', 'ALLOCATED', 'STATE', 'SNAPSHOTS', ...more];
      session.printAll(formatTable([...headers, 'CONFIGURED', 'USED BY', 'MESSAGE'], rows, style));
    });
}

interface ListOptions {
  output: OutputForm;
  pool?: string;
  labels?: string;
  sort: 'name' | 'size' | 'used' | 'snapshots';
}

/** `web-*` in any pool, `main/web-*` in one; a pattern of pools cannot be asked for. */
function filterOf(
  pattern: string | undefined,
  pool: string | undefined,
): Record<'pool' | 'name', string | undefined> {
  if (pattern === undefined) return { pool, name: undefined };
  const slash = pattern.indexOf('/');
  if (slash < 0) return { pool, name: pattern };
  const named = pattern.slice(0, slash);
  if (named === '*') return { pool, name: pattern.slice(slash + 1) };
  if (/[*?]/.test(named))
    throw new UsageError(`"${pattern}": a pool is named whole, or by * alone`, 'Say POOL/PATTERN.');
  return { pool: named, name: pattern.slice(slash + 1) };
}

/** By pool and name, or the largest first. */
function sorted(volumes: readonly VolumeRow[], by: ListOptions['sort']): readonly VolumeRow[] {
  if (by === 'name')
    return volumes.toSorted((a, b) => (`${a.pool}/${a.name}` < `${b.pool}/${b.name}` ? -1 : 1));
  const value = (row: VolumeRow): number => {
    if (by === 'size') return row.size_bytes;
    return by === 'used' ? row.allocated_bytes : (row.snapshotCount ?? 0);
  };
  return volumes.toSorted((a, b) => value(b) - value(a));
}

export function registerShow(group: Command, session: Session): void {
  group
    .command('show')
    .description('say everything about one volume, its snapshots too')
    .argument('<volume>', 'as POOL/VOLUME')
    .addOption(outputOption(['table', 'yaml', 'json']))
    .action(async (target: string, options: { output: OutputForm }, command: Command) => {
      const volume = await askVolume(session, command, target);
      if (options.output === 'json') return session.print(formatJson(volume));
      if (options.output === 'yaml') return session.print(formatYaml(volume));
      session.printAll(formatFields(fieldsOf(volume)));
      const { snapshots = [], snapshotCount = snapshots.length } = volume;
      if (snapshots.length > 0) session.printAll(['', ...snapshotLines(session, volume)]);
      if (snapshotCount > snapshots.length)
        session.say(`and ${snapshotCount - snapshots.length} more: weft volume snapshots ${target}`);
    });
}

export function registerSnapshots(group: Command, session: Session): void {
  group
    .command('snapshots')
    .description('list the snapshots of a volume, the oldest first')
    .argument('<volume>', 'as POOL/VOLUME')
    .option('--labels <selector>', 'only with these labels: env=test, !tmp, env!=test; several with commas')
    .addOption(outputOption(['table', 'yaml', 'json']))
    .action(async (target: string, options: { output: OutputForm; labels?: string }, command: Command) => {
      const path = volumePath(parseVolume(target), '/snapshots');
      const query = { label: options.labels };
      const client = session.client(command);
      const snapshots = await rowsOf(client, path, SnapshotPage, page => page.snapshots, { query });
      if (options.output === 'json') return session.print(formatJson({ snapshots }));
      if (options.output === 'yaml') return session.print(formatYaml({ snapshots }));
      if (snapshots.length === 0) return session.say(`${target} has no snapshots.`);
      session.printAll(snapshotLines(session, { snapshots }));
    });
}

function askVolume(session: Session, command: Command, target: string): Promise<VolumeView> {
  return session.client(command).call('GET', volumePath(parseVolume(target)), VolumeView);
}

function fieldsOf(volume: VolumeView): [string, string][] {
  const { mirror, parent } = volume;
  const fields: [string, string][] = [
    ['Volume', `${volume.pool}/${volume.name}`],
    ['UUID', volume.uuid],
    ['State', [volume.state, volume.reason].filter(Boolean).join(': ')],
    ['Size', `${formatBytes(volume.size_bytes)} (${volume.size_bytes} bytes)`],
    ['Allocated', formatBytes(volume.allocated_bytes)],
  ];
  if (volume.quota_bytes !== undefined && volume.quota_bytes !== null)
    fields.push(['Quota', formatBytes(volume.quota_bytes)]);
  fields.push(['Made', new Date(volume.createdAt_ms).toISOString()]);
  if (volume.preallocated === true) fields.push(['Preallocated', 'yes']);
  if (volume.checksums !== undefined) fields.push(['Checksums', volume.checksums ? 'yes' : 'no']);
  if ((volume.checksumErrors ?? 0) > 0)
    fields.push(['Damaged blocks', `${volume.checksumErrors} found since weft-storage began`]);
  if (parent !== undefined && parent !== null)
    fields.push(['Cloned from', `${parent.volume}@${parent.snapshot}`]);
  if (volume.depth !== undefined) fields.push(['Layers', String(volume.depth)]);
  if (mirror !== undefined && mirror !== null) {
    const left = mirror.left_bytes > 0 ? `${formatBytes(mirror.left_bytes)} to copy` : '';
    fields.push(['Mirror', [mirror.state, left, mirror.reason ?? ''].filter(Boolean).join(', ')]);
  }
  const { throttledCount = 0, throttled_ms = 0 } = volume;
  if (throttledCount > 0)
    fields.push([
      'Held back',
      `${throttledCount} requests by its limits, for ${(throttled_ms / 1000).toFixed(1)} s altogether`,
    ]);
  if (volume.movingTo !== null && volume.movingTo !== undefined)
    fields.push(['Moving to', `pool ${volume.movingTo}`]);
  fields.push(['Labels', labelText(volume.labels)]);
  fields.push(['Configured', volume.configured ? 'yes' : 'no']);
  fields.push(['Used by', volume.usedBy.join(', ') || '-']);
  if (volume.runningOn !== null) fields.push(['Running on', `machine ${volume.runningOn}`]);
  return fields;
}

function snapshotLines(session: Session, { snapshots = [] }: Pick<VolumeView, 'snapshots'>): string[] {
  const now_ms = Date.now();
  // As weft-storage lists them: in the order in which they were made, whatever the clock did meanwhile.
  const rows = snapshots.map(one => [
    one.name,
    formatAge(now_ms - one.createdAt_ms),
    formatBytes(one.size_bytes),
    formatBytes(one.allocated_bytes),
    one.clones.join(',') || '-',
    labelText(one.labels),
  ]);
  return formatTable(['SNAPSHOT', 'AGE', 'SIZE', 'ALONE', 'CLONES', 'LABELS'], rows, session.out);
}
