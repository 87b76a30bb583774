/** `weft switch macs`: what a switch has learned. */
import type { Command } from 'commander';
import { z } from 'zod';
import { formatAge, formatJson, outputOption, type OutputForm } from '../../format.js';
import type { Session } from '../../session.js';
import { formatTable } from '../../table.js';

/** The dataplane's MacTable as weftd passes it on. */
const Macs = z.object({
  entries: z.array(z.object({ mac: z.string(), vlan: z.int(), port: z.string(), age_ms: z.number() })),
});
const Flushed = z.object({ flushed: z.number() });

export function registerMacs(group: Command, session: Session): void {
  group
    .command('macs')
    .description('list the addresses that a switch has learned')
    .argument('<switch>', 'name of a switch')
    .option('--flush', 'forget them all', false)
    .addOption(outputOption(['table', 'json']))
    .action(async (name: string, options: { flush: boolean; output: OutputForm }, command) => {
      const client = session.client(command);
      const path = `/v1/switches/${encodeURIComponent(name)}/macs`;
      if (options.flush) {
        const { flushed } = await client.call('DELETE', path, Flushed);
        session.print(`${flushed} forgotten.`);
        return;
      }
      const table = await client.call('GET', path, Macs);
      if (options.output === 'json') return session.print(formatJson(table));
      const entries = table.entries.toSorted((a, b) => a.vlan - b.vlan || (a.mac < b.mac ? -1 : 1));
      const rows = entries.map(({ mac, vlan, port, age_ms }) => [mac, String(vlan), port, formatAge(age_ms)]);
      session.printAll(formatTable(['MAC', 'VLAN', 'PORT', 'AGE'], rows, session.out));
    });
}
