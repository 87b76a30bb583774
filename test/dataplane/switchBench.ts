/** A switch on memory ports with whatever configuration a test of rules or guards wants. */
import { SwitchConfig } from '../../dataplane/contract.js';
import type { PortConfig } from '../../dataplane/contract.js';
import { SINK_COUNTERS_AT } from '../../dataplane/engine/counters.js';
import { MemoryPort } from '../../dataplane/ports/memory.js';
import { SwitchApp } from '../../dataplane/switch/app.js';
import { PORT_COUNTERS } from '../../dataplane/switch/counters.js';
import type { PortCounter } from '../../dataplane/switch/counters.js';
import { makeRig } from './engine/rig.js';

export interface BenchPort {
  port: MemoryPort;
  /** What was sent out of it since the last call. */
  taken: () => Uint8Array[];
  count: (name: PortCounter) => number;
}

type Written = Partial<Omit<SwitchConfig, 'ports'>> & { ports: (Partial<PortConfig> & { name: string })[] };

export class SwitchBench {
  readonly rig = makeRig(1024);
  readonly told: { what: string; port: string | null; message: string }[] = [];
  readonly app: SwitchApp;
  readonly ports = new Map<string, BenchPort>();

  constructor(written: Written) {
    const config = whole(written);
    const surroundings = {
      addressOf: () => Uint8Array.of(2, 0, 0, 0, 0, 0x99),
      tell: (event: { what: string; port: string | null; message: string }) => void this.told.push(event),
      export: () => {},
    };
    this.app = new SwitchApp(this.rig.loop, { ...config, ports: [] }, surroundings, () => {});
    this.rig.loop.onState = link => this.app.linkChanged(link);
    this.configure(written);
  }

  configure(written: Written): void {
    const config = whole(written);
    const wanted = new Map(config.ports.map(port => [port.name, port]));
    for (const [name, { port }] of this.ports)
      if (!wanted.has(name)) {
        const { link } = this.app.portNamed(name)!;
        port.close();
        this.rig.loop.forget(link);
        this.app.removeLink(link);
        this.ports.delete(name);
      }
    for (const one of config.ports) if (!this.ports.has(one.name)) this.#add(one);
    this.app.configure(config);
  }

  #add(config: PortConfig): void {
    const link = this.app.addLink(config);
    const port = new MemoryPort(link);
    link.port = port;
    port.open();
    this.ports.set(config.name, {
      port,
      taken: () => port.sent.splice(0).map(({ bytes }) => bytes),
      count: name => link.counters[SINK_COUNTERS_AT + PORT_COUNTERS.indexOf(name)]!,
    });
  }

  port(name: string): BenchPort {
    return this.ports.get(name)!;
  }

  /** The frames come in by the port, and the loop turns until they are dealt with. */
  send(name: string, ...frames: Uint8Array[]): void {
    for (const frame of frames) this.port(name).port.arrive(frame);
    this.rig.loop.turn(0);
  }

  /** Names of the ports that were sent something, sorted; what it was is forgotten. */
  receivers(): string[] {
    return [...this.ports].filter(([, port]) => port.taken().length > 0).map(([name]) => name);
  }
}

function whole(written: Written): SwitchConfig {
  return SwitchConfig.parse({
    name: 's',
    ...written,
    ports: written.ports.map(port => ({
      vlan: { mode: 'access', vlan: 1 },
      device: { kind: 'loopback' },
      ...port,
    })),
  });
}
