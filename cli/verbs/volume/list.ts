/** `weft volume list`, `show` and `snapshots`: what lies in the pools. */
import type { Command } from 'commander';
import { z } from 'zod';
import { VolumeRow, VolumeView } from '../../../control/api/contract.js';
import {
  formatAge,
  formatBytes,
  formatJson,
  formatYaml,
  outputOption,
  type OutputForm,
} from '../../format.js';
import type { Session } from '../../session.js';
import { parseVolume, volumePath } from '../../storage/names.js';
import { formatFields, formatTable } from '../../table.js';

const Volumes = z.object({ volumes: z.array(VolumeRow) });

export const labelText = (labels: Readonly<Record<string, string>> | undefined): string =>
  Object.entries(labels ?? {})
    .map(([key, value]) => `${key}=${value}`)
    .join(',') || '-';

export function registerList(group: Command, session: Session): void {
  group
    .command('list')
    .alias('ls')
    .description('list all volumes, those that no resource names too')
    .addOption(outputOption(['table', 'wide', 'yaml', 'json']))
    .action(async (options: { output: OutputForm }, command: Command) => {
      const reply = await session.client(command).call('GET', '/v1/volumes', Volumes);
      if (options.output === 'json') return session.print(formatJson(reply));
      if (options.output === 'yaml') return session.print(formatYaml(reply));
      const style = session.out;
      const wide = options.output === 'wide';
      const rows = reply.volumes
        .toSorted((a, b) => (`${a.pool}/${a.name}` < `${b.pool}/${b.name}` ? -1 : 1))
        .map(row => [
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
      if ((volume.snapshots?.length ?? 0) > 0) session.printAll(['', ...snapshotLines(session, volume)]);
    });
}

export function registerSnapshots(group: Command, session: Session): void {
  group
    .command('snapshots')
    .description('list the snapshots of a volume, the oldest first')
    .argument('<volume>', 'as POOL/VOLUME')
    .addOption(outputOption(['table', 'yaml', 'json']))
    .action(async (target: string, options: { output: OutputForm }, command: Command) => {
      const { snapshots = [], ...volume } = await askVolume(session, command, target);
      if (options.output === 'json') return session.print(formatJson({ snapshots }));
      if (options.output === 'yaml') return session.print(formatYaml({ snapshots }));
      if (snapshots.length === 0) return session.say(`${target} has no snapshots.`);
      session.printAll(snapshotLines(session, { ...volume, snapshots }));
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
