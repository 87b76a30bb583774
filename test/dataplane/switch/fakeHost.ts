/** A SwitchHost for testing one capability alone: it notes what it is asked for. Links have memory ports. */
import { makeRow } from '../../../dataplane/engine/counters.js';
import { VlanMembership } from '../../../dataplane/switch/vlanMembership.js';
import type { Link } from '../../../dataplane/engine/link.js';
import type { Sink } from '../../../dataplane/engine/link.js';
import type { PortConfig } from '../../../dataplane/contract.js';
import type { MemoryPort } from '../../../dataplane/ports/memory.js';
import { DISCARDING } from '../../../dataplane/switch/feature.js';
import type { FeaturePort, SwitchHost } from '../../../dataplane/switch/feature.js';
import type { Stages } from '../../../dataplane/switch/stages.js';
import { makeRig, memoryLink } from '../engine/rig.js';
import type { Rig } from '../engine/rig.js';

export interface FakePort extends FeaturePort {
  readonly memory: MemoryPort;
}

export function makeStages(): Stages {
  return {
    control: [],
    police: undefined,
    guard: undefined,
    rules: undefined,
    groups: undefined,
    storm: undefined,
    mirrors: undefined,
    sampling: undefined,
    offload: undefined,
  };
}

export class FakeHost implements SwitchHost {
  readonly vlans = new VlanMembership();
  /** Times that it was said. */
  topologyChanges = 0;

  readonly name = 'sw';
  readonly rig: Rig = makeRig();
  readonly loop = this.rig.loop;
  readonly counters = makeRow();
  readonly address = Uint8Array.of(2, 0, 0, 0, 0, 1);
  readonly stages = makeStages();
  readonly ports: FakePort[] = [];
  readonly states = new Map<number, number>();
  readonly flags = new Map<number, number>();
  readonly faults = new Map<number, string>();
  readonly flushed: number[] = [];
  readonly told: string[] = [];
  readonly sent: { port: number; frame: Uint8Array }[] = [];
  /** Whom frames that come in are given to. */
  input: Sink['input'] = () => {};

  addPort(config: Partial<PortConfig> & { name: string }): FakePort {
    const port = this.ports.length;
    const sink: Sink = { input: (...all) => this.input(...all) };
    const [link, memory] = memoryLink(this.loop, config.name, sink, port);
    const added: FakePort = {
      port,
      link,
      memory,
      config: { vlan: { mode: 'access', vlan: 1 }, device: { kind: 'tap', ifname: config.name }, ...config },
    };
    this.ports.push(added);
    return added;
  }

  link(port: number): Link | undefined {
    return this.ports[port]?.link;
  }
  portNamed(name: string): FeaturePort | undefined {
    return this.ports.find(port => port.config.name === name);
  }
  sendControl(link: Link, frame: Uint8Array): boolean {
    this.sent.push({ port: link.sinkIndex, frame: frame.slice() });
    return true;
  }
  sendInto(): boolean {
    return true;
  }
  setPortState(port: number, state: number): void {
    this.states.set(port, state);
  }
  isBlocked(port: number): boolean {
    return this.states.get(port) === DISCARDING;
  }
  flushPort(port: number): void {
    this.flushed.push(port);
  }
  topologyChanged(): void {
    this.topologyChanges++;
  }

  setFlag(port: number, flag: number, on: boolean): void {
    const before = this.flags.get(port) ?? 0;
    this.flags.set(port, on ? before | flag : before & ~flag);
  }
  decisionsChanged(): void {}
  setPortFault(port: number, _by: string, reason: string | null): void {
    if (reason === null) this.faults.delete(port);
    else this.faults.set(port, reason);
  }
  tell(event: { what: string; port: string | null }): void {
    this.told.push(`${event.what} ${event.port ?? ''}`.trim());
  }
}
