/** `weft switch offload`: which flows of a switch the kernel forwards, and why others not. */
import { dataplane } from '../../../control/api/contract.js';
import { formatBytes } from '../../format.js';
import { formatTable } from '../../table.js';
import { view } from './view.js';

/** Beyond this many the table is no help; `-o json` has all. */
const ROWS_MAX = 200;

export const offloadView = view({
  what: 'offload',
  description:
    'show which flows the kernel forwards in the place of weft-dataplane, and which ports take no part',
  schema: dataplane.OffloadView,
  lines({ reason, ports, flows }, session) {
    if (reason !== null) return [`Nothing is offloaded: ${reason}.`];
    const portRows = ports.map(port => [
      port.port,
      port.reason === null ? 'yes' : 'no',
      port.reason ?? port.where ?? '',
    ]);
    const lines = [...formatTable(['PORT', 'OFFLOADED', 'WHERE, OR WHY NOT'], portRows, session.out), ''];
    if (flows.length === 0) return [...lines, 'No flow is with the kernel at the moment.'];
    const rows = [...flows]
      .sort((a, b) => b.octets - a.octets)
      .slice(0, ROWS_MAX)
      .map(flow => [
        flow.from,
        flow.to,
        String(flow.vlan),
        flow.source,
        flow.destination,
        String(flow.frames),
        formatBytes(flow.octets),
        `${(flow.idle_ms / 1000).toFixed(0)} s`,
      ]);
    const headers = ['FROM', 'TO', 'VLAN', 'SOURCE', 'DESTINATION', 'FRAMES', 'OCTETS', 'IDLE'];
    lines.push(...formatTable(headers, rows, session.out));
    if (flows.length > ROWS_MAX) lines.push(`and ${flows.length - ROWS_MAX} more: -o json has them`);
    return lines;
  },
});
