/** `weft switch queues`: what waits at the ports of a switch, and what went by. */
import { dataplane } from '../../../control/api/contract.js';
import { formatTable } from '../../table.js';
import { view } from './view.js';

type QosRate = { unit: 'bits' | 'frames'; per_s: number };

const bits = (per_s: number): string => {
  for (const [unit, size] of [
    ['Gbit', 1e9],
    ['Mbit', 1e6],
    ['kbit', 1e3],
  ] as const)
    // prettier-ignore
    if (per_s >= size) return `${Number((per_s / size).toFixed(2))}${unit}`;
  return `${Math.round(per_s)}bit`;
};

const rateWord = ({ unit, per_s }: QosRate): string => (unit === 'bits' ? bits(per_s) : `${per_s}/s`);

export const queuesView = view({
  what: 'queues',
  description: 'show classes and queues of ports: depth, drops, rates',
  schema: dataplane.QueuesView,
  lines({ ports, policers, buffersHeld, buffersMax }, session) {
    const rows = ports.flatMap(({ port, rate, classes }) =>
      classes.map(each => [
        port,
        rate === null ? '' : rateWord(rate),
        each.name,
        each.kind === 'strict' ? 'strict' : `weight ${each.weight}`,
        String(each.depthFrames),
        String(each.depthOctets),
        String(each.frames),
        bits(each.rate_bps),
        String(each.dropsLimit),
        String(each.dropsPool),
      ]),
    );
    const headers = [
      'PORT',
      'LIMIT',
      'CLASS',
      'KIND',
      'WAITING',
      'OCTETS',
      'SENT',
      'RATE',
      'DROPPED',
      'NO BUFFER',
    ];
    const lines =
      rows.length === 0 ? ['No port of this switch has queues.'] : formatTable(headers, rows, session.out);
    const rates = policers.map(each => [
      each.port ?? `VLAN ${each.vlan ?? ''}`,
      rateWord(each.rate),
      String(each.conformedFrames),
      String(each.exceededFrames),
    ]);
    return [
      ...lines,
      ...(rates.length === 0
        ? []
        : ['', ...formatTable(['INCOMING', 'LIMIT', 'WITHIN', 'BEYOND'], rates, session.out)]),
      '',
      `Buffers that queues hold: ${buffersHeld} of ${buffersMax} at most.`,
    ];
  },
});
