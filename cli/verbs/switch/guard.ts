/** `weft switch guard NAME`: what each guarded port allows and has refused, and the leases that were learned. */
import { dataplane } from '../../../control/api/contract.js';
import { formatAge } from '../../format.js';
import { formatTable } from '../../table.js';
import { view } from './view.js';

export const guardView = view<dataplane.GuardView>({
  what: 'guard',
  description: 'what guarded ports allow and have refused, and the DHCP leases that were learned',
  schema: dataplane.GuardView,
  lines({ ports, leases }, session) {
    const rows = ports.map(port => [
      port.port,
      port.trusted ? 'trusted' : 'guarded',
      port.trusted || port.macs.length === 0 ? 'any' : port.macs.join(' '),
      port.trusted || (port.addresses.length === 0 && !port.leases)
        ? 'any'
        : [...port.addresses, ...(port.leases ? ['leases'] : [])].join(', '),
      Object.entries(port.refused)
        .map(([reason, count]) => `${reason} ${count}`)
        .join(', ') || '-',
    ]);
    const lines = formatTable(['PORT', 'IS', 'MACS', 'ADDRESSES', 'REFUSED'], rows, session.out);
    if (leases.length === 0) return lines;
    const leaseRows = leases.map(({ address, mac, vlan, port, expiresIn_s }) => [
      address,
      mac,
      String(vlan),
      port,
      expiresIn_s === null ? 'never' : formatAge(expiresIn_s * 1000),
    ]);
    const headers = ['LEASE', 'MAC', 'VLAN', 'PORT', 'EXPIRES IN'];
    return [...lines, '', ...formatTable(headers, leaseRows, session.out)];
  },
});
