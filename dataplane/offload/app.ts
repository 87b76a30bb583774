/**
 * Hands flows that were decided by port, addresses and VLAN alone to the kernel, where both ports are the kernel's
 * own devices; the frames of such a flow then never come here. The pipeline stays the one that decides: a flow is
 * offloaded after it forwarded its first frames, and ends whenever something changes that it was decided by.
 *
 * Here is which ports take part and why others do not; appFlows.ts has the flows. The engine's thread writes and
 * reads the map of flows itself; hooks are tied in the thread beside it (ports/kernel/desk.ts), as that may take the
 * kernel tens of milliseconds.
 *
 * Once a second everything is looked at again: what the kernel counted goes into the counters of ports and switch;
 * stations that spoke are as young as if the engine had heard them; a flow whose stations are not where they were,
 * or which was idle, ends; taps that were moved to another namespace get other hooks.
 */
import type { OffloadView, PortConfig, SwitchConfig } from '../contract.js';
import type { Link } from '../engine/link.js';
import { Timer } from '../engine/timers.js';
import { interfacesOf } from '../ports/interfaces.js';
import { desk } from '../ports/kernel/desk.js';
import type { ShortcutDesk } from '../ports/kernel/desk.js';
import { tieFilter, untieFilter } from '../ports/kernel/flowMap.js';
import { PORT_MAX } from '../ports/kernel/layout.js';
import type { ShortcutReply } from '../ports/kernel/messages.js';
import { netnsOf, whereIs } from '../ports/kernel/place.js';
import type { WayOut } from '../ports/kernel/shortcut.js';
import { whyNot } from '../ports/kernel/shortcuts.js';
import { SWITCH_COUNTERS } from '../switch/counters.js';
import type { Feature, FeaturePort, SwitchHost } from '../switch/feature.js';
import type { Packet } from '../switch/packet.js';
import type { OffloadStage } from '../switch/stages.js';
import { OffloadedFlows } from './appFlows.js';
import type { Stations } from './appFlows.js';
import { whyNotPort, whyNotSwitch } from './reasons.js';

const TICK_MS = 1000;
/** A port that came up is looked at so soon. */
const FIRST_LOOK_MS = 100;
/** What the kernel refused is asked for again. */
const RETRY_MIN_MS = 1000;
const RETRY_MAX_MS = 30_000;
const OFFLOADED_FRAMES = SWITCH_COUNTERS.indexOf('offloadedFrames');
const OFFLOADED_OCTETS = SWITCH_COUNTERS.indexOf('offloadedOctets');

/** Longer than any question waits for its answer. */
const MAPS_KEPT_MS = 10_000;

interface OffloadPort {
  readonly feature: FeaturePort;
  /** Of the desk; 0: none asked for. */
  shortcut: number;
  way: WayOut | undefined;
  /** What the shortcut was opened for: where the device was. */
  place: string;
  /** The packet socket that was given a filter. */
  socket: number;
  reason: string | null;
  retryAt_ms: number;
  retry_ms: number;
}

export class Offload implements Feature, OffloadStage {
  readonly #host: SwitchHost;
  readonly #stations: Stations;
  readonly #desk: ShortcutDesk;
  readonly #timer: Timer;
  /** Some interface of the host changed: a tap may have been moved away. */
  readonly #changed = (): void => this.#lookForMoved();
  #isWatching = false;
  readonly #ports: (OffloadPort | undefined)[] = [];
  /** By port number: frames from it and to it may be offloaded. */
  #isOpen = new Uint8Array(64);
  #config: SwitchConfig | undefined;
  #configText = '';
  /** Why no flow of the switch is offloaded. */
  #reason: string | null = null;
  #flows: OffloadedFlows | undefined;

  constructor(host: SwitchHost, stations: Stations, shortcuts: ShortcutDesk = desk) {
    this.#host = host;
    this.#stations = stations;
    this.#desk = shortcuts;
    this.#timer = new Timer(now_ms => this.#tick(now_ms));
  }

  // --- what is configured -----------------------------------------------------------------------------------

  configure(config: SwitchConfig, ports: readonly FeaturePort[]): void {
    const text = JSON.stringify(config);
    const isSame = text === this.#configText;
    this.#config = config;
    this.#configText = text;
    for (const port of ports) if (this.#ports[port.port]?.feature !== port) this.portAdded(port);
    if (isSame) return;
    this.ended();
    this.#reason = whyNotSwitch(config);
    for (const entry of this.#ports)
      if (entry !== undefined && (this.#reason ?? this.#whyNot(entry)) !== null) this.#closePort(entry, true);
    this.#lookSoon();
  }

  portAdded(feature: FeaturePort): void {
    const { port } = feature;
    if (this.#ports[port] !== undefined) this.portRemoved(this.#ports[port].feature);
    if (port >= this.#isOpen.length) {
      const larger = new Uint8Array(port * 2);
      larger.set(this.#isOpen);
      this.#isOpen = larger;
    }
    this.#ports[port] = {
      feature,
      shortcut: 0,
      way: undefined,
      place: '',
      socket: -1,
      reason: null,
      retryAt_ms: 0,
      retry_ms: RETRY_MIN_MS,
    };
    this.#lookSoon();
  }

  portRemoved({ port }: FeaturePort): void {
    const entry = this.#ports[port];
    if (entry === undefined) return;
    this.#closePort(entry);
    this.#ports[port] = undefined;
  }

  portChanged({ port }: FeaturePort): void {
    const entry = this.#ports[port];
    if (entry === undefined) return;
    // Its device was closed or opened: hooks of the old one mean nothing.
    this.#closePort(entry);
    entry.retryAt_ms = 0;
    this.#lookSoon();
  }

  /** Somebody looks at the frames of this link, or does not any more. */
  observed(link: Link): void {
    const entry = this.#ports[link.sinkIndex];
    if (entry === undefined) return;
    if (link.observer !== undefined) this.#closePort(entry, true);
    this.#lookSoon();
  }

  /** Nothing that was decided so far counts: see SwitchHost.decisionsChanged. */
  ended(): void {
    this.#flows?.endAll();
  }

  close(): void {
    this.#host.loop.timers.cancel(this.#timer);
    for (const entry of this.#ports) if (entry !== undefined) this.#closePort(entry);
    this.#ports.length = 0;
    this.#watch(false);
    const flows = this.#flows;
    this.#flows = undefined;
    if (flows === undefined) return;
    flows.stop();
    // Not at once: a question on its way names the maps by their fds, which must not become other things meanwhile.
    const { timers, now_ms } = this.#host.loop;
    timers.arm(new Timer(() => flows.close()), now_ms + MAPS_KEPT_MS);
  }

  // --- frames -----------------------------------------------------------------------------------------------

  accepts(link: Link): boolean {
    return this.#isOpen[link.sinkIndex] === 1;
  }

  decided(packet: Packet, ingress: Link, egress: Link, edit: number): void {
    if (this.#isOpen[egress.sinkIndex] === 1 && this.#isOpen[ingress.sinkIndex] === 1)
      this.#flows?.decided(packet, ingress, egress, edit);
  }

  // --- once a second ----------------------------------------------------------------------------------------

  #lookSoon(): void {
    const { timers, now_ms } = this.#host.loop;
    if (!this.#timer.isArmed || this.#timer.due_ms > now_ms + FIRST_LOOK_MS)
      timers.arm(this.#timer, now_ms + FIRST_LOOK_MS);
  }

  /** At once: hooks of a device that was moved lead to whatever has their numbers there. */
  #lookForMoved(): void {
    for (const entry of this.#ports)
      if (entry !== undefined && entry.way !== undefined) this.#lookAtPort(entry);
  }

  #watch(isWanted: boolean): void {
    if (isWanted === this.#isWatching) return;
    const interfaces = interfacesOf(this.#host.loop);
    if (isWanted) {
      try {
        interfaces.add(this.#changed);
      } catch {
        // Looked at once a second then.
        return;
      }
    } else {
      interfaces.remove(this.#changed);
    }
    this.#isWatching = isWanted;
  }

  #tick(now_ms: number): void {
    this.#flows?.look(now_ms);
    const isWanted = this.#lookAtPorts(now_ms);
    this.#watch(isWanted);
    if (isWanted || this.#ports.some(entry => entry !== undefined))
      this.#host.loop.timers.arm(this.#timer, now_ms + TICK_MS);
  }

  /** True when there is something to look at again. */
  #lookAtPorts(now_ms: number): boolean {
    const config = this.#config;
    if (config === undefined) return false;
    let candidates = 0;
    for (const entry of this.#ports) {
      if (entry === undefined) continue;
      const reason = this.#reason ?? this.#whyNot(entry);
      if (reason === null) candidates++;
      else if (entry.shortcut !== 0) this.#closePort(entry);
      if (entry.shortcut === 0 && (reason !== null || now_ms >= entry.retryAt_ms)) entry.reason = reason;
    }
    for (const entry of this.#ports) {
      if (entry === undefined) continue;
      if (candidates < 2) {
        if (entry.shortcut !== 0) this.#closePort(entry);
        if (this.#reason === null && entry.reason === null) entry.reason = ALONE;
      } else if (entry.reason === null || entry.reason === ALONE) {
        this.#lookAtPort(entry);
      }
    }
    return candidates >= 2;
  }

  #whyNot(entry: OffloadPort): string | null {
    const { link, config, port } = entry.feature;
    if (port > PORT_MAX) return `there are more than ${PORT_MAX} ports`;
    const reason = whyNotPort(config);
    if (reason !== null) return reason;
    if (!link.isUp) return 'it is not up';
    if (link.scheduler !== undefined) return 'its queues are kept by the switch';
    if (link.observer !== undefined) return 'a capture sees its frames';
    if (link.port?.kernelDevice === undefined) return 'its frames do not come from a device of the kernel';
    return null;
  }

  #lookAtPort(entry: OffloadPort): void {
    const device = entry.feature.link.port?.kernelDevice?.();
    if (device === undefined) return;
    try {
      const where = whereIs(device);
      if (entry.shortcut !== 0) {
        if (where.place === entry.place) {
          // Nobody looks at its frames any more.
          if (entry.way !== undefined) this.#isOpen[entry.feature.port] = 1;
          return;
        }
        this.#closePort(entry);
      }
      const { maps } = this.#standingFlows();
      const { port } = entry.feature;
      const { kind, fd } = device;
      const netns = where.isHome ? undefined : netnsOf(fd);
      if (entry.place !== where.place) entry.retry_ms = RETRY_MIN_MS;
      entry.place = where.place;
      entry.reason = OPENING;
      entry.shortcut = this.#desk.open({ maps, port, kind, ifname: where.ifname, netns }, reply =>
        this.#opened(entry, kind === 'packet' ? fd : -1, reply),
      );
    } catch (error) {
      this.#closePort(entry);
      this.#failed(entry, whyNot(error));
    }
  }

  #failed(entry: OffloadPort, reason: string): void {
    entry.shortcut = 0;
    entry.reason = reason;
    entry.retryAt_ms = this.#host.loop.now_ms + entry.retry_ms;
    entry.retry_ms = Math.min(entry.retry_ms * 2, RETRY_MAX_MS);
  }

  /** The way of a port, if its device still is where the way leads. */
  #wayNow(port: number): WayOut | undefined {
    const entry = this.#ports[port];
    const device = entry?.feature.link.port?.kernelDevice?.();
    if (entry === undefined || device === undefined) return undefined;
    try {
      if (whereIs(device).place === entry.place) return entry.way;
    } catch {
      // Then it is nowhere.
    }
    this.#lookSoon();
    return undefined;
  }

  #standingFlows(): OffloadedFlows {
    this.#flows ??= new OffloadedFlows(
      this.#host,
      this.#stations,
      port => this.#ports[port]?.way,
      port => this.#wayNow(port),
      (frames, octets) => {
        const { counters } = this.#host;
        counters[OFFLOADED_FRAMES]! += frames;
        counters[OFFLOADED_OCTETS]! += octets;
      },
    );
    return this.#flows;
  }

  #opened(entry: OffloadPort, socket: number, reply: ShortcutReply): void {
    if ('reason' in reply) {
      this.#failed(entry, reply.reason);
      return;
    }
    if (reply.filter !== undefined && !tieFilter(socket, reply.filter)) {
      this.#closePort(entry);
      this.#failed(entry, 'its packet socket takes no filter');
      return;
    }
    entry.socket = reply.filter === undefined ? -1 : socket;
    entry.way = reply.way;
    entry.reason = null;
    this.#isOpen[entry.feature.port] = 1;
    // It may have been moved meanwhile.
    this.#lookAtPort(entry);
  }

  /** `keepHooks`: it will be wanted again soon; only its flows end. */
  #closePort(entry: OffloadPort, keepHooks = false): void {
    const { port, link } = entry.feature;
    if (this.#isOpen[port] === 1) {
      this.#isOpen[port] = 0;
      this.ended();
    }
    if (keepHooks) return;
    this.#flows?.forget(port);
    if (entry.socket >= 0 && link.port?.kernelDevice?.()?.fd === entry.socket) untieFilter(entry.socket);
    entry.socket = -1;
    if (entry.shortcut !== 0) this.#desk.close(entry.shortcut);
    entry.shortcut = 0;
    entry.way = undefined;
    entry.place = '';
    if (entry.reason === OPENING) entry.reason = null;
  }

  // --- to be looked at --------------------------------------------------------------------------------------

  show(what: string): OffloadView | undefined {
    if (what !== 'offload') return undefined;
    const view: OffloadView = {
      mode: this.#config?.offload?.mode ?? 'auto',
      reason: this.#reason,
      ports: [],
      flows: this.#flows?.list() ?? [],
    };
    for (const entry of this.#ports) {
      if (entry === undefined) continue;
      view.ports.push({
        port: entry.feature.config.name,
        reason: this.#reason ?? entry.reason,
        where: entry.way === undefined ? null : describe(entry.feature.config, entry.way),
      });
    }
    return view;
  }
}

const ALONE = 'no other port of its switch is a device of the kernel that could take part';
const OPENING = 'its hooks are being tied';

function describe({ device }: PortConfig, way: WayOut): string {
  if (device.kind !== 'tap') return 'tcx ingress of the interface';
  return way.hook === 'egress'
    ? 'tcx egress of the tap'
    : 'tcx egress of the tap, in its own network namespace, and a conduit to there';
}
