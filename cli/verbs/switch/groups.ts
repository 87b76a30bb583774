/** `weft switch groups`: who wants which multicast group. */
import { dataplane } from '../../../control/api/contract.js';
import { formatTable } from '../../table.js';
import { view } from './view.js';

const expiry = (expires_s: number | null): string => (expires_s === null ? 'configured' : `${expires_s}s`);

export const groupsView = view({
  what: 'groups',
  description: 'multicast groups with their members, routers, and who asks',
  schema: dataplane.GroupsView,
  lines: ({ groups, routers, queriers, counters }, session) => [
    ...formatTable(
      ['GROUP', 'VLAN', 'PORT', 'EXPIRES'],
      groups.map(({ group, vlan, port, expires_s }) => [group, String(vlan), port, expiry(expires_s)]),
      session.out,
    ),
    '',
    ...formatTable(
      ['ROUTER PORT', 'VLAN', 'EXPIRES'],
      routers.map(({ port, vlan, expires_s }) => [
        port,
        vlan === null ? 'all' : String(vlan),
        expiry(expires_s),
      ]),
      session.out,
    ),
    '',
    ...formatTable(
      ['QUERIER', 'FAMILY', 'VLAN', ''],
      queriers.map(({ address, family, vlan, own }) => [
        address,
        family,
        String(vlan),
        own ? 'this switch' : '',
      ]),
      session.out,
    ),
    ...Object.entries(counters)
      .filter(([, count]) => count > 0)
      .map(([name, count]) => `${name}: ${count}`),
  ],
});
