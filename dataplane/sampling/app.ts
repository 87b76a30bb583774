/** sFlow of one switch: asked for each frame that was decided, tells counters by itself, hands datagrams out. */
import type { SamplingView, SwitchConfig, SwitchSampling } from '../contract.js';
import { parseIp } from '../../host/ip.js';
import { C } from '../engine/counters.js';
import { Timer } from '../engine/timers.js';
import type { Feature, FeaturePort, SwitchHost } from '../switch/feature.js';
import type { Packet } from '../switch/packet.js';
import { F_SAMPLE } from '../switch/stages.js';
import type { SampleStage, Stages } from '../switch/stages.js';
import { OUTPUT_DISCARDED, OUTPUT_MULTIPLE, DISCARD_UNKNOWN } from '../wire/sflow.js';
import { Sampler } from './sampler.js';

const TICK_EVERY_MS = 250;

/** Where datagrams go: to whoever has a socket. */
export type Export = (datagram: Uint8Array, collectors: SwitchSampling['collectors']) => void;

export class SamplingApp implements Feature, SampleStage {
  readonly #host: SwitchHost;
  readonly #stages: Stages;
  readonly #subAgent: number;
  readonly #export: Export;
  readonly #timer: Timer;
  #config: SwitchSampling | undefined;
  #sampler: Sampler | undefined;
  #ports: readonly FeaturePort[] = [];
  #nextPoll_ms = 0;

  constructor(host: SwitchHost, stages: Stages, send: Export) {
    this.#host = host;
    this.#stages = stages;
    // Tells the switches of one agent apart, and stays when the plane is started again.
    this.#subAgent = new DataView(host.address.buffer, host.address.byteOffset).getUint32(2);
    this.#export = send;
    this.#timer = new Timer(now_ms => this.#tick(now_ms));
  }

  configure(config: SwitchConfig, ports: readonly FeaturePort[]): void {
    this.#ports = ports;
    const next = config.sampling;
    for (const { port } of ports) this.#host.setFlag(port, F_SAMPLE, next !== undefined);
    if (JSON.stringify(next) === JSON.stringify(this.#config)) return;
    this.#stop();
    this.#config = next;
    this.#host.decisionsChanged();
    if (next === undefined) return;
    const { loop } = this.#host;
    const { collectors, rate, header_bytes } = next;
    const agent = parseIp(next.agent) ?? new Uint8Array(4);
    this.#sampler = new Sampler(
      { rate, header_bytes, agent, subAgent: this.#subAgent },
      loop.now_ms,
      Math.random,
      datagram => this.#export(datagram, collectors),
    );
    this.#stages.sampling = this;
    this.#nextPoll_ms = loop.now_ms + next.polling_s * 1000;
    loop.timers.arm(this.#timer, loop.now_ms + TICK_EVERY_MS);
  }

  portRemoved({ port }: FeaturePort): void {
    this.#sampler?.forgetPort(port);
  }

  /** After the decision. `egress`: the port it leaves by, -1 when by several, less when it was dropped. */
  decided(packet: Packet, egress: number): void {
    const sampler = this.#sampler;
    // A frame that was not seen could not be taken: none may be forwarded behind our back.
    packet.isLayer2Decision = false;
    if (sampler === undefined || !sampler.isDue()) return;
    const output =
      egress >= 0 ? egress + 1 : egress === -1 ? OUTPUT_MULTIPLE : OUTPUT_DISCARDED | DISCARD_UNKNOWN;
    const { port, vlan, priority } = packet;
    const facts = { port, output, vlan, priority };
    sampler.take(packet.view, packet.at, packet.length_bytes, facts, packet.now_ms);
  }

  show(what: string): SamplingView | undefined {
    if (what !== 'sampling' || this.#sampler === undefined || this.#config === undefined) return undefined;
    const { framesSeen, framesSampled, datagrams } = this.#sampler;
    const { rate, collectors } = this.#config;
    return { framesSeen, framesSampled, datagrams, collectors, rate };
  }

  close(): void {
    this.#stop();
  }

  #stop(): void {
    this.#host.loop.timers.cancel(this.#timer);
    this.#sampler?.flush();
    this.#sampler = undefined;
    this.#stages.sampling = undefined;
  }

  #tick(now_ms: number): void {
    const sampler = this.#sampler;
    const config = this.#config;
    if (sampler === undefined || config === undefined) return;
    if (now_ms >= this.#nextPoll_ms) {
      this.#nextPoll_ms = now_ms + config.polling_s * 1000;
      for (const { port, link } of this.#ports) {
        const row = link.counters;
        sampler.tellCounters(
          port,
          {
            isUp: link.isUp,
            inOctets: row[C.ifHCInOctets]!,
            inUnicast: row[C.ifHCInUcastPkts]!,
            inMulticast: row[C.ifHCInMulticastPkts]!,
            inBroadcast: row[C.ifHCInBroadcastPkts]!,
            inDiscards: 0,
            inErrors: row[C.ifInErrors]!,
            outOctets: row[C.ifHCOutOctets]!,
            outUnicast: row[C.ifHCOutUcastPkts]!,
            outMulticast: row[C.ifHCOutMulticastPkts]!,
            outBroadcast: row[C.ifHCOutBroadcastPkts]!,
            outDiscards: row[C.dropQueueFull]! + row[C.dropNotUp]!,
            outErrors: row[C.ifOutErrors]!,
          },
          now_ms,
        );
      }
    }
    sampler.tick(now_ms);
    this.#host.loop.timers.arm(this.#timer, now_ms + TICK_EVERY_MS);
  }
}
