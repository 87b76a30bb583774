/**
 * sFlow version 5 (sflow.org, "sFlow Version 5", July 2004): what an agent tells its collectors. XDR (RFC 4506): all
 * big-endian, everything a multiple of four octets.
 *
 *   datagram   version 5 | agent address | sub agent | sequence | uptime ms | n | samples …
 *   sample     format | length | flow sample: one frame's first octets   or   counters sample: one port's totals
 *
 * Only written, never read: a collector says nothing to an agent.
 */

// Specification constants.
export const VERSION = 5;
export const ADDRESS_IPV4 = 1;
export const ADDRESS_IPV6 = 2;
export const SAMPLE_FLOW = 1;
export const SAMPLE_COUNTERS = 2;
export const RECORD_SAMPLED_HEADER = 1;
export const RECORD_EXTENDED_SWITCH = 1001;
export const RECORD_INTERFACE_COUNTERS = 1;
export const HEADER_ETHERNET = 1;
/** Of an output interface: the two top bits say what the rest is. */
export const OUTPUT_DISCARDED = 0x4000_0000;
export const OUTPUT_MULTIPLE = 0x8000_0000;
/** Of a discarded frame: 256 unknown (5.x "reason codes"). */
export const DISCARD_UNKNOWN = 256;
export const IF_TYPE_ETHERNET = 6;
const FCS_BYTES = 4;

export const DATAGRAM_HEADER_MAX_BYTES = 40;

/** What a flow sample needs besides the octets of the frame, for bounds: headers, and the octets rounded up. */
export function flowSampleLength(header_bytes: number): number {
  return 8 + 32 + 8 + 16 + ((header_bytes + 3) & ~3) + 8 + 16;
}

export const COUNTERS_SAMPLE_BYTES = 8 + 12 + 8 + 88;

export interface FlowSample {
  sequence: number;
  /** Of the interface that the frame came in by. */
  source: number;
  /** One frame of so many is taken. */
  rate: number;
  /** Frames that could have been taken. */
  pool: number;
  drops: number;
  input: number;
  output: number;
  frame_bytes: number;
  vlan: number;
  priority: number;
}

export interface InterfaceCounters {
  index: number;
  isUp: boolean;
  inOctets: number;
  inUnicast: number;
  inMulticast: number;
  inBroadcast: number;
  inDiscards: number;
  inErrors: number;
  outOctets: number;
  outUnicast: number;
  outMulticast: number;
  outBroadcast: number;
  outDiscards: number;
  outErrors: number;
}

/** Writes words one after the other; the caller has looked at the room. */
export class XdrWriter {
  readonly view: DataView;
  at = 0;

  constructor(bytes: Uint8Array) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Counters wrap at 32 bits. */
  word(value: number): void {
    this.view.setUint32(this.at, value % 0x1_0000_0000);
    this.at += 4;
  }

  /** 64 bits of a whole number up to 2^53. */
  hyper(value: number): void {
    this.word(Math.floor(value / 0x1_0000_0000));
    this.word(value);
  }
}

/** `address`: 4 or 16 octets. The number of samples is put in by `setSampleCount`. */
export function emitDatagramHeader(
  out: XdrWriter,
  address: Uint8Array,
  subAgent: number,
  sequence: number,
  uptime_ms: number,
): void {
  out.word(VERSION);
  out.word(address.length === 4 ? ADDRESS_IPV4 : ADDRESS_IPV6);
  for (const octet of address) out.view.setUint8(out.at++, octet);
  out.word(subAgent);
  out.word(sequence);
  out.word(uptime_ms);
  out.word(0);
}

export function setSampleCount(out: XdrWriter, address: Uint8Array, count: number): void {
  out.view.setUint32(8 + address.length + 12, count);
}

/** `header_bytes` octets of the frame at `at` of `view`. */
export function emitFlowSample(
  out: XdrWriter,
  sample: FlowSample,
  view: DataView,
  at: number,
  header_bytes: number,
): void {
  const padded_bytes = (header_bytes + 3) & ~3;
  out.word(SAMPLE_FLOW);
  out.word(flowSampleLength(header_bytes) - 8);
  out.word(sample.sequence);
  out.word(sample.source);
  out.word(sample.rate);
  out.word(sample.pool);
  out.word(sample.drops);
  out.word(sample.input);
  out.word(sample.output);
  out.word(2);
  out.word(RECORD_SAMPLED_HEADER);
  out.word(16 + padded_bytes);
  out.word(HEADER_ETHERNET);
  out.word(sample.frame_bytes + FCS_BYTES);
  out.word(FCS_BYTES);
  out.word(header_bytes);
  for (let i = 0; i < padded_bytes; i++)
    out.view.setUint8(out.at++, i < header_bytes ? view.getUint8(at + i) : 0);
  out.word(RECORD_EXTENDED_SWITCH);
  out.word(16);
  out.word(sample.vlan);
  out.word(sample.priority);
  out.word(sample.vlan);
  out.word(sample.priority);
}

export function emitCountersSample(out: XdrWriter, sequence: number, counters: InterfaceCounters): void {
  out.word(SAMPLE_COUNTERS);
  out.word(COUNTERS_SAMPLE_BYTES - 8);
  out.word(sequence);
  out.word(counters.index);
  out.word(1);
  out.word(RECORD_INTERFACE_COUNTERS);
  out.word(88);
  out.word(counters.index);
  out.word(IF_TYPE_ETHERNET);
  // ifSpeed: a virtual port has none. ifDirection 1: full duplex.
  out.hyper(0);
  out.word(1);
  // Bit 0: wanted up; bit 1: is up.
  out.word(counters.isUp ? 3 : 1);
  out.hyper(counters.inOctets);
  out.word(counters.inUnicast);
  out.word(counters.inMulticast);
  out.word(counters.inBroadcast);
  out.word(counters.inDiscards);
  out.word(counters.inErrors);
  out.word(0xffff_ffff);
  out.hyper(counters.outOctets);
  out.word(counters.outUnicast);
  out.word(counters.outMulticast);
  out.word(counters.outBroadcast);
  out.word(counters.outDiscards);
  out.word(counters.outErrors);
  out.word(2);
}
