/** What Prometheus is told of weftd and the dataplane; of storage: metricsOfStorage.ts. Pure. */
import type { DataplaneStatus } from '../../dataplane/contract.js';
import type { StorageStatus } from '../../storage/contract.js';
import type { ObservedGuest } from '../vmm/host.js';
import type { PlaneStatus, Resource } from './contract.js';
import { Exposition, counters } from './exposition.js';
import { planeOfBlocks } from './metricsOfStorage.js';

export interface Figures {
  version: string;
  revision: number;
  settled: boolean;
  turnCount: number;
  planes: readonly PlaneStatus[];
  resources: readonly Resource[];
  guests: readonly ObservedGuest[];
  dataplane: DataplaneStatus | null;
  storage: StorageStatus | null;
  process: { residentMemory_bytes: number; cpu_s: number };
}

export function metrics(figures: Figures): string {
  const out = new Exposition();
  out.family('weft_info', 'gauge', 'Always 1.', [[{ version: figures.version }, 1]]);
  out.family('weft_revision', 'gauge', 'Newest revision of the configuration.', [[{}, figures.revision]]);
  out.family('weft_settled', 'gauge', 'Whether everything is as asked for.', [[{}, Number(figures.settled)]]);
  out.family('weft_reconcile_turns_total', 'counter', 'Turns of the reconciler.', [[{}, figures.turnCount]]);
  out.family('process_resident_memory_bytes', 'gauge', 'Of weftd.', [
    [{}, figures.process.residentMemory_bytes],
  ]);
  out.family('process_cpu_seconds_total', 'counter', 'Of weftd.', [[{}, figures.process.cpu_s]]);
  out.family(
    'weft_plane_up',
    'gauge',
    'Whether a plane serves.',
    figures.planes.map(({ name, state }) => [{ plane: name }, Number(state === 'up')] as const),
  );
  out.family(
    'weft_plane_restarts_total',
    'counter',
    'Ends of a plane since weftd started.',
    figures.planes.map(({ name, restartCount }) => [{ plane: name }, restartCount] as const),
  );
  out.family(
    'weft_resource_condition',
    'gauge',
    '1 for the status that a condition has.',
    figures.resources.flatMap(({ kind, name, status }) =>
      status.conditions.map(
        condition => [{ kind, name, type: condition.type, status: condition.status }, 1] as const,
      ),
    ),
  );
  out.family(
    'weft_machine_state',
    'gauge',
    '1 for the state that a machine is in.',
    figures.guests.map(({ name, state }) => [{ machine: name, state }, 1] as const),
  );
  if (figures.dataplane !== null) planeOfFrames(out, figures.dataplane);
  if (figures.storage !== null) planeOfBlocks(out, figures.storage);
  return out.text();
}

function planeOfFrames(out: Exposition, { switches, engine }: DataplaneStatus): void {
  out.family(
    'weft_switch_macs',
    'gauge',
    'Addresses learned.',
    switches.map(({ name, macCount }) => [{ switch: name }, macCount] as const),
  );
  out.family(
    'weft_switch_counter_total',
    'counter',
    'Counters of a switch.',
    switches.flatMap(one => [...counters({ switch: one.name }, one.counters)]),
  );
  out.family(
    'weft_port_up',
    'gauge',
    'Whether a port is up.',
    switches.flatMap(one =>
      one.ports.map(port => [{ switch: one.name, port: port.name }, Number(port.state === 'up')] as const),
    ),
  );
  out.family(
    'weft_port_counter_total',
    'counter',
    'Counters of a port.',
    switches.flatMap(one =>
      one.ports.flatMap(port => [...counters({ switch: one.name, port: port.name }, port.counters)]),
    ),
  );
  const members = switches.flatMap(one =>
    one.ports.flatMap(port =>
      (port.members ?? []).map(member => ({
        labels: { switch: one.name, port: port.name, member: member.name },
        member,
      })),
    ),
  );
  out.family(
    'weft_member_up',
    'gauge',
    "Whether an aggregate's link is up.",
    members.map(({ labels, member }) => [labels, Number(member.state === 'up')] as const),
  );
  out.family(
    'weft_member_counter_total',
    'counter',
    "Counters of an aggregate's link.",
    members.flatMap(({ labels, member }) => [...counters(labels, member.counters)]),
  );
  out.family('weft_dataplane_engine', 'gauge', "The engine's own figures.", counters({}, engine));
}
