/** `weft switch mirrors`: the mirror sessions of a switch, and how much they copied. */
import { dataplane } from '../../../control/api/contract.js';
import { formatTable } from '../../table.js';
import { view } from './view.js';

export const mirrorsView = view({
  what: 'mirrors',
  description: 'show the mirror sessions: what they watch, where copies go, and how many',
  schema: dataplane.MirrorsView,
  lines({ sessions }, session) {
    if (sessions.length === 0) return ['This switch has no mirror sessions.'];
    const rows = sessions.map(each => {
      const limits = [
        each.snaplen_bytes === null ? '' : `first ${each.snaplen_bytes} bytes`,
        each.oneIn === 1 ? '' : `one in ${each.oneIn}`,
      ];
      const lost = (each.counters['dropNotUp'] ?? 0) + (each.counters['dropNoRoom'] ?? 0);
      return [
        each.name,
        watched(each),
        each.destination,
        limits.filter(Boolean).join(', ') || 'all',
        String(each.counters['frames'] ?? 0),
        String(lost),
        each.problem ?? '',
      ];
    });
    const headers = ['NAME', 'WATCHES', 'TO', 'COPIES', 'FRAMES', 'LOST', 'PROBLEM'];
    return formatTable(headers, rows, session.out);
  },
});

function watched({ in: ins, out, vlans }: dataplane.MirrorsView['sessions'][number]): string {
  const both = ins.filter(port => out.includes(port));
  const words = [
    ...both,
    ...ins.filter(port => !both.includes(port)).map(port => `${port} in`),
    ...out.filter(port => !both.includes(port)).map(port => `${port} out`),
    ...vlans.map(([first, last]) => (first === last ? `VLAN ${first}` : `VLANs ${first}-${last}`)),
  ];
  return words.length === 0 ? 'what rules send' : words.join(', ');
}
