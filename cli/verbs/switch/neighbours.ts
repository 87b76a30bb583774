/** `weft switch neighbours`: who is at the other end of a switch's links, as LLDP tells it. */
import { dataplane } from '../../../control/api/contract.js';
import { formatAge } from '../../format.js';
import { formatTable } from '../../table.js';
import { view } from './view.js';

export const neighboursView = view({
  what: 'neighbours',
  description: 'list the neighbours that LLDP has told of',
  schema: dataplane.LldpView,
  lines: ({ neighbours, links }, session) => {
    if (links.length === 0) return ['LLDP is off on every port of this switch. Switch it on with: lldp: {}'];
    const rows = neighbours
      .toSorted((a, b) => (a.port < b.port ? -1 : a.port > b.port ? 1 : 0))
      .map(neighbour => [
        neighbour.member === null ? neighbour.port : `${neighbour.port}/${neighbour.member}`,
        neighbour.systemName ?? '-',
        neighbour.chassisId,
        neighbour.portId,
        neighbour.portVlan === null ? '-' : String(neighbour.portVlan),
        neighbour.enabledCapabilities.join(',') || '-',
        neighbour.managementAddresses.join(',') || '-',
        formatAge(neighbour.age_ms),
        `${Math.ceil(neighbour.expiresIn_ms / 1000)}s`,
        neighbour.portDescription ?? '',
      ]);
    const crowded = links.filter(({ tooManyNeighbours }) => tooManyNeighbours);
    return [
      ...formatTable(
        [
          'PORT',
          'SYSTEM',
          'CHASSIS',
          'ITS PORT',
          'VLAN',
          'DOES',
          'MANAGED AT',
          'AGE',
          'EXPIRES',
          'DESCRIPTION',
        ],
        rows,
        session.out,
      ),
      ...crowded.map(
        ({ port, member }) =>
          `More neighbours than remembered on ${member === null ? port : `${port}/${member}`}.`,
      ),
    ];
  },
});
