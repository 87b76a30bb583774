/**
 * What an active-backup aggregate sends when it moves to another member: for each station behind it one broadcast
 * with that station's source address, so that the switches on the new way learn at once where it is. The frame is a
 * RARP request of the station for itself (RFC 903), which bridges everywhere carry and no station answers.
 */
import type { PortVlan } from '../contract/vlan.js';

export const LENGTH = 60;
const TYPE_RARP = 0x8035;
const RARP_REQUEST = 3;
const TYPE_CVLAN = 0x8100;

/** Of a VLAN on a port. */
export interface Tagging {
  /** -1: frames of this VLAN do not leave by this port. */
  vid: number;
  isTagged: boolean;
  tpid: number;
}

const within = (ranges: readonly (readonly [number, number])[], vlan: number): boolean =>
  ranges.some(([first, last]) => vlan >= first && vlan <= last);

/** How a frame of a VLAN leaves by a port with this membership. */
export function taggingOf(port: PortVlan, vlan: number): Tagging {
  const none = { vid: -1, isTagged: false, tpid: TYPE_CVLAN };
  switch (port.mode) {
    case 'access':
    case 'tunnel':
      return port.vlan === vlan ? { ...none, vid: vlan } : none;
    case 'trunk': {
      const vid = port.translate?.find(([, inside]) => inside === vlan)?.[0] ?? vlan;
      const tpid = port.tpid ?? TYPE_CVLAN;
      if (port.native === vlan) return { vid: vlan, isTagged: false, tpid };
      return within(port.allowed, vlan) ? { vid, isTagged: true, tpid } : none;
    }
    case 'hybrid': {
      const vid = port.translate?.find(([, inside]) => inside === vlan)?.[0] ?? vlan;
      if (within(port.untagged, vlan)) return { vid: vlan, isTagged: false, tpid: TYPE_CVLAN };
      return within(port.tagged, vlan) ? { vid, isTagged: true, tpid: TYPE_CVLAN } : none;
    }
  }
}

/** Writes the whole frame; `station` is six octets. Returns its length. */
export function emit(
  view: DataView,
  at: number,
  station: Uint8Array,
  { vid, isTagged, tpid }: Tagging,
): number {
  const length = isTagged ? LENGTH + 4 : LENGTH;
  for (let i = 0; i < length; i++) view.setUint8(at + i, i < 6 ? 0xff : 0);
  const put = (to: number): void => {
    for (let i = 0; i < 6; i++) view.setUint8(to + i, station[i] ?? 0);
  };
  put(at + 6);
  let typeAt = at + 12;
  if (isTagged) {
    view.setUint16(typeAt, tpid);
    view.setUint16(typeAt + 2, vid);
    typeAt += 4;
  }
  view.setUint16(typeAt, TYPE_RARP);
  const rarp = typeAt + 2;
  // Ethernet, IPv4, address lengths 6 and 4.
  view.setUint16(rarp, 1);
  view.setUint16(rarp + 2, 0x0800);
  view.setUint16(rarp + 4, 0x0604);
  view.setUint16(rarp + 6, RARP_REQUEST);
  put(rarp + 8);
  put(rarp + 18);
  return length;
}
