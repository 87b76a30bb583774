/**
 * Who speaks most on a switch, while somebody asks: watches the frames that come in for some seconds and adds them up
 * by conversation (addresses, protocol, ports).
 *
 * Up to a bounded number of frames per tenth of a second each is looked at; beyond it one in SPARSE, at random,
 * which then stands for as many. A busy switch is slowed down little, and a quiet one is told of exactly.
 */
import type { FrameTable } from '../engine/frames.js';
import { AT, FRAME_WORDS, LENGTH, W0 } from '../engine/frames.js';
import type { Link, Observer } from '../engine/link.js';
import { observe, stopObserving } from '../engine/observers.js';
import { formatIp } from '../../host/ip.js';
import { parse } from '../switch/headers.js';
import { Packet } from '../switch/packet.js';
import * as ethernet from '../wire/ethernet.js';
import * as ipv4 from '../wire/ipv4.js';
import * as ipv6 from '../wire/ipv6.js';

export interface Talker {
  /** The port that the frames came in by. */
  port: string;
  sourceMac: string;
  destinationMac: string;
  etherType: number;
  /** IP protocol; null when it is not IP. */
  protocol: number | null;
  /** IP addresses, else null. */
  source: string | null;
  destination: string | null;
  sourcePort: number | null;
  destinationPort: number | null;
  frames: number;
  bytes: number;
}

export interface TalkersResult {
  /** By bytes, most first. */
  talkers: Talker[];
  /** All that came in, the talkers' included. */
  frames: number;
  bytes: number;
  /** Conversations beyond what is kept. */
  untold: number;
  seconds: number;
}

const EXACT_PER_TENTH_COUNT = 500;
const SPARSE = 32;
const TALKERS_MAX_COUNT = 20_000;

export class Talkers implements Observer {
  readonly #links: readonly Link[];
  readonly #view: DataView;
  readonly #packet: Packet;
  readonly #random: () => number;
  readonly #startedAt_ms: number;
  readonly #talkers = new Map<string, Talker>();
  #frames = 0;
  #bytes = 0;
  #untold = 0;
  #tenth = 0;
  #takenInTenth = 0;
  #skip = 0;

  constructor(links: readonly Link[], view: DataView, now_ms: number, random: () => number) {
    this.#links = links;
    this.#view = view;
    this.#packet = new Packet(view);
    this.#startedAt_ms = now_ms;
    this.#random = random;
    for (const link of links) observe(link, this);
  }

  /** Ends it. At most `limit` talkers. */
  finish(now_ms: number, limit: number): TalkersResult {
    this.close();
    const talkers = [...this.#talkers.values()].sort((a, b) => b.bytes - a.bytes).slice(0, limit);
    const seconds = (now_ms - this.#startedAt_ms) / 1000;
    return { talkers, frames: this.#frames, bytes: this.#bytes, untold: this.#untold, seconds };
  }

  close(): void {
    for (const link of this.#links) stopObserving(link, this);
  }

  sending(): void {}

  received(link: Link, frames: FrameTable, first: number, end: number): void {
    const tenth = Math.floor(link.loop.now_ms / 100);
    if (tenth !== this.#tenth) {
      this.#tenth = tenth;
      this.#takenInTenth = 0;
      this.#skip = 0;
    }
    for (let frame = first; frame < end; frame++) {
      const w = frame * FRAME_WORDS;
      const length_bytes = frames.words[w + LENGTH]!;
      this.#frames++;
      this.#bytes += length_bytes;
      if (this.#skip > 0) {
        this.#skip--;
        continue;
      }
      let weight = 1;
      if (++this.#takenInTenth > EXACT_PER_TENTH_COUNT) {
        // 0 to 2 * SPARSE - 2 are left out before the next: SPARSE - 1 in the mean.
        this.#skip = Math.floor(this.#random() * (2 * SPARSE - 1));
        weight = SPARSE;
      }
      this.#account(link, frames.words[w + AT]!, length_bytes, frames.words[w + W0]!, weight);
    }
  }

  #account(link: Link, at: number, length_bytes: number, w0: number, weight: number): void {
    if (length_bytes < ethernet.LENGTH) return;
    const packet = this.#packet;
    packet.at = at;
    packet.length_bytes = length_bytes;
    packet.w0 = w0;
    packet.isParsed = false;
    parse(packet);
    const found = this.#describe(link.name);
    const key = JSON.stringify(found);
    let talker = this.#talkers.get(key);
    if (talker === undefined) {
      if (this.#talkers.size >= TALKERS_MAX_COUNT) {
        this.#untold++;
        return;
      }
      talker = { ...found, frames: 0, bytes: 0 };
      this.#talkers.set(key, talker);
    }
    talker.frames += weight;
    talker.bytes += weight * length_bytes;
  }

  #describe(port: string): Omit<Talker, 'frames' | 'bytes'> {
    const packet = this.#packet;
    const { l3At, ipVersion } = packet;
    const hasPorts = packet.l4At !== 0 && (packet.sourcePort | packet.destinationPort) !== 0;
    let source: string | null = null;
    let destination: string | null = null;
    if (ipVersion === 4) {
      source = this.#address(l3At + ipv4.SOURCE, 4);
      destination = this.#address(l3At + ipv4.DESTINATION, 4);
    } else if (ipVersion === 6) {
      source = this.#address(l3At + ipv6.SOURCE, 16);
      destination = this.#address(l3At + ipv6.DESTINATION, 16);
    }
    return {
      port,
      sourceMac: ethernet.addressAt(this.#view, packet.at + ethernet.SOURCE),
      destinationMac: ethernet.addressAt(this.#view, packet.at),
      etherType: packet.etherType,
      protocol: ipVersion === 0 ? null : packet.protocol,
      source,
      destination,
      sourcePort: hasPorts ? packet.sourcePort : null,
      destinationPort: hasPorts ? packet.destinationPort : null,
    };
  }

  #address(at: number, length_bytes: number): string {
    return formatIp(new Uint8Array(this.#view.buffer, this.#view.byteOffset + at, length_bytes));
  }
}
