/**
 * Prometheus text exposition 0.0.4, by hand: a few families of gauges and counters do not need a library. Pure.
 */
import type { DataplaneStatus } from '../../dataplane/contract.js';
import type { StorageStatus } from '../../storage/contract.js';
import type { ObservedGuest } from '../vmm/host.js';
import type { PlaneStatus, Resource } from './contract.js';

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

type Labels = Readonly<Record<string, string>>;

function escape(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}

class Exposition {
  readonly #lines: string[] = [];

  family(
    name: string,
    type: 'gauge' | 'counter',
    help: string,
    samples: Iterable<readonly [Labels, number]>,
  ): void {
    let first = true;
    for (const [labels, value] of samples) {
      if (first) this.#lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
      first = false;
      const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escape(text)}"`);
      this.#lines.push(`${name}${pairs.length === 0 ? '' : `{${pairs.join(',')}}`} ${value}`);
    }
  }

  text(): string {
    return `${this.#lines.join('\n')}\n`;
  }
}

function* counters(
  owner: Labels,
  values: Readonly<Record<string, number>>,
): Generator<readonly [Labels, number]> {
  for (const [counter, value] of Object.entries(values)) yield [{ ...owner, counter }, value];
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

function planeOfBlocks(out: Exposition, { pools, volumes, exports, server }: StorageStatus): void {
  const ofPools = (field: 'capacity_bytes' | 'free_bytes' | 'allocated_bytes' | 'provisioned_bytes') =>
    pools.map(pool => [{ pool: pool.name }, pool[field]] as const);
  out.family('weft_pool_capacity_bytes', 'gauge', 'Of the file system below.', ofPools('capacity_bytes'));
  out.family('weft_pool_free_bytes', 'gauge', 'Of the file system below.', ofPools('free_bytes'));
  out.family('weft_pool_allocated_bytes', 'gauge', 'Of its volumes.', ofPools('allocated_bytes'));
  out.family('weft_pool_provisioned_bytes', 'gauge', 'Sizes of its volumes.', ofPools('provisioned_bytes'));
  const ofVolumes = (field: 'size_bytes' | 'allocated_bytes') =>
    volumes.map(volume => [{ pool: volume.pool, volume: volume.name }, volume[field]] as const);
  out.family('weft_volume_size_bytes', 'gauge', 'Size of a volume.', ofVolumes('size_bytes'));
  out.family('weft_volume_allocated_bytes', 'gauge', 'Allocated to a volume.', ofVolumes('allocated_bytes'));
  out.family(
    'weft_volume_ok',
    'gauge',
    'Whether a volume takes writes.',
    volumes.map(({ pool, name, state }) => [{ pool, volume: name }, Number(state === 'ok')] as const),
  );
  out.family(
    'weft_export_connections',
    'gauge',
    'NBD connections.',
    exports.map(({ name, connectionCount }) => [{ export: name }, connectionCount] as const),
  );
  out.family(
    'weft_export_counter_total',
    'counter',
    'Counters of an export.',
    exports.flatMap(one => [...counters({ export: one.name }, one.counters)]),
  );
  out.family('weft_storage_server', 'gauge', "The NBD server's own figures.", counters({}, server));
}
