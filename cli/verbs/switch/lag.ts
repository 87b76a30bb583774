/** `weft switch lag`: the aggregates of a switch, their members, and what LACP knows of the other end. */
import { dataplane } from '../../../control/api/contract.js';
import { formatFields, formatTable } from '../../table.js';
import { view } from './view.js';

const MODES: Readonly<Record<string, string>> = { activeBackup: 'active-backup' };
const BALANCES: Readonly<Record<string, string>> = { l34: 'l3+4' };

type Member = dataplane.LagView['aggregates'][number]['members'][number];

/** `32768,02:00:00:00:00:01 key 9 port 32768,1`: system, key and port of an end. */
function endOf(end: dataplane.LacpEnd | null | undefined): string {
  if (end === null || end === undefined) return '-';
  return `${end.systemPriority},${end.system} key ${end.key} port ${end.portPriority},${end.port}`;
}

function rowOf({ name, link, role, reason, buckets, lacp }: Member): string[] {
  const churn =
    lacp === null
      ? '-'
      : [lacp.actorChurn ? 'actor' : '', lacp.partnerChurn ? 'partner' : ''].join(' ').trim();
  return [
    name,
    link,
    role,
    `${((buckets * 100) / 1024).toFixed(1)} %`,
    lacp?.mux ?? '-',
    endOf(lacp?.partner),
    churn === '' ? 'none' : churn,
    reason ?? '',
  ];
}

export const lagView = view({
  what: 'lag',
  description: 'list the aggregates of a switch, their members and LACP partners',
  schema: dataplane.LagView,
  lines: ({ aggregates }, session) => {
    if (aggregates.length === 0)
      return ['This switch has no aggregate. A port becomes one with: lag: { members: … }'];
    return aggregates.flatMap((aggregate, index) => {
      const { port, mode, state, reason, balance, minLinks, maxLinks, members } = aggregate;
      const actor = members.find(({ lacp }) => lacp !== null)?.lacp?.actor;
      return [
        ...(index === 0 ? [] : ['']),
        ...formatFields([
          ['Port', `${port} (${MODES[mode] ?? mode}, balance ${BALANCES[balance] ?? balance})`],
          ['State', reason === null ? state : `${state}: ${reason}`],
          ['Links', `min ${minLinks}${maxLinks === null ? '' : `, max ${maxLinks}`}`],
          ...(actor === undefined
            ? []
            : [['Actor', `${actor.systemPriority},${actor.system} key ${actor.key}`] as const]),
        ]),
        ...formatTable(
          ['MEMBER', 'LINK', 'ROLE', 'FLOWS', 'MUX', 'PARTNER', 'CHURN', 'REASON'],
          members.map(rowOf),
          session.out,
        ),
      ];
    });
  },
});
