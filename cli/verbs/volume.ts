import { z } from 'zod';
import { VolumeRow } from '../../control/api/contract.js';
import { UsageError } from '../errors.js';
import { formatBytes, formatJson, formatYaml, outputOption, type OutputForm } from '../format.js';
import type { Register } from '../resources.js';
import { formatTable } from '../table.js';

const Volumes = z.object({ volumes: z.array(VolumeRow) });
const Deleted = z.object({ deleted: z.literal(true) });

export const registerVolume: Register = (program, session) => {
  const volume = program.command('volume').description('what lies in the pools, configured or not');

  volume
    .command('list')
    .alias('ls')
    .description('list all volumes, those that no resource names too')
    .addOption(outputOption(['table', 'yaml', 'json']))
    .action(async (options: { output: OutputForm }, command) => {
      const reply = await session.client(command).call('GET', '/v1/volumes', Volumes);
      if (options.output === 'json') return session.print(formatJson(reply));
      if (options.output === 'yaml') return session.print(formatYaml(reply));
      const style = session.out;
      const rows = reply.volumes
        .toSorted((a, b) => (`${a.pool}/${a.name}` < `${b.pool}/${b.name}` ? -1 : 1))
        .map(row => [
          `${row.pool}/${row.name}`,
          formatBytes(row.size_bytes),
          formatBytes(row.allocated_bytes),
          { text: row.state, paint: row.state === 'ok' ? style.green : style.red },
          row.configured ? 'yes' : 'no',
          row.usedBy.join(',') || '-',
          row.reason ?? '',
        ]);
      session.printAll(
        formatTable(
          ['VOLUME', 'SIZE', 'ALLOCATED', 'STATE', 'CONFIGURED', 'USED BY', 'MESSAGE'],
          rows,
          style,
        ),
      );
    });

  volume
    .command('delete')
    .description('destroy a volume that no resource names, with its data')
    .argument('<volume>', 'as POOL/VOLUME')
    .option('--destroy-data', 'say that its data may go; there is no way back', false)
    .action(async (target: string, options: { destroyData: boolean }, command) => {
      const [pool = '', name = '', ...rest] = target.split('/');
      if (pool === '' || name === '' || rest.length > 0) {
        throw new UsageError(
          `"${target}" does not name a volume`,
          'Say POOL/VOLUME, as "weft volume list" shows them.',
        );
      }
      if (!options.destroyData) {
        throw new UsageError(
          `this would destroy volume ${target} and all data in it`,
          `If that is meant: weft volume delete ${target} --destroy-data`,
        );
      }
      await session
        .client(command)
        .call('DELETE', `/v1/volumes/${encodeURIComponent(pool)}/${encodeURIComponent(name)}`, Deleted);
      session.print(`volume ${target} destroyed.`);
    });
};
