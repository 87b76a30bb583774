/** A switch on memory ports and a clock wound by hand, for tests of its capabilities. */
import type { PortConfig, SwitchConfig } from '../../../dataplane/contract.js';
import { C, SINK_COUNTERS_AT } from '../../../dataplane/engine/counters.js';
import type { Link } from '../../../dataplane/engine/link.js';
import { MemoryPort } from '../../../dataplane/ports/memory.js';
import { SwitchApp } from '../../../dataplane/switch/app.js';
import { PORT_COUNTERS } from '../../../dataplane/switch/counters.js';
import type { PortCounter } from '../../../dataplane/switch/counters.js';
import * as ethernet from '../../../dataplane/wire/ethernet.js';
import { makeRig } from '../engine/rig.js';

export const ALL = 'ff:ff:ff:ff:ff:ff';
export const station = (n: number): string =>
  `02:00:00:00:${(n >>> 8).toString(16).padStart(2, '0')}:${(n & 255).toString(16).padStart(2, '0')}`;

export function frame(to: string, from: string, length = 60): Uint8Array {
  const bytes = new Uint8Array(length);
  ethernet.emit(new DataView(bytes.buffer), 0, { destination: to, source: from, type: 0x0800 });
  return bytes;
}

export interface BenchPort {
  link: Link;
  port: MemoryPort;
  count(name: PortCounter): number;
}

type Settings = Partial<Omit<SwitchConfig, 'ports'>>;

export class SwitchBench {
  readonly rig = makeRig(1024);
  readonly told: string[] = [];
  readonly app: SwitchApp;
  readonly #ports = new Map<string, BenchPort>();

  /** Ports in access VLAN 1 unless they say otherwise. */
  constructor(ports: Record<string, Partial<PortConfig>>, settings: Settings = {}) {
    const config = this.#config(ports, settings);
    this.app = new SwitchApp(
      this.rig.loop,
      config,
      {
        addressOf: () => Uint8Array.of(2, 0, 0, 0, 0, 0x99),
        tell: ({ what, port }) => this.told.push(`${what} ${port}`),
        export: () => {},
      },
      () => {},
    );
    this.rig.loop.onState = link => this.app.linkChanged(link);
    for (const port of config.ports) {
      const link = this.app.addLink(port);
      const memory = new MemoryPort(link);
      link.port = memory;
      memory.open();
      this.#ports.set(port.name, {
        link,
        port: memory,
        count: name => link.counters[SINK_COUNTERS_AT + PORT_COUNTERS.indexOf(name)]!,
      });
    }
    this.app.configure(config);
  }

  #config(ports: Record<string, Partial<PortConfig>>, settings: Settings): SwitchConfig {
    return {
      name: 's',
      macLimit: 10_000,
      ageingTime_s: 300,
      ...settings,
      ports: Object.entries(ports).map(([name, words]) => ({
        name,
        vlan: { mode: 'access', vlan: 1 },
        device: { kind: 'loopback' },
        ...words,
      })),
    };
  }

  /** The same ports with other words. */
  configure(ports: Record<string, Partial<PortConfig>>, settings: Settings = {}): void {
    this.app.configure(this.#config(ports, settings));
  }

  port(name: string): BenchPort {
    return this.#ports.get(name)!;
  }

  /** Frames in by one port, one turn; how many then left by each other port that any left by. */
  arrive(name: string, ...frames: Uint8Array[]): Record<string, number> {
    for (const { port } of this.#ports.values()) port.sent.length = 0;
    for (const bytes of frames) this.port(name).port.arrive(bytes);
    this.rig.loop.turn(0);
    const left = [...this.#ports].map(([other, { port }]): [string, number] => [other, port.sent.length]);
    return Object.fromEntries(left.filter(([, count]) => count > 0));
  }

  /** Time goes by, and timers run. */
  pass(time_ms: number): void {
    this.rig.clock.now_ms += time_ms;
    this.rig.loop.turn(0);
  }
}

/** Of a link. */
export const received = ({ link }: BenchPort): number =>
  link.counters[C.ifHCInUcastPkts]! +
  link.counters[C.ifHCInMulticastPkts]! +
  link.counters[C.ifHCInBroadcastPkts]!;
