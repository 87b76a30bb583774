/**
 * Ethernet frames for the lab, made and read a second time here, apart from dataplane/wire, so that the two
 * can disagree. Only what tests say about frames: addresses, tags, a type and a payload.
 */

export interface Tag {
  readonly vlan: number;
  /** 0x8100 unless said otherwise; 0x88a8 is the outer tag of 802.1ad. */
  readonly tpid?: number;
  readonly priority?: number;
}

export interface FrameSpec {
  readonly to: string;
  readonly from: string;
  readonly tags?: readonly Tag[];
  /** IEEE 802 local experimental 1 unless said otherwise: no stack answers it. */
  readonly type?: number;
  readonly payload?: string | Uint8Array;
  /** Padded with zeros to so much. 60 is the least that Ethernet carries, without its FCS. */
  readonly length_bytes?: number;
}

export const EXPERIMENTAL_TYPE = 0x88b5;
export const BROADCAST = 'ff:ff:ff:ff:ff:ff';

const macBytes = (mac: string): number[] => mac.split(':').map(byte => Number.parseInt(byte, 16));
const word = (value: number): number[] => [(value >> 8) & 0xff, value & 0xff];

export function frame(spec: FrameSpec): Uint8Array {
  const payload = typeof spec.payload === 'string' ? new TextEncoder().encode(spec.payload) : spec.payload;
  const bytes = [
    ...macBytes(spec.to),
    ...macBytes(spec.from),
    ...(spec.tags ?? []).flatMap(tag => [
      ...word(tag.tpid ?? 0x8100),
      ...word(((tag.priority ?? 0) << 13) | tag.vlan),
    ]),
    ...word(spec.type ?? EXPERIMENTAL_TYPE),
    ...(payload ?? []),
  ];
  const padded = new Uint8Array(Math.max(spec.length_bytes ?? 60, bytes.length));
  padded.set(bytes);
  return padded;
}

export const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
