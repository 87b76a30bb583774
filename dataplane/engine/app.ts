/**
 * Wires the engine: keeps switches and ports as the last configuration wants them, and carries out the other
 * commands. Runs in the engine's thread, between turns.
 *
 * A new configuration is compared with what is there, and only what differs is touched:
 *
 *   port gone, or its device differs   closed; made anew if wanted (new counters)
 *   its faults differ                  a wrapper takes the new odds, else as if the device differed
 *   its VLANs differ                   membership set, its own addresses forgotten
 *   switch's ageing or limit differ    set
 *
 * First everything goes that has to go, then the new is opened: two ports may exchange their devices.
 */
import type {
  DataplaneConfig,
  LagDevice,
  PortConfig,
  PortState,
  SwitchConfig,
  TraceView,
} from '../contract.js';
import { matches } from '../capture/filter.js';
import { Talkers } from '../capture/talkers.js';
import { Capture } from '../ports/capture.js';
import { FaultyPort } from '../ports/faulty.js';
import { desk } from '../ports/kernel/desk.js';
import { makePort } from '../ports/make.js';
import type { PortShared } from '../ports/make.js';
import { SwitchApp } from '../switch/app.js';
import type { Membership } from '../switch/vlanMembership.js';
import { AggregatePort, aggregateOf, systemAddress } from '../lag/app.js';
import { PortNumbers } from '../lag/appMember.js';
import { ByteRing } from './byteRing.js';
import { E } from './counters.js';
import type { Link } from './link.js';
import type { Loop } from './loop.js';
import type { Answers, Command, MemberTopology, Notice, Refusal, Topology } from './messages.js';

interface RunningPort {
  config: PortConfig;
  link: Link;
}

interface RunningSwitch {
  config: SwitchConfig;
  app: SwitchApp;
  ports: Map<string, RunningPort>;
}

export class CommandRefused extends Error {
  readonly refusal: Refusal;
  constructor(code: string, message: string) {
    super(message);
    this.refusal = { code, message };
  }
}

const noSuchPort = (name: string, port: string): CommandRefused =>
  new CommandRefused('NO_SUCH_PORT', `switch ${name} has no port ${port}`);

const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);

/** As others see it: a port that was taken out of service is in error, whatever its device says. */
function stateOf({ fault, state, reason }: Link): { state: PortState; reason: string | null } {
  return fault === null ? { state, reason } : { state: 'error', reason: fault };
}

function membersOf(link: Link): MemberTopology[] {
  return (aggregateOf(link)?.members ?? []).map(({ name, link: member, config }) => ({
    name,
    kind: config.device.kind,
    state: member.state,
    reason: member.reason,
    counters: member.counters,
  }));
}

/** `PORT/MEMBER`: one of an aggregate's links. */
function memberNamed({ ports }: RunningSwitch, name: string): Link | undefined {
  const slash = name.indexOf('/');
  const port = slash < 0 ? undefined : ports.get(name.slice(0, slash));
  const aggregate = port === undefined ? undefined : aggregateOf(port.link);
  return aggregate?.members.find(member => member.name === name.slice(slash + 1))?.link;
}

export class App {
  readonly #loop: Loop;
  readonly #shared: PortShared;
  readonly #tell: (notice: Notice) => void;
  readonly #switches = new Map<string, RunningSwitch>();
  readonly #captures = new Map<number, Capture>();
  readonly #talkers = new Map<number, Talkers>();
  readonly #host: string;
  readonly #portNumbers = new PortNumbers();
  #generation = -1;

  /** `host`: what tells this host from others. */
  constructor(loop: Loop, shared: PortShared, tell: (notice: Notice) => void, host = '') {
    this.#host = host;
    this.#loop = loop;
    this.#shared = shared;
    this.#tell = tell;
    loop.onState = link => this.#stateChanged(link);
  }

  /** Throws CommandRefused. */
  carryOut(command: Command): Answers[Command['op']] {
    switch (command.op) {
      case 'apply':
        return this.#apply(command.config);
      case 'macs':
        return this.#switch(command.switch).app.macs();
      case 'flushMacs':
        return this.#flushMacs(command);
      case 'capture':
        return this.#capture(command);
      case 'stopCapture':
        this.#captures.get(command.capture)?.close();
        this.#captures.delete(command.capture);
        return null;
      case 'startTalkers': {
        const links = [...this.#switch(command.switch).ports.values()].map(({ link }) => link);
        const { pool, now_ms } = this.#loop;
        this.#talkers.set(command.watch, new Talkers(links, pool.arena.view, now_ms, Math.random));
        return null;
      }
      case 'finishTalkers': {
        const talkers = this.#talkers.get(command.watch);
        this.#talkers.delete(command.watch);
        if (talkers === undefined) throw new CommandRefused('NO_SUCH_WATCH', 'nobody is being watched');
        return talkers.finish(this.#loop.now_ms, command.limit);
      }
      case 'show': {
        const { app } = this.#switch(command.switch);
        const shown = app.show(command.what, command.query);
        if (shown !== undefined) return shown;
        throw new CommandRefused(
          'NOTHING_TO_SHOW',
          `switch ${command.switch} has no ${command.what} to show: it is not switched on, or not spelled so`,
        );
      }
      case 'trace':
        return this.#trace(command);
      case 'shortcut':
        desk.take(command.reply);
        return null;
      case 'stop':
        this.close();
        return null;
    }
  }

  close(): void {
    for (const capture of this.#captures.values()) capture.close();
    this.#captures.clear();
    for (const talkers of this.#talkers.values()) talkers.close();
    this.#talkers.clear();
    for (const running of this.#switches.values()) this.#closeSwitch(running);
    this.#switches.clear();
  }

  #trace({ switch: name, port, frame }: Extract<Command, { op: 'trace' }>): TraceView {
    const traced = this.#switch(name).app.trace(port, frame);
    if (traced === 'NO_SUCH_PORT') throw new CommandRefused(traced, `switch ${name} has no port ${port}`);
    if (traced === 'NO_BUFFER')
      throw new CommandRefused(traced, 'no buffer is free for the frame; the engine is busy: try again');
    return traced;
  }

  #flushMacs({ switch: name, port, vlan }: Extract<Command, { op: 'flushMacs' }>): number {
    const flushed = this.#switch(name).app.flushMacs(port, vlan);
    if (flushed === undefined) throw noSuchPort(name, port ?? '');
    return flushed;
  }

  #apply(config: DataplaneConfig): Topology {
    const wanted = new Map(config.switches.map(each => [each.name, each]));
    for (const [name, running] of this.#switches) {
      const next = wanted.get(name);
      if (next === undefined) {
        this.#closeSwitch(running);
        this.#switches.delete(name);
      } else {
        this.#closeUnwantedPorts(running, next);
      }
    }
    for (const next of config.switches) this.#openSwitch(next);
    this.#generation = config.generation;
    this.#countLinks();
    return this.#topology();
  }

  #closeUnwantedPorts(running: RunningSwitch, next: SwitchConfig): void {
    const wanted = new Map(next.ports.map(port => [port.name, port]));
    for (const [name, port] of running.ports) {
      const config = wanted.get(name);
      if (config !== undefined && this.#canStay(port, config)) continue;
      this.#closePort(running, port);
      running.ports.delete(name);
    }
  }

  #canStay(port: RunningPort, next: PortConfig): boolean {
    const aggregate = aggregateOf(port.link);
    if (aggregate !== undefined && next.device.kind === 'lag')
      return aggregate.retire(next.device, next.faults);
    return same(next.device, port.config.device) && this.#takesFaults(port, next);
  }

  /** Whether the running port is right for the wanted faults, or can be made so without closing it. */
  #takesFaults({ config, link }: RunningPort, next: PortConfig): boolean {
    if (same(config.faults, next.faults)) return true;
    if (next.faults === undefined || !(link.port instanceof FaultyPort)) return false;
    link.port.setFaults(next.faults);
    return true;
  }

  #openSwitch(next: SwitchConfig): void {
    const running = this.#switches.get(next.name) ?? this.#newSwitch(next);
    running.config = next;
    for (const config of next.ports) {
      const port = running.ports.get(config.name);
      if (port === undefined) {
        this.#openPort(running, config);
        continue;
      }
      if (!same(port.config.vlan, config.vlan))
        running.app.setMembership(port.link, config.vlan as Membership);
      port.config = config;
      if (config.device.kind === 'lag') aggregateOf(port.link)?.configure(config.device, config.vlan);
    }
    running.app.configure(next);
  }

  #newSwitch(config: SwitchConfig): RunningSwitch {
    const app = new SwitchApp(
      this.#loop,
      config,
      {
        addressOf: ({ address, name }) => systemAddress(address, name, this.#host),
        tell: event => this.#tell(event),
        export: (datagram, collectors) => this.#tell({ type: 'export', datagram, collectors }),
      },
      (moved, mac, vlan, from, to) =>
        this.#tell({ type: 'macMoved', switch: moved.name, mac, vlan, from: from.name, to: to.name }),
    );
    const running: RunningSwitch = { config, app, ports: new Map() };
    this.#switches.set(config.name, running);
    return running;
  }

  #openPort(running: RunningSwitch, config: PortConfig): void {
    const link = running.app.addLink(config);
    link.port =
      config.device.kind === 'lag'
        ? this.#makeAggregate(running, link, config, config.device)
        : makePort(link, config.device, config.faults, this.#shared, running.config.name);
    running.ports.set(config.name, { config, link });
    link.port.open();
  }

  #makeAggregate({ app }: RunningSwitch, link: Link, port: PortConfig, device: LagDevice): AggregatePort {
    return new AggregatePort(link, device, port.vlan, port.faults, {
      makePort: (member, memberDevice, faults) => makePort(member, memberDevice, faults, this.#shared),
      numbers: this.#portNumbers,
      address: app.address,
      stations: () => app.macs(),
    });
  }

  #closePort(running: RunningSwitch, { link }: RunningPort): void {
    link.port?.close();
    this.#loop.forget(link);
    running.app.removeLink(link);
  }

  #closeSwitch(running: RunningSwitch): void {
    for (const port of running.ports.values()) this.#closePort(running, port);
    running.ports.clear();
    running.app.close();
  }

  #stateChanged(link: Link): void {
    if (link.sink instanceof AggregatePort) {
      link.sink.memberChanged(link);
      const { sink, name } = link.sink.link;
      if (!(sink instanceof SwitchApp)) return;
      const { state, reason } = link;
      this.#tell({ type: 'port', switch: sink.name, port: name, member: link.name, state, reason });
      return;
    }
    if (!(link.sink instanceof SwitchApp)) return;
    link.sink.linkChanged(link);
    this.#tell({
      type: 'port',
      switch: link.sink.name,
      port: link.name,
      ...stateOf(link),
    });
  }

  #countLinks(): void {
    let links = 0;
    for (const running of this.#switches.values()) links += running.ports.size;
    this.#loop.counters[E.links] = links;
  }

  #topology(): Topology {
    return {
      generation: this.#generation,
      switches: [...this.#switches.values()].map(({ config, app, ports }) => ({
        name: config.name,
        counters: app.counters,
        ports: [...ports.values()].map(({ config: port, link }) => ({
          name: port.name,
          kind: port.device.kind,
          vlan: port.vlan,
          ...stateOf(link),
          counters: link.counters,
          members: membersOf(link),
        })),
      })),
    };
  }

  #capture(command: Extract<Command, { op: 'capture' }>): string[] {
    const running = this.#switch(command.switch);
    const names = command.ports.length === 0 ? [...running.ports.keys()] : command.ports;
    const links = names.map(name => {
      const link = running.ports.get(name)?.link ?? memberNamed(running, name);
      if (link === undefined)
        throw new CommandRefused('NO_SUCH_PORT', `switch ${command.switch} has no port ${name}`);
      return link;
    });
    const { filter } = command;
    const capture = new Capture(this.#loop.pool, new ByteRing(command.ring), links, {
      snap_bytes: command.snap_bytes,
      count: command.count,
      accepts:
        filter === undefined
          ? undefined
          : (view, at, length_bytes) => matches(filter, view, at, length_bytes),
      wallClock_us: this.#shared.wallClock_us,
    });
    this.#captures.set(command.capture, capture);
    return names;
  }

  #switch(name: string): RunningSwitch {
    const running = this.#switches.get(name);
    if (running === undefined) throw new CommandRefused('NO_SUCH_SWITCH', `there is no switch ${name}`);
    return running;
  }
}
