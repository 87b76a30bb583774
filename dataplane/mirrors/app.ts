/**
 * Mirror sessions of a switch: copies of frames to where someone watches. The pipeline tells of each frame that came
 * in by a watched port, once its VLAN is known and before anything else is decided about it, and of each that leaves by
 * one, with what is done to its tag; a flow rule hands over frames of its own (`take`).
 *
 * A copy is one more entry of the frame table for the same buffer. So it shows what was on the wire: on the way in the
 * frame as it came, on the way out as it leaves. A session has a frame once, whichever of its ports it passes: as it
 * came, if that is watched, else as it leaves by the first.
 *
 * The port that copies go to carries nothing else: it is kept from forwarding like one that spanning tree blocks, and
 * spanning tree leaves it alone. A copy is sent past the pipeline, so it is never copied again.
 */
import { mirrorDestinations } from '../contract/mirrorDestinations.js';
import type { MirrorSession, MirrorsView, SwitchConfig } from '../contract.js';
import { FRAME_WORDS, LENGTH, W0, W1, W2 } from '../engine/frames.js';
import type { Link } from '../engine/link.js';
import { SWITCH_COUNTERS } from '../switch/counters.js';
import { DISCARDING, FORWARDING } from '../switch/feature.js';
import type { Feature, FeaturePort, SwitchHost } from '../switch/feature.js';
import type { Packet } from '../switch/packet.js';
import { F_MIRROR } from '../switch/stages.js';
import type { MirrorStage, Stages } from '../switch/stages.js';
import * as vlan from '../wire/vlan.js';
import { exitOf } from './exits.js';
import { Sampler } from './sampler.js';
import { Selection } from './selection.js';
import type { Watch } from './selection.js';

/** As the contract has it. */
const PORTS_MAX_COUNT = 4096;
const COUNTERS = ['frames', 'octets', 'cut', 'notSampled', 'dropNotUp', 'dropNoRoom'] as const;
const [FRAMES, OCTETS, CUT, NOT_SAMPLED, NOT_UP, NO_ROOM] = [0, 1, 2, 3, 4, 5] as const;

const MIRRORED = SWITCH_COUNTERS.indexOf('mirroredFrames');
const LOST = SWITCH_COUNTERS.indexOf('mirroredFramesLost');

/** A port that copies leave by. */
interface Exit {
  readonly link: Link;
  /** VLAN to tag them with; 0: without a tag; -1: as they are. */
  readonly tag: number;
}

interface Session {
  config: MirrorSession;
  readonly counters: Float64Array;
  sampler: Sampler;
  exits: Exit[];
  problem: string | null;
}

export class MirrorApp implements Feature, MirrorStage {
  readonly #host: SwitchHost;
  readonly #stages: Stages;
  #sessions: Session[] = [];
  #selection = new Selection([], 0);
  #destinations = new Set<number>();
  #config: SwitchConfig | undefined;
  #ports = new Map<number, FeaturePort>();
  readonly #sources = new Uint8Array(PORTS_MAX_COUNT);

  constructor(host: SwitchHost, stages: Stages) {
    this.#host = host;
    this.#stages = stages;
  }

  configure(config: SwitchConfig, ports: readonly FeaturePort[]): void {
    this.#config = config;
    this.#ports = new Map(ports.map(port => [port.port, port]));
    this.#compile();
  }

  portAdded(port: FeaturePort): void {
    this.#ports.set(port.port, port);
    this.#compile();
  }

  portRemoved(port: FeaturePort): void {
    this.#ports.delete(port.port);
    // Its number may be another port's next.
    this.#destinations.delete(port.port);
    this.#compile();
  }

  close(): void {
    this.#config = undefined;
    this.#ports.clear();
    this.#compile();
  }

  // --- frame path ------------------------------------------------------------------------------------------

  isSource(port: number): boolean {
    return this.#sources[port] !== 0;
  }

  seen(packet: Packet, egress: number, edit: number): void {
    const sessions =
      egress < 0 ? this.#selection.in(packet.port, packet.vlan) : this.#selection.out(egress, packet.vlan);
    const rest = sessions & ~packet.mirrored;
    if (rest !== 0) this.#copy(packet, rest, edit);
  }

  take(packet: Packet, sessions: number): void {
    const allowed = this.#selection.allowed(sessions, packet.vlan) & ~packet.mirrored;
    if (allowed !== 0) this.#copy(packet, allowed, vlan.EDIT_NONE);
  }

  #copy(packet: Packet, sessions: number, edit: number): void {
    packet.isLayer2Decision = false;
    packet.mirrored |= sessions;
    for (let rest = sessions; rest !== 0; rest &= rest - 1) {
      const session = this.#sessions[31 - Math.clz32(rest & -rest)]!;
      if (session.sampler.takes()) this.#send(session, packet, edit);
      else session.counters[NOT_SAMPLED]!++;
    }
  }

  #send(session: Session, packet: Packet, edit: number): void {
    const { counters, exits } = session;
    const frame = this.#entry(session, packet);
    if (frame < 0) {
      counters[NO_ROOM]!++;
      this.#host.counters[LOST]!++;
      return;
    }
    let copies = 0;
    for (let i = 0; i < exits.length; i++) {
      const { link, tag } = exits[i]!;
      // Into a VLAN: not back to where it came from, nor into a loop.
      if (tag >= 0 && (link.sinkIndex === packet.port || this.#host.isBlocked(link.sinkIndex))) continue;
      if (!link.isUp) continue;
      link.send(frame, tag < 0 ? edit : retag(packet, tag));
      copies++;
    }
    if (copies === 0) {
      counters[NOT_UP]!++;
      this.#host.counters[LOST]!++;
      return;
    }
    counters[FRAMES]!++;
    this.#host.counters[MIRRORED]!++;
    counters[OCTETS]! += this.#host.loop.frames.words[frame * FRAME_WORDS + LENGTH]!;
  }

  /**
   * A number of its own for the copy, as every number is at most once in a link's queue, which is how a queue never
   * overflows; -1: the table has no room. Shortened if the session says so.
   */
  #entry(session: Session, packet: Packet): number {
    const { frames } = this.#host.loop;
    if (frames.free === 0) return -1;
    frames.pushCopy(packet.frame);
    const copy = frames.count - 1;
    const { snaplen_bytes } = session.config;
    if (snaplen_bytes === undefined || packet.length_bytes <= snaplen_bytes) return copy;
    const w = copy * FRAME_WORDS;
    frames.words[w + LENGTH] = snaplen_bytes;
    // What is cut short has no checksum to complete and is no super-frame to cut up.
    frames.words[w + W0] = 0;
    frames.words[w + W1] = 0;
    frames.words[w + W2] = 0;
    session.counters[CUT]!++;
    return copy;
  }

  // --- configuration ---------------------------------------------------------------------------------------

  #compile(): void {
    const configs = this.#config?.mirrors ?? [];
    const before = new Map(this.#sessions.map(session => [session.config.name, session]));
    if (configs.length === 0 && before.size === 0) return;
    const byName = new Map([...this.#ports.values()].map(port => [port.config.name, port]));
    this.#sessions = configs.map(config => this.#session(config, before.get(config.name), byName));

    const numbers = (names: readonly string[]): number[] =>
      names.flatMap(name => byName.get(name)?.port ?? []);
    const watches: Watch[] = configs.map(config => ({
      in: numbers(config.in),
      out: numbers(config.out),
      vlans: config.vlans,
      toVlan: 'vlan' in config.destination ? config.destination.vlan : 0,
    }));
    const portsEnd = Math.max(-1, ...this.#ports.keys()) + 1;
    this.#selection = new Selection(watches, portsEnd);
    this.#sources.fill(0);
    for (const port of watches.flatMap(watch => watch.out)) this.#sources[port] = 1;
    this.#flag(watches);
    this.#stages.mirrors = configs.length === 0 ? undefined : this;
    this.#keepDestinations(numbers(mirrorDestinations(this.#config?.mirrors)));
    this.#host.decisionsChanged();
  }

  /** A watched VLAN, and a port watched on the way out, may be reached from any port. */
  #flag(watches: readonly Watch[]): void {
    const all = watches.some(({ out, vlans }) => out.length > 0 || vlans.length > 0);
    const watched = new Set(watches.flatMap(watch => watch.in));
    for (const port of this.#ports.keys()) this.#host.setFlag(port, F_MIRROR, all || watched.has(port));
  }

  #session(
    config: MirrorSession,
    before: Session | undefined,
    byName: ReadonlyMap<string, FeaturePort>,
  ): Session {
    const { destination } = config;
    const exits: Exit[] = [];
    let problem: string | null = null;
    if ('port' in destination) {
      const port = byName.get(destination.port);
      if (port === undefined) problem = `there is no port ${destination.port} now`;
      else exits.push({ link: port.link, tag: -1 });
    } else {
      const reserved = new Set(mirrorDestinations(this.#config?.mirrors));
      for (const port of byName.values()) {
        const tag = reserved.has(port.config.name) ? undefined : exitOf(port.config.vlan, destination.vlan);
        if (tag !== undefined) exits.push({ link: port.link, tag });
      }
      if (exits.length === 0) problem = `no port is in VLAN ${destination.vlan}`;
    }
    const unknown = [...config.in, ...config.out].filter(name => !byName.has(name));
    if (problem === null && unknown.length > 0) problem = `there is no port ${unknown[0] ?? ''} now`;
    const oneIn = config.oneIn ?? 1;
    return {
      config,
      counters: before?.counters ?? new Float64Array(COUNTERS.length),
      sampler: before?.sampler.oneIn === oneIn ? before.sampler : new Sampler(oneIn),
      exits,
      problem,
    };
  }

  /** What becomes a destination stops forwarding; what was one is given back, unless spanning tree takes it up. */
  #keepDestinations(ports: readonly number[]): void {
    const hasTree = (this.#config?.spanningTree?.mode ?? 'off') !== 'off';
    const next = new Set(ports);
    for (const port of next) this.#host.setPortState(port, DISCARDING);
    for (const port of this.#destinations)
      if (!next.has(port) && !hasTree) this.#host.setPortState(port, FORWARDING);
    this.#destinations = next;
  }

  show(what: string): MirrorsView | undefined {
    if (what !== 'mirrors') return undefined;
    return {
      sessions: this.#sessions.map(({ config, counters, problem, exits }) => ({
        name: config.name,
        in: config.in,
        out: config.out,
        vlans: config.vlans,
        destination:
          'port' in config.destination ? config.destination.port : `VLAN ${config.destination.vlan}`,
        snaplen_bytes: config.snaplen_bytes ?? null,
        oneIn: config.oneIn ?? 1,
        problem: problem ?? (exits.some(({ link }) => link.isUp) ? null : 'where its copies go is not up'),
        counters: Object.fromEntries(COUNTERS.map((name, index) => [name, counters[index]!])),
      })),
    };
  }
}

/** The edit that puts a frame, as it came, into a VLAN: in the place of its tag, with its priority. */
function retag(packet: Packet, tag: number): number {
  const isTagged = vlan.isTagged(packet.view, packet.at);
  if (tag === 0) return isTagged ? vlan.EDIT_REMOVE : vlan.EDIT_NONE;
  if (!isTagged) return vlan.EDIT_ADD | tag;
  return vlan.EDIT_REPLACE | (vlan.tci(packet.view, packet.at) & ~vlan.VID_MASK) | tag;
}
