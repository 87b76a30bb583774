/**
 * A network of bridges on a hand-wound clock: every bridge is a SpanningTree, every cable or hub a LAN with a delay.
 * The checks know nothing of spanning trees: they look at which ports forward, and at cables, as a graph.
 */
import type { Bpdu } from '../../../dataplane/wire/bpdu.js';
import { SpanningTree } from '../../../dataplane/spanningTree/protocol.js';
import type { BridgeSettings, PortSettings, State } from '../../../dataplane/spanningTree/variables.js';

export const BRIDGE: BridgeSettings = {
  forceVersion: 2,
  priority: 32_768,
  maxAge_s: 20,
  helloTime_s: 2,
  forwardDelay_s: 15,
  txHoldCount: 6,
};

export const PORT: PortSettings = {
  priority: 128,
  pathCost: 2000,
  adminEdge: false,
  autoEdge: true,
  pointToPoint: true,
  restrictedRole: false,
  restrictedTcn: false,
  loopGuard: false,
  bpduGuard: false,
  guardRecovery_s: 0,
  bpduFilter: false,
};

interface Attachment {
  bridge: SimBridge;
  port: number;
}

export class Lan {
  readonly ends: Attachment[] = [];
  isUp = true;
  delay_ms: number;
  /** Frames from `ends[i]` are lost, though its carrier stands (a broken fibre of the two). */
  readonly mute = new Set<Attachment>();
  constructor(delay_ms: number) {
    this.delay_ms = delay_ms;
  }
}

export class SimBridge {
  readonly name: string;
  readonly tree: SpanningTree;
  readonly lans = new Map<number, Lan>();
  readonly states = new Map<number, State>();
  readonly flushes = new Map<number, number>();
  readonly faults = new Map<number, string>();
  readonly told: string[] = [];
  readonly sent: { port: number; bpdu: Bpdu }[] = [];

  constructor(network: Network, index: number, settings: BridgeSettings) {
    this.name = `b${index}`;
    this.tree = new SpanningTree(Uint8Array.of(2, 0, 0x5e, 0, index >> 8, (index & 0xff) + 1), settings, {
      send: (port, bpdu) => {
        this.sent.push({ port, bpdu: { ...bpdu } });
        if (this.sent.length > 50) this.sent.shift();
        network.send(this, port, bpdu);
      },
      setState: (port, state) => void this.states.set(port, state),
      flush: port => void this.flushes.set(port, (this.flushes.get(port) ?? 0) + 1),
      setFault: (port, reason) =>
        void (reason === null ? this.faults.delete(port) : this.faults.set(port, reason)),
      tell: (what, port) => {
        this.told.push(port === null ? what : `${what} ${port}`);
      },
    });
  }

  isForwarding(port: number): boolean {
    return this.states.get(port) === 'forwarding';
  }
}

interface Due {
  at_ms: number;
  order: number;
  run: () => void;
}

export class Network {
  readonly bridges: SimBridge[] = [];
  readonly lans: Lan[] = [];
  now_ms = 0;
  /** Asked after everything that happens. */
  onEvent: () => void = () => {};
  #queue: Due[] = [];
  #order = 0;

  bridge(settings: Partial<BridgeSettings> = {}, phase_ms = 0): SimBridge {
    const bridge = new SimBridge(this, this.bridges.length, { ...BRIDGE, ...settings });
    this.bridges.push(bridge);
    const tick = (): void => {
      bridge.tree.tick();
      this.#at(this.now_ms + 1000, tick);
    };
    this.#at(this.now_ms + 1000 + phase_ms, tick);
    return bridge;
  }

  /** Joins new ports of the bridges by a LAN; its ends are told that they are up. */
  join(ends: readonly [SimBridge, Partial<PortSettings>?][], delay_ms = 0): Lan {
    const lan = new Lan(delay_ms);
    this.lans.push(lan);
    for (const [bridge, settings] of ends) {
      const port = bridge.lans.size + 1;
      bridge.lans.set(port, lan);
      lan.ends.push({ bridge, port });
      bridge.tree.addPort(port, { ...PORT, ...settings });
    }
    this.setUp(lan, true);
    return lan;
  }

  setUp(lan: Lan, isUp: boolean): void {
    lan.isUp = isUp;
    for (const { bridge, port } of lan.ends) {
      bridge.tree.setOperational(port, isUp);
      this.onEvent();
    }
  }

  send(from: SimBridge, port: number, bpdu: Bpdu): void {
    const lan = from.lans.get(port);
    if (lan === undefined || !lan.isUp) return;
    const source = lan.ends.find(end => end.bridge === from && end.port === port)!;
    if (lan.mute.has(source)) return;
    const copy = { ...bpdu };
    for (const end of lan.ends)
      if (end !== source)
        this.#at(this.now_ms + lan.delay_ms, () => {
          if (lan.isUp) end.bridge.tree.receive(end.port, copy);
        });
  }

  #at(at_ms: number, run: () => void): void {
    this.#queue.push({ at_ms, order: this.#order++, run });
  }

  run(duration_ms: number): void {
    const end_ms = this.now_ms + duration_ms;
    for (;;) {
      let first: Due | undefined;
      for (const due of this.#queue)
        if (
          first === undefined ||
          due.at_ms < first.at_ms ||
          (due.at_ms === first.at_ms && due.order < first.order)
        )
          first = due;
      if (first === undefined || first.at_ms > end_ms) break;
      this.#queue.splice(this.#queue.indexOf(first), 1);
      this.now_ms = first.at_ms;
      first.run();
      this.onEvent();
    }
    this.now_ms = end_ms;
  }

  /** A LAN with two or more forwarding ends joins their bridges; more joins than a forest has is a loop. */
  loop(): string | null {
    const forest = new Union();
    for (const [index, lan] of this.lans.entries()) {
      if (!lan.isUp) continue;
      for (const { bridge, port } of lan.ends)
        if (bridge.isForwarding(port) && !forest.join(`lan ${index}`, bridge.name))
          return `a loop through ${bridge.name} port ${port}`;
    }
    return null;
  }

  /** Null when bridges and LANs that cables connect are connected by forwarding ports too. */
  disconnected(): string | null {
    const cables = new Union();
    const forwarding = new Union();
    const nodes = new Set<string>();
    for (const [index, lan] of this.lans.entries()) {
      if (!lan.isUp) continue;
      for (const { bridge, port } of lan.ends) {
        nodes.add(`lan ${index}`).add(bridge.name);
        cables.join(`lan ${index}`, bridge.name);
        if (bridge.isForwarding(port)) forwarding.join(`lan ${index}`, bridge.name);
      }
    }
    for (const a of nodes)
      for (const b of nodes)
        if (cables.find(a) === cables.find(b) && forwarding.find(a) !== forwarding.find(b))
          return `${a} and ${b} are cabled but do not reach each other`;
    return null;
  }
}

/** Disjoint sets, by name. */
class Union {
  readonly #parent = new Map<string, string>();
  find(name: string): string {
    const parent = this.#parent.get(name);
    return parent === undefined ? name : this.find(parent);
  }
  /** False: they were together already. */
  join(a: string, b: string): boolean {
    const [rootA, rootB] = [this.find(a), this.find(b)];
    if (rootA === rootB) return false;
    this.#parent.set(rootA, rootB);
    return true;
  }
}

/** Numbers from a seed, so that a failure can be repeated. */
export function seeded(seed: number): (below: number) => number {
  let state = seed >>> 0 || 1;
  return below => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state % below;
  };
}
