/** `weft switch top`: who speaks most. */
import type { Command } from 'commander';
import { dataplane } from '../../../control/api/contract.js';
import { formatBytes, formatJson, outputOption, type OutputForm } from '../../format.js';
import { count } from '../../options.js';
import type { Session } from '../../session.js';
import { formatTable } from '../../table.js';

type Talker = dataplane.TopTalkers['talkers'][number];

const PROTOCOL_NAMES: Readonly<Record<number, string>> = {
  1: 'icmp',
  6: 'tcp',
  17: 'udp',
  58: 'icmp6',
  132: 'sctp',
};
const TYPE_NAMES: Readonly<Record<number, string>> = { 0x0806: 'arp', 0x0800: 'ip', 0x86dd: 'ip6' };

function protocolOf({ protocol, etherType }: Talker): string {
  if (protocol !== null) return PROTOCOL_NAMES[protocol] ?? `ip ${protocol}`;
  return TYPE_NAMES[etherType] ?? `0x${etherType.toString(16).padStart(4, '0')}`;
}

function end(mac: string, address: string | null, port: number | null): string {
  if (address === null) return mac;
  if (port === null) return address;
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

/** Bits per second as people say them: 12.5 Mbit/s. */
export function formatRate(bits_per_s: number): string {
  const units = ['bit/s', 'kbit/s', 'Mbit/s', 'Gbit/s'];
  let [value, unit] = [bits_per_s, 0];
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${value.toFixed(value >= 100 || unit === 0 ? 0 : 1)} ${units[unit]}`;
}

export function registerTop(group: Command, session: Session): void {
  group
    .command('top')
    .description('watch a switch for some seconds, and tell who spoke most')
    .argument('<switch>', 'name of a switch')
    .option('-s, --seconds <seconds>', 'how long to watch, 60 at most', count, 2)
    .option('-n, --limit <conversations>', 'how many to tell', count, 20)
    .addOption(outputOption(['table', 'json']))
    .action(
      async (
        name: string,
        options: { seconds: number; limit: number; output: OutputForm },
        command: Command,
      ) => {
        const path = `/v1/switches/${encodeURIComponent(name)}/top`;
        const { seconds, limit } = options;
        const call = { query: { seconds, limit }, deadline_ms: (seconds + 20) * 1000 };
        const told = await session.client(command).call('GET', path, dataplane.TopTalkers, call);
        if (options.output === 'json') return session.print(formatJson(told));
        const rows = told.talkers.map(talker => [
          talker.port,
          protocolOf(talker),
          end(talker.sourceMac, talker.source, talker.sourcePort),
          end(talker.destinationMac, talker.destination, talker.destinationPort),
          formatRate((talker.bytes * 8) / told.seconds),
          String(Math.round(talker.frames / told.seconds)),
          told.bytes === 0 ? '' : `${Math.round((talker.bytes / told.bytes) * 100)} %`,
        ]);
        const headers = ['PORT', 'PROTOCOL', 'FROM', 'TO', 'RATE', 'FRAMES/S', 'SHARE'];
        session.printAll(formatTable(headers, rows, session.out));
        const all = `${told.frames} frames, ${formatBytes(told.bytes)} in ${told.seconds.toFixed(1)} s`;
        session.say(
          told.untold === 0 ? all : `${all}; ${told.untold} frames of further conversations not told`,
        );
      },
    );
}
