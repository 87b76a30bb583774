/**
 * Which frames are taken, and the datagrams that tell of them (sFlow version 5). Pure: time and chance are passed in,
 * datagrams are handed out.
 *
 * Frames to be left out are drawn at random with a mean of rate - 1 (sFlow v5, "Packet flow sampling"), so that no
 * rhythm of the traffic falls in with ours. A frame that is not taken costs a decrement.
 */
import * as sflow from '../wire/sflow.js';
import type { FlowSample, InterfaceCounters } from '../wire/sflow.js';

/** Keeps a datagram whole on a path of 1500 octets, IPv6 included. */
export const DATAGRAM_MAX_BYTES = 1400;
/** A sample is told this soon, even when its datagram is not full. */
export const FLUSH_AFTER_MS = 1000;

export interface SamplerOptions {
  rate: number;
  header_bytes: number;
  /** 4 or 16 octets. */
  agent: Uint8Array;
  /** Tells switches of one agent apart. */
  subAgent: number;
}

interface PortSequence {
  flows: number;
  counters: number;
  pool: number;
}

export class Sampler {
  readonly #options: SamplerOptions;
  readonly #random: () => number;
  readonly #send: (datagram: Uint8Array) => void;
  readonly #startedAt_ms: number;
  readonly #buffer = new Uint8Array(DATAGRAM_MAX_BYTES);
  #out = new sflow.XdrWriter(this.#buffer);
  #samples = 0;
  #openedAt_ms = 0;
  #left: number;
  readonly #ports = new Map<number, PortSequence>();
  framesSeen = 0;
  framesSampled = 0;
  datagrams = 0;

  /** `random` as Math.random. `send` is given a datagram of its own each time. */
  constructor(
    options: SamplerOptions,
    now_ms: number,
    random: () => number,
    send: (datagram: Uint8Array) => void,
  ) {
    this.#options = options;
    this.#startedAt_ms = now_ms;
    this.#random = random;
    this.#send = send;
    this.#left = this.#draw();
  }

  /** 1 to 2 * rate - 1, all alike: mean `rate`. */
  #draw(): number {
    return 1 + Math.floor(this.#random() * (2 * this.#options.rate - 1));
  }

  /** Asked for each frame: whether to take this one. */
  isDue(): boolean {
    this.framesSeen++;
    if (--this.#left > 0) return false;
    this.#left = this.#draw();
    return true;
  }

  /** `port`s are told as port + 1: sFlow's interfaces begin at 1. `output`: as sFlow has it. */
  take(
    view: DataView,
    at: number,
    length_bytes: number,
    facts: { port: number; output: number; vlan: number; priority: number },
    now_ms: number,
  ): void {
    const header_bytes = Math.min(length_bytes, this.#options.header_bytes);
    this.#reserve(sflow.flowSampleLength(header_bytes), now_ms);
    const sequence = this.#sequenceOf(facts.port);
    sequence.pool += this.#options.rate;
    const sample: FlowSample = {
      sequence: ++sequence.flows,
      source: facts.port + 1,
      rate: this.#options.rate,
      pool: sequence.pool,
      drops: 0,
      input: facts.port + 1,
      output: facts.output,
      frame_bytes: length_bytes,
      vlan: facts.vlan,
      priority: facts.priority,
    };
    sflow.emitFlowSample(this.#out, sample, view, at, header_bytes);
    this.#samples++;
    this.framesSampled++;
  }

  /** `counters.index` is set here. */
  tellCounters(port: number, counters: Omit<InterfaceCounters, 'index'>, now_ms: number): void {
    this.#reserve(sflow.COUNTERS_SAMPLE_BYTES, now_ms);
    const sequence = ++this.#sequenceOf(port).counters;
    sflow.emitCountersSample(this.#out, sequence, { ...counters, index: port + 1 });
    this.#samples++;
  }

  /** To be called now and then: sends what has waited long enough. */
  tick(now_ms: number): void {
    if (this.#samples > 0 && now_ms - this.#openedAt_ms >= FLUSH_AFTER_MS) this.flush();
  }

  flush(): void {
    if (this.#samples === 0) return;
    sflow.setSampleCount(this.#out, this.#options.agent, this.#samples);
    this.#samples = 0;
    this.datagrams++;
    this.#send(this.#buffer.slice(0, this.#out.at));
  }

  forgetPort(port: number): void {
    this.#ports.delete(port);
  }

  #sequenceOf(port: number): PortSequence {
    let sequence = this.#ports.get(port);
    if (sequence === undefined) this.#ports.set(port, (sequence = { flows: 0, counters: 0, pool: 0 }));
    return sequence;
  }

  /** Room for one sample more: sends what is there if it is too much, begins a datagram if there is none. */
  #reserve(sample_bytes: number, now_ms: number): void {
    if (this.#samples > 0 && this.#out.at + sample_bytes > DATAGRAM_MAX_BYTES) this.flush();
    if (this.#samples > 0) return;
    this.#out = new sflow.XdrWriter(this.#buffer);
    this.#openedAt_ms = now_ms;
    const { agent, subAgent } = this.#options;
    sflow.emitDatagramHeader(
      this.#out,
      agent,
      subAgent,
      this.datagrams + 1,
      Math.floor(now_ms - this.#startedAt_ms),
    );
  }
}
