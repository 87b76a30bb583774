/**
 * What the HTTP thread knows of the engine without asking it: the topology of the last configuration, each port's
 * last word on its state, and the shared rows of counters. So /status answers even while the engine is busy.
 */
import type { DataplaneStatus, MemberStatus, PortState, PortStatus, SwitchStatus } from './contract.js';
import { ENGINE_COUNTERS, LINK_COUNTERS, SINK_COUNTERS_AT } from './engine/counters.js';
import type { MemberTopology, PortTopology, SwitchTopology, Topology } from './engine/messages.js';
import { MEMBER_COUNTERS } from './lag/appMember.js';
import { PORT_COUNTERS, SWITCH_COUNTERS } from './switch/counters.js';

const MAC_COUNT_AT = SWITCH_COUNTERS.indexOf('macCount');

/** RFC 2863 ifInDiscards, ifOutDiscards: which reasons to drop belong to each. */
const IN_DISCARDS: readonly string[] = [
  ...PORT_COUNTERS.filter(name => name.startsWith('drop')),
  'dropNoBuffer',
];
const OUT_DISCARDS: readonly string[] = ['dropNotUp', 'dropQueueFull', 'dropOffload'];

function named(names: readonly string[], row: Float64Array, at = 0): Record<string, number> {
  return Object.fromEntries(names.map((name, index) => [name, row[at + index]!]));
}

function portCounters(row: Float64Array): Record<string, number> {
  const counters = { ...named(LINK_COUNTERS, row), ...named(PORT_COUNTERS, row, SINK_COUNTERS_AT) };
  const sum = (names: readonly string[]): number =>
    names.reduce((total, name) => total + (counters[name] ?? 0), 0);
  return { ...counters, ifInDiscards: sum(IN_DISCARDS), ifOutDiscards: sum(OUT_DISCARDS) };
}

const memberStatus = ({ name, kind, state, reason, counters }: MemberTopology): MemberStatus => ({
  name,
  kind,
  state,
  reason,
  counters: { ...named(LINK_COUNTERS, counters), ...named(MEMBER_COUNTERS, counters, SINK_COUNTERS_AT) },
});

const portStatus = ({ name, kind, state, reason, vlan, counters, members }: PortTopology): PortStatus => ({
  name,
  kind,
  state,
  reason,
  vlan,
  counters: portCounters(counters),
  ...(members.length === 0 ? {} : { members: members.map(memberStatus) }),
});

const switchStatus = ({ name, counters, ports }: SwitchTopology): SwitchStatus => ({
  name,
  macCount: counters[MAC_COUNT_AT]!,
  counters: named(SWITCH_COUNTERS, counters),
  ports: ports.map(portStatus),
});

export class Mirror {
  #topology: Topology = { generation: -1, switches: [] };

  get generation(): number {
    return this.#topology.generation;
  }

  set(topology: Topology): void {
    this.#topology = topology;
  }

  hasSwitch(name: string): boolean {
    return this.#topology.switches.some(each => each.name === name);
  }

  portChanged(
    switchName: string,
    portName: string,
    member: string | undefined,
    state: PortState,
    reason: string | null,
  ): void {
    const port = this.#topology.switches
      .find(each => each.name === switchName)
      ?.ports.find(each => each.name === portName);
    const changed = member === undefined ? port : port?.members.find(each => each.name === member);
    if (changed !== undefined) Object.assign(changed, { state, reason });
  }

  /** Undefined: there is no such switch. */
  ports(switchName: string): PortStatus[] | undefined {
    return this.#topology.switches.find(({ name }) => name === switchName)?.ports.map(portStatus);
  }

  status(engine: Float64Array): DataplaneStatus {
    return {
      generation: this.generation,
      switches: this.#topology.switches.map(switchStatus),
      engine: named(ENGINE_COUNTERS, engine),
    };
  }

  /** One entry for each port that is not up. */
  problems(): { switch: string; port: string | null; state: PortState; reason: string }[] {
    return this.#topology.switches.flatMap(each =>
      each.ports
        .filter(port => port.state !== 'up')
        .map(port => ({ switch: each.name, port: port.name, state: port.state, reason: port.reason ?? '' })),
    );
  }
}
