/** `weft switch macs`: what a switch has learned. */
import type { Command } from 'commander';
import { z } from 'zod';
import { formatAge, formatJson, outputOption, type OutputForm } from '../../format.js';
import { count } from '../../options.js';
import type { Session } from '../../session.js';
import { formatTable } from '../../table.js';

/** The dataplane's MacTable as weftd passes it on. */
const Macs = z.object({
  entries: z.array(
    z.object({
      mac: z.string(),
      vlan: z.int(),
      port: z.string(),
      age_ms: z.number(),
      isStatic: z.boolean().default(false),
    }),
  ),
});
const Flushed = z.object({ flushed: z.number() });

interface MacOptions {
  flush: boolean;
  port?: string;
  vlan?: number;
  output: OutputForm;
}

export function registerMacs(group: Command, session: Session): void {
  group
    .command('macs')
    .description('list the addresses that a switch has learned')
    .argument('<switch>', 'name of a switch')
    .option('--flush', 'forget them: all, or those of --port or --vlan', false)
    .option('--port <port>', 'only of this port')
    .option('--vlan <vlan>', 'only of this VLAN', count)
    .addOption(outputOption(['table', 'json']))
    .action(async (name: string, options: MacOptions, command) => {
      const client = session.client(command);
      const path = `/v1/switches/${encodeURIComponent(name)}/macs`;
      if (options.flush) {
        const { port, vlan } = options;
        const { flushed } = await client.call('DELETE', path, Flushed, { query: { port, vlan } });
        session.print(`${flushed} forgotten.`);
        return;
      }
      const table = await client.call('GET', path, Macs);
      if (options.output === 'json') return session.print(formatJson(table));
      const isMeant = ({ port, vlan }: { port: string; vlan: number }): boolean =>
        (options.port ?? port) === port && (options.vlan ?? vlan) === vlan;
      const entries = table.entries
        .filter(isMeant)
        .toSorted((a, b) => a.vlan - b.vlan || (a.mac < b.mac ? -1 : 1));
      const rows = entries.map(({ mac, vlan, port, age_ms, isStatic }) => [
        mac,
        String(vlan),
        port === '' ? '(dropped)' : port,
        isStatic ? 'static' : formatAge(age_ms),
      ]);
      session.printAll(formatTable(['MAC', 'VLAN', 'PORT', 'AGE'], rows, session.out));
    });
}
