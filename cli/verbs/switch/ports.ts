/** `weft switch ports`: each port, how it stands to VLANs, whether it is up, and what it has carried. */
import { dataplane } from '../../../control/api/contract.js';
import { formatTable } from '../../table.js';
import { view } from './view.js';

type PortVlan = dataplane.PortVlan;
type Ranges = readonly (readonly [number, number])[];

const ranges = (all: Ranges): string =>
  all.map(([first, last]) => (first === last ? String(first) : `${first}-${last}`)).join(',');

export function vlanWords(vlan: PortVlan): string {
  switch (vlan.mode) {
    case 'access':
      return String(vlan.vlan);
    case 'tunnel':
      return `tunnel ${vlan.vlan}`;
    case 'trunk':
      return `trunk ${ranges(vlan.allowed)}${vlan.native === null ? '' : ` native ${vlan.native}`}`;
    case 'hybrid':
      return `pvid ${vlan.pvid}, untagged ${ranges(vlan.untagged) || 'none'}, tagged ${ranges(vlan.tagged) || 'none'}`;
  }
}

export const portsView = view({
  what: 'ports',
  description: 'list the ports of a switch, their state and what they carried',
  schema: dataplane.PortsView,
  lines: ({ ports }, session) =>
    formatTable(
      ['PORT', 'KIND', 'STATE', 'VLAN', 'IN', 'OUT', 'DROPPED', 'WHY'],
      ports.flatMap(port => {
        const count = (...names: string[]): string =>
          String(names.reduce((sum, name) => sum + (port.counters[name] ?? 0), 0));
        const row = [
          port.name,
          port.kind,
          port.state,
          vlanWords(port.vlan),
          count('ifHCInUcastPkts', 'ifHCInMulticastPkts', 'ifHCInBroadcastPkts'),
          count('ifHCOutUcastPkts', 'ifHCOutMulticastPkts', 'ifHCOutBroadcastPkts'),
          count('ifInDiscards', 'ifOutDiscards'),
          port.reason ?? '',
        ];
        const members = (port.members ?? []).map(member => [
          `  ${member.name}`,
          member.kind,
          member.state,
          '',
          '',
          '',
          '',
          member.reason ?? '',
        ]);
        return [row, ...members];
      }),
      session.out,
    ),
});
