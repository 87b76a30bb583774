/** `weft switch stp`: the spanning tree as a switch sees it. */
import { dataplane } from '../../../control/api/contract.js';
import { formatFields, formatTable } from '../../table.js';
import { view } from './view.js';

export const stpView = view({
  what: 'stp',
  description: 'show the spanning tree: the root, and what each port does in it',
  schema: dataplane.SpanningTreeView,
  lines(tree, session) {
    if (tree.mode === 'off') return ['Spanning tree is off: every port forwards, and BPDUs are dropped.'];
    const root = tree.isRoot ? 'this switch' : `${tree.rootId ?? ''}`;
    const changes =
      tree.sinceTopologyChange_s === null
        ? 'none'
        : `${tree.topologyChanges}, the last ${tree.sinceTopologyChange_s} s ago by ${tree.lastTopologyChangePort ?? '?'}`;
    const fields = formatFields([
      ['Mode', tree.mode],
      ['Switch', tree.bridgeId ?? ''],
      ['Root', root],
      ...(tree.isRoot
        ? []
        : [['Way to it', `by ${tree.rootPort ?? '?'}, cost ${tree.rootPathCost}`] as const]),
      [
        'Times',
        `max age ${tree.maxAge_s} s, hello ${tree.helloTime_s} s, forward delay ${tree.forwardDelay_s} s`,
      ],
      ['Topology changes', changes],
    ]);
    const rows = tree.ports.map(port => [
      port.port,
      port.role,
      port.state,
      String(port.pathCost),
      port.portId,
      [port.isEdge ? 'edge' : '', port.isPointToPoint ? '' : 'shared', port.speaks].filter(Boolean).join(' '),
      String(sum(port.counters, 'BpdusIn')),
      String(sum(port.counters, 'BpdusOut')),
      port.heldBackBy ?? '',
    ]);
    const headers = ['PORT', 'ROLE', 'STATE', 'COST', 'ID', 'TYPE', 'IN', 'OUT', 'HELD BACK BY'];
    return [...fields, '', ...formatTable(headers, rows, session.out)];
  },
});

function sum(counters: Readonly<Record<string, number>>, suffix: string): number {
  let total = 0;
  for (const [name, count] of Object.entries(counters)) if (name.endsWith(suffix)) total += count;
  return total;
}
