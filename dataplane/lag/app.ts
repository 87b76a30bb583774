/**
 * An aggregate of links as one port of a switch (IEEE 802.1AX-2014 clause 6). To the switch's link it is a Port, to
 * its members' links it is the Sink; the relay knows nothing of it.
 *
 *      switch --- link "uplink" --- AggregatePort --+-- link "eth1" --- its port
 *                                                    +-- link "eth2" --- its port
 *
 *   out   transmit: a frame's hash names a bucket, the bucket a member; the frame goes on that member's queue, which
 *         the same flush sends (a link that becomes dirty while flushing is flushed as well).
 *   in    input: slow protocols are taken out here, on every member; of what remains, frames of members that do not
 *         collect are dropped and counted, the others enter the switch as if the aggregate had received them.
 *
 * Who carries is decided by machines that know no link: group.ts (LACP), linkGroup.ts (static, active-backup). Every
 * change of theirs ends in `#adopt`, which shares out the buckets and says how the port is.
 */
import type { LagDevice, LagSettings, PortFaults, PortVlan, SimpleDevice } from '../contract.js';
import { SLOT_ROOM_BYTES } from '../engine/arena.js';
import { C } from '../engine/counters.js';
import { AT, FRAME_WORDS, LENGTH } from '../engine/frames.js';
import type { FrameTable, Queue } from '../engine/frames.js';
import { Link } from '../engine/link.js';
import type { Sink } from '../engine/link.js';
import type { Port } from '../engine/port.js';
import { Timer } from '../engine/timers.js';
import { FaultyPort } from '../ports/faulty.js';
import { countSent } from '../ports/sent.js';
import * as ethernet from '../wire/ethernet.js';
import * as lacp from '../wire/lacp.js';
import * as slow from '../wire/slowProtocols.js';
import * as vlan from '../wire/vlan.js';
import * as announce from './announce.js';
import { M, Member, memberAddress } from './appMember.js';
import type { PortNumbers } from './appMember.js';
import { Buckets } from './buckets.js';
import { LacpGroup, collects, distributes } from './group.js';
import type { GroupSettings } from './group.js';
import * as hash from './hash.js';
import { chooseActive, chooseStatic } from './linkGroup.js';
import { reasonOf } from './words.js';

/** What an aggregate needs of who keeps it. */
export interface AggregateHost {
  makePort(link: Link, device: SimpleDevice, faults: PortFaults | undefined): Port;
  numbers: PortNumbers;
  /** Six octets: the switch's own address, which is the LACP system unless the settings name one. */
  address: Uint8Array;
  /** Stations that the switch has learned, with the name of their port. */
  stations(): readonly { mac: string; vlan: number; port: string }[];
}

/** Takes LLDP frames of members: they are the link's, not the aggregate's. */
export type LldpReceiver = (link: Link, at: number, length_bytes: number) => void;

const LLDP_TYPE = 0x88cc;
/** Stations announced after a move at most, and how many at a time. */
const STATIONS_ANNOUNCED_MAX = 4096;
const ANNOUNCED_PER_TICK = 64;
const ANNOUNCE_EVERY_MS = 10;

const aggregates = new WeakMap<Link, AggregatePort>();

/** The aggregate behind a switch's link, if there is one. */
export function aggregateOf(link: Link): AggregatePort | undefined {
  return aggregates.get(link);
}

/**
 * As configured; else one of this switch of this host alone, the same after every start. Two hosts whose switches have
 * one name must not have one address: each would take the other's LACPDUs for its own.
 */
export function systemAddress(configured: string | undefined, switchName: string, host: string): Uint8Array {
  const address = new Uint8Array(6);
  const view = new DataView(address.buffer);
  if (configured !== undefined) {
    ethernet.emitAddress(view, 0, configured);
    return address;
  }
  view.setUint16(0, hashOf(`${switchName} of ${host}`));
  view.setInt32(2, hashOf(`${host} has ${switchName}`));
  // IEEE 802-2014 8.4.2: locally administered, and no group's.
  address[0] = (address[0]! & 0xfc) | 0x02;
  return address;
}

/** FNV-1a. */
function hashOf(text: string): number {
  let hashed = 0x811c_9dc5;
  for (let i = 0; i < text.length; i++) hashed = Math.imul(hashed ^ text.charCodeAt(i), 0x0100_0193);
  return hashed;
}

export class AggregatePort implements Port, Sink {
  readonly kind = 'lag';
  readonly link: Link;
  readonly #host: AggregateHost;
  /** By their links' sinkIndex. */
  readonly #members: (Member | undefined)[] = [];
  readonly #buckets = new Buckets();
  readonly #group: LacpGroup | undefined;
  readonly #timer: Timer;
  readonly #flushSoon: Timer;
  readonly #announcer: Timer;
  readonly #pdu = lacp.blank();
  readonly #marker = slow.blankMarker();
  #settings: LagSettings;
  #vlan: PortVlan;
  #faults: PortFaults | undefined;
  #isL34: boolean;
  /** Number of the one member that carries; -1 when there are several or none. */
  #only = -1;
  #active: Member | undefined;
  #unannounced: { station: Uint8Array; tagging: announce.Tagging }[] = [];
  #isOpen = false;
  bucketsMoved = 0;
  onLldp: LldpReceiver | undefined;
  /** Members came or went, or their links did. */
  onMembers: (() => void) | undefined;

  constructor(
    link: Link,
    device: LagDevice,
    portVlan: PortVlan,
    faults: PortFaults | undefined,
    host: AggregateHost,
  ) {
    this.link = link;
    this.#host = host;
    this.#settings = device.settings;
    this.#vlan = portVlan;
    this.#faults = faults;
    this.#isL34 = device.settings.balance === 'l34';
    if (device.settings.mode === 'lacp')
      this.#group = new LacpGroup(this.#groupSettings(), port => this.#sendLacpdu(port.name));
    this.#timer = new Timer(now_ms => this.#tick(now_ms));
    this.#flushSoon = new Timer(() => link.loop.flush());
    this.#announcer = new Timer(now_ms => this.#announceSome(now_ms));
    aggregates.set(link, this);
    for (const config of device.members) this.#addMember(config);
  }

  get settings(): LagSettings {
    return this.#settings;
  }

  get members(): Member[] {
    return this.#members.filter(member => member !== undefined);
  }

  get group(): LacpGroup | undefined {
    return this.#group;
  }

  bucketCounts(): Map<number, number> {
    return this.#buckets.counts();
  }

  // --- life ----------------------------------------------------------------------------------------------------

  open(): void {
    this.#isOpen = true;
    for (const member of this.members) member.link.port?.open();
    this.#decide();
  }

  close(): void {
    // What its members do from here on is no news.
    this.#isOpen = false;
    this.onMembers = undefined;
    for (const member of this.members) this.#removeMember(member);
    const { timers } = this.link.loop;
    for (const timer of [this.#timer, this.#flushSoon, this.#announcer]) timers.cancel(timer);
  }

  /**
   * The first half of a change: what must go goes, so that its device is free for whoever is opened next. False: the
   * change cannot be had without making the aggregate anew, and nothing was done.
   */
  retire(device: LagDevice, faults: PortFaults | undefined): boolean {
    if (device.settings.mode !== this.#settings.mode || !this.#takeFaults(faults)) return false;
    const minLinks = Math.min(device.settings.minLinks, this.#settings.minLinks);
    this.#setSettings({ ...device.settings, minLinks });
    const wanted = new Map(device.members.map(config => [config.name, JSON.stringify(config.device)]));
    for (const member of this.members)
      if (wanted.get(member.name) !== JSON.stringify(member.config.device)) this.#removeMember(member);
    return true;
  }

  /** The second half: what is new is opened. Members that stay are not touched. */
  configure(device: LagDevice, portVlan: PortVlan): void {
    this.#vlan = portVlan;
    const wanted = new Map(device.members.map(config => [config.name, config]));
    for (const member of this.members)
      this.#reconfigureMember(member, wanted.get(member.name) ?? member.config);
    const there = new Set(this.members.map(({ name }) => name));
    const added = device.members
      .filter(({ name }) => !there.has(name))
      .map(config => this.#addMember(config));
    for (const member of added) member.link.port?.open();
    this.#setSettings(device.settings);
    this.#decide();
    if (added.length > 0) this.onMembers?.();
  }

  /** New ones count before members go, but for a higher minimum, which counts once all are there. */
  #setSettings(settings: LagSettings): void {
    this.#settings = settings;
    this.#isL34 = settings.balance === 'l34';
    this.#group?.configure(this.#groupSettings(), this.link.loop.now_ms);
  }

  #takeFaults(faults: PortFaults | undefined): boolean {
    if (JSON.stringify(faults) === JSON.stringify(this.#faults)) return true;
    if (faults === undefined || this.#faults === undefined) return false;
    this.#faults = faults;
    for (const { link } of this.members) if (link.port instanceof FaultyPort) link.port.setFaults(faults);
    return true;
  }

  #addMember(config: LagDevice['members'][number]): Member {
    let index = this.#members.indexOf(undefined);
    if (index < 0) index = this.#members.length;
    const { loop } = this.link;
    const link = new Link(loop, config.name, this, index);
    const number = this.#host.numbers.take();
    const member = new Member(config, link, number, memberAddress(this.#host.address, number));
    this.#members[index] = member;
    member.lacp = this.#group?.add(config.name, number, config.priority, loop.now_ms);
    link.port = this.#host.makePort(link, config.device, this.#faults);
    return member;
  }

  #reconfigureMember(member: Member, config: LagDevice['members'][number]): void {
    member.config = config;
    member.priority = config.priority;
    if (member.lacp !== undefined)
      this.#group?.setPortPriority(member.lacp, config.priority, this.link.loop.now_ms);
  }

  #removeMember(member: Member): void {
    const { loop } = this.link;
    const { link } = member;
    if (member.lacp !== undefined && member.isUp) {
      // Else the partner would go on sending here until it notices the silence: up to 90 s.
      this.#group?.leave(member.lacp, loop.now_ms);
      loop.flush();
    }
    this.#members[link.sinkIndex] = undefined;
    link.port?.close();
    loop.forget(link);
    this.#host.numbers.release(member.number);
    member.isUp = false;
    if (member.lacp !== undefined) this.#group?.remove(member.lacp, loop.now_ms);
    if (this.#active === member) this.#active = undefined;
    if (this.#isOpen) this.#decide();
    this.onMembers?.();
  }

  #groupSettings(): GroupSettings {
    const { minLinks, maxLinks, upDelay_ms, lacp: words } = this.#settings;
    const system = Uint8Array.from(this.#host.address);
    if (words?.system !== undefined) ethernet.emitAddress(new DataView(system.buffer), 0, words.system);
    const view = new DataView(system.buffer);
    return {
      minLinks,
      maxLinks: maxLinks ?? Infinity,
      upDelay_ms,
      fallback: words?.fallback ?? false,
      isActive: words?.activity !== 'passive',
      isFast: words?.timeout === 'fast',
      isCoupled: words?.control === 'coupled',
      systemPriority: words?.systemPriority ?? 32_768,
      systemHigh16: view.getUint16(0),
      systemLow32: view.getUint32(2),
      key: words?.key ?? this.link.sinkIndex + 1,
    };
  }

  // --- who carries -----------------------------------------------------------------------------------------------

  /** A member's link went up or down. */
  memberChanged(link: Link): void {
    const member = this.#members[link.sinkIndex];
    if (member === undefined || member.link !== link || member.isUp === link.isUp) return;
    const now_ms = link.loop.now_ms;
    member.isUp = link.isUp;
    member.upAt_ms = now_ms;
    if (member.lacp !== undefined) this.#group?.setEnabled(member.lacp, link.isUp, now_ms);
    if (this.#isOpen) this.#decide();
    this.onMembers?.();
  }

  #tick(now_ms: number): void {
    this.#group?.run(now_ms);
    this.#decide();
    this.link.loop.flush();
  }

  #decide(): void {
    const { timers, now_ms } = this.link.loop;
    const { members } = this;
    let wakeAt_ms: number;
    if (this.#group !== undefined) {
      for (const member of members) {
        member.isCollecting = collects(member.lacp!);
        member.isDistributing = distributes(member.lacp!);
      }
      wakeAt_ms = this.#group.wakeAt_ms(now_ms);
    } else {
      wakeAt_ms = this.#decideAlone(members, now_ms);
    }
    this.#adopt(members);
    if (wakeAt_ms === Infinity) timers.cancel(this.#timer);
    else timers.arm(this.#timer, wakeAt_ms);
  }

  #decideAlone(members: readonly Member[], now_ms: number): number {
    const { mode, minLinks, upDelay_ms, primary = null, revertDelay_ms } = this.#settings;
    const { carrying, wakeAt_ms } =
      mode === 'static'
        ? chooseStatic(members, { minLinks, upDelay_ms }, now_ms)
        : chooseActive(members, this.#active, { primary, revertDelay_ms, upDelay_ms }, now_ms);
    for (const member of members) member.isCollecting = member.isDistributing = carrying.includes(member);
    if (mode === 'activeBackup') {
      const moved = this.#active !== carrying[0];
      this.#active = carrying[0];
      if (moved && this.#active !== undefined && this.#settings.announce) this.#announceAll();
    }
    return wakeAt_ms;
  }

  #adopt(members: readonly Member[]): void {
    const carrying = members.filter(({ isDistributing }) => isDistributing).map(({ link }) => link.sinkIndex);
    this.bucketsMoved += this.#buckets.share(carrying);
    this.#only = carrying.length === 1 ? carrying[0]! : -1;
    const { now_ms } = this.link.loop;
    const reason = reasonOf(members, this.#settings, member => this.isLooped(member, now_ms));
    this.link.setState(carrying.length > 0 ? 'up' : 'connecting', reason);
  }

  isLooped(member: Member, now_ms: number): boolean {
    return member.lacp !== undefined && this.#group?.isLooped(member.lacp, now_ms) === true;
  }

  // --- frames ----------------------------------------------------------------------------------------------------

  /** Frames come from members, by `input`. */
  receive(): boolean {
    return false;
  }

  transmit(frames: FrameTable, queue: Queue): void {
    const { words } = frames;
    const { view } = this.link.loop.pool.arena;
    const row = this.link.counters;
    const { table } = this.#buckets;
    const only = this.#only;
    const isL34 = this.#isL34;
    const { count } = queue;
    // A scheduler that held frames back sends them from a table of its own; members are sent from the turn's.
    const own = this.link.loop.frames;
    const isHeld = frames !== own;
    for (let i = 0; i < count; i++) {
      const frame = queue.frame(i);
      const edit = queue.edit(i);
      let index = only;
      if (index < 0) {
        const w = frame * FRAME_WORDS;
        const at = words[w + AT]!;
        const length_bytes = words[w + LENGTH]!;
        index =
          table[isL34 ? hash.l34(view, at, length_bytes, edit) : hash.l2(view, at, length_bytes, edit)]!;
      }
      if (index < 0) {
        row[C.dropNotUp]!++;
        continue;
      }
      if (isHeld && own.free === 0) {
        row[C.dropQueueFull]!++;
        continue;
      }
      countSent(row, view, frames, frame, edit);
      if (isHeld) own.pushCopy(frame, frames);
      this.#members[index]!.link.send(isHeld ? own.count - 1 : frame, edit);
    }
  }

  input(link: Link, frames: FrameTable, first: number, end: number): void {
    const member = this.#members[link.sinkIndex]!;
    const { words } = frames;
    const { view } = link.loop.pool.arena;
    const row = link.counters;
    let octets = 0;
    let from = first;
    for (let frame = first; frame < end; frame++) {
      const w = frame * FRAME_WORDS;
      const at = words[w + AT]!;
      const length_bytes = words[w + LENGTH]!;
      octets += length_bytes;
      // What is cut shorter than a header is counted by the switch.
      if (length_bytes < ethernet.LENGTH) continue;
      if (!ethernet.isGroup(view, at)) {
        row[C.ifHCInUcastPkts]!++;
        continue;
      }
      row[ethernet.isBroadcast(view, at) ? C.ifHCInBroadcastPkts : C.ifHCInMulticastPkts]!++;
      if (ethernet.isReservedGroup(view, at) && this.#control(member, view, at, length_bytes)) {
        this.#pass(member, frames, from, frame);
        from = frame + 1;
      }
    }
    row[C.ifHCInOctets]! += octets;
    this.#pass(member, frames, from, end);
  }

  #pass(member: Member, frames: FrameTable, first: number, end: number): void {
    if (first === end) return;
    if (!member.isCollecting) {
      member.link.counters[M.dropNotCollecting]! += end - first;
      return;
    }
    const { link } = this;
    if (link.observer !== undefined) link.observer.received(link, frames, first, end);
    link.sink.input(link, frames, first, end);
  }

  /** True: it was for us. Anything else to a reserved address (a BPDU) is the switch's, if the member collects. */
  #control(member: Member, view: DataView, at: number, length_bytes: number): boolean {
    if (slow.isSlow(view, at)) {
      if (length_bytes > slow.SUBTYPE_AT) this.#slowFrame(member, view, at, at + length_bytes);
      else member.count(M.slowFramesUnknown);
      return true;
    }
    if (ethernet.type(view, at) !== LLDP_TYPE || this.onLldp === undefined) return false;
    this.onLldp(member.link, at, length_bytes);
    return true;
  }

  #slowFrame(member: Member, view: DataView, at: number, end: number): void {
    const subtype = view.getUint8(at + slow.SUBTYPE_AT);
    if (subtype === slow.SUBTYPE_LACP) this.#lacpFrame(member, view, at, end);
    else if (subtype === slow.SUBTYPE_MARKER) this.#markerFrame(member, view, at, end);
    else member.count(M.slowFramesUnknown);
  }

  #lacpFrame(member: Member, view: DataView, at: number, end: number): void {
    if (!lacp.check(view, at, end)) {
      member.count(M.lacpPdusInvalid);
    } else if (this.#group === undefined || member.lacp === undefined) {
      member.count(M.lacpPdusUnexpected);
    } else if (!member.mayReadLacpdu(member.link.loop.now_ms)) {
      member.count(M.lacpPdusExcessive);
    } else {
      member.count(M.lacpPdusIn);
      lacp.parse(view, at, this.#pdu);
      if (!this.#group.received(member.lacp, this.#pdu, member.link.loop.now_ms))
        member.count(M.lacpPdusLooped);
      this.#decide();
    }
  }

  /** 6.5.4.2: the responder; responses to markers that we did not send say nothing to us. */
  #markerFrame(member: Member, view: DataView, at: number, end: number): void {
    const marker = this.#marker;
    if (!slow.checkMarker(view, at, end)) {
      member.count(M.slowFramesUnknown);
      return;
    }
    member.count(M.markersIn);
    slow.parseMarker(view, at, marker);
    if (marker.type !== slow.MARKER_INFORMATION || !member.mayAnswerMarker(member.link.loop.now_ms)) return;
    marker.type = slow.MARKER_RESPONSE;
    const sent = this.#sendOwn(member, (out, outAt) => slow.emitMarker(out, outAt, marker, member.address));
    if (sent) member.count(M.markersAnswered);
  }

  #sendLacpdu(name: string): void {
    const member = this.members.find(each => each.name === name);
    if (member?.lacp === undefined) return;
    const { actor, partner } = member.lacp;
    const pdu = { version: lacp.VERSION, actor, partner, collectorMaxDelay_10us: 0 };
    const sent = this.#sendOwn(member, (view, at) => lacp.emit(view, at, pdu, member.address));
    if (sent) member.count(M.lacpPdusOut);
    else member.lacp.ntt = true;
  }

  /** False: no buffer, or the member's link is not up. */
  #sendOwn({ link }: Member, emit: (view: DataView, at: number) => number): boolean {
    const { loop } = link;
    const { pool, frames } = loop;
    if (!link.isUp) return false;
    if (frames.free === 0 || link.queue.isFull) {
      link.counters[C.dropNoBuffer]!++;
      return false;
    }
    const slot = pool.take();
    if (slot < 0) {
      link.counters[C.dropNoBuffer]!++;
      return false;
    }
    const at = pool.arena.slotAt(slot) + SLOT_ROOM_BYTES;
    const length_bytes = emit(pool.arena.view, at);
    frames.push(slot, at, length_bytes, 0, 0, 0, SLOT_ROOM_BYTES);
    link.send(frames.count - 1, vlan.EDIT_NONE);
    // Outside of a turn's receiving nobody else would flush before the next frame comes.
    loop.timers.arm(this.#flushSoon, loop.now_ms);
    return true;
  }

  // --- announcing a move -----------------------------------------------------------------------------------------

  #announceAll(): void {
    const { loop, name } = this.link;
    this.#unannounced = [];
    for (const { mac, vlan: vid, port } of this.#host.stations()) {
      if (port === name || this.#unannounced.length === STATIONS_ANNOUNCED_MAX) continue;
      const tagging = announce.taggingOf(this.#vlan, vid);
      if (tagging.vid < 0) continue;
      const station = new Uint8Array(6);
      ethernet.emitAddress(new DataView(station.buffer), 0, mac);
      this.#unannounced.push({ station, tagging });
    }
    if (this.#unannounced.length > 0) loop.timers.arm(this.#announcer, loop.now_ms);
  }

  #announceSome(now_ms: number): void {
    const member = this.#active;
    if (member === undefined) return;
    for (const { station, tagging } of this.#unannounced.splice(0, ANNOUNCED_PER_TICK))
      if (this.#sendOwn(member, (view, at) => announce.emit(view, at, station, tagging)))
        member.count(M.announcementsOut);
    this.link.loop.flush();
    if (this.#unannounced.length > 0) this.link.loop.timers.arm(this.#announcer, now_ms + ANNOUNCE_EVERY_MS);
  }
}
