/** `weft switch trace`: what would become of a frame, stage by stage. The frame is made here; nothing is sent. */
import type { Command } from 'commander';
import { dataplane } from '../../../control/api/contract.js';
import { FrameFieldError, buildFrame } from '../../../control/model/switch/trialFrame.js';
import { UsageError } from '../../errors.js';
import { formatJson, outputOption, type OutputForm } from '../../format.js';
import { count } from '../../options.js';
import type { Session } from '../../session.js';
import { formatTable } from '../../table.js';

interface TraceOptions {
  port: string;
  frame?: string;
  src: string;
  dst: string;
  vlan?: number;
  priority?: number;
  outerVlan?: number;
  type?: number;
  ipSrc?: string;
  ipDst?: string;
  protocol?: string;
  sport?: number;
  dport?: number;
  dscp?: number;
  output: OutputForm;
}

const CUSTOMER = 0x8100;
const SERVICE = 0x88a8;

function frameOf(options: TraceOptions): string {
  if (options.frame !== undefined) {
    const digits = options.frame.replaceAll(/[\s:]/g, '');
    if (!/^([0-9a-f]{2})+$/i.test(digits))
      throw new UsageError('--frame is pairs of hexadecimal digits, from the destination address on');
    return digits;
  }
  const { vlan, outerVlan, priority = 0 } = options;
  if (options.priority !== undefined && vlan === undefined && outerVlan === undefined)
    throw new UsageError('a priority stands in a tag: say --vlan too, 0 for a tag that has a priority only');
  const tags = [
    ...(outerVlan === undefined ? [] : [{ vlan: outerVlan, priority, tpid: SERVICE }]),
    ...(vlan === undefined ? [] : [{ vlan, priority, tpid: CUSTOMER }]),
  ];
  try {
    return Buffer.from(buildFrame({ ...options, tags })).toString('hex');
  } catch (error) {
    if (error instanceof FrameFieldError) throw new UsageError(error.message);
    throw error;
  }
}

const OUTCOMES: Readonly<Record<dataplane.TraceView['outcome'], string>> = {
  forwarded: 'FORWARDED',
  flooded: 'FLOODED',
  dropped: 'DROPPED',
  control: 'TAKEN BY THE SWITCH',
};

/** `0x0800` or `2048`. */
function number16(text: string): number {
  return /^0x[0-9a-f]{1,4}$/i.test(text) ? Number(text) : count(text);
}

function lines(told: dataplane.TraceView, session: Session): string[] {
  const stages = told.stages.map(({ stage, verdict, why }) => [
    stage,
    verdict === 'note' ? '' : verdict,
    why,
  ]);
  const out = [...formatTable(['STAGE', 'ANSWER', 'WHY'], stages, session.out), ''];
  const reason = told.reason === null ? '' : ` (${told.reason})`;
  out.push(
    `${OUTCOMES[told.outcome]}${reason}${told.isOffloadable ? '; the kernel may take the flow over' : ''}`,
  );
  const ports = [
    ...told.egress.map(({ port, tags, queue }) => [port, tags, queue ?? '-', '']),
    ...told.withheld.map(({ port, why }) => [port, '-', '-', `not sent: ${why}`]),
  ];
  if (ports.length > 0)
    out.push('', ...formatTable(['LEAVES BY', 'TAGS', 'QUEUE', 'WHY NOT'], ports, session.out));
  return out;
}

export function registerTrace(group: Command, session: Session): void {
  group
    .command('trace')
    .description('tell what would become of a frame, stage by stage; nothing is sent')
    .argument('<switch>', 'name of a switch')
    .requiredOption('-p, --port <port>', 'where it comes in')
    .option('--frame <hex>', 'the whole frame; else it is made of the fields below')
    .option('--src <mac>', 'source address', '02:00:00:00:00:01')
    .option('--dst <mac>', 'destination address', 'ff:ff:ff:ff:ff:ff')
    .option('--vlan <vlan>', 'in a tag', count)
    .option('--priority <priority>', '0 to 7, in its tag', count)
    .option('--outer-vlan <vlan>', 'in a service tag in front of the other', count)
    .option('--type <type>', 'EtherType, such as 0x0806', number16)
    .option('--ip-src <address>', 'IPv4 or IPv6')
    .option('--ip-dst <address>', 'of the same family')
    .option('--protocol <protocol>', 'tcp, udp, sctp, icmp, icmp6 or a number')
    .option('--sport <port>', 'source port', count)
    .option('--dport <port>', 'destination port', count)
    .option('--dscp <dscp>', '0 to 63', count)
    .addOption(outputOption(['table', 'json']))
    .action(async (name: string, options: TraceOptions, command: Command) => {
      const path = `/v1/switches/${encodeURIComponent(name)}/trace`;
      const body = { port: options.port, frame: frameOf(options) };
      const told = await session.client(command).call('POST', path, dataplane.TraceView, { body });
      if (options.output === 'json') return session.print(formatJson(told));
      session.printAll(lines(told, session));
    });
}
