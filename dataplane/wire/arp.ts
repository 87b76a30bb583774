/**
 * ARP for IPv4 over Ethernet (RFC 826): 28 octets behind the Ethernet header.
 *
 *   0 hardware 1 | 2 protocol 0x0800 | 4 lengths 6, 4 | 6 operation
 *   8 sender MAC | 14 sender IP      | 18 target MAC  | 24 target IP
 */
export const HARDWARE = 0;
export const PROTOCOL = 2;
export const HARDWARE_LENGTH = 4;
export const PROTOCOL_LENGTH = 5;
export const OPERATION = 6;
export const SENDER_MAC = 8;
export const SENDER_IP = 14;
export const TARGET_MAC = 18;
export const TARGET_IP = 24;
export const LENGTH = 28;

export const REQUEST = 1;
export const REPLY = 2;

export interface Packet {
  operation: number;
  /** Octets 0-1 and 2-5, as everywhere (wire/ethernet.ts). */
  senderMacHigh: number;
  senderMacLow: number;
  senderIp: number;
  targetMacHigh: number;
  targetMacLow: number;
  targetIp: number;
}

/** It is all there, and of the one kind that is spoken today: Ethernet and IPv4. */
export function check(view: DataView, at: number, end: number): boolean {
  return (
    end - at >= LENGTH &&
    view.getUint32(at) === 0x0001_0800 &&
    view.getUint16(at + HARDWARE_LENGTH) === 0x0604
  );
}

export function parse(view: DataView, at: number, out: Packet): void {
  out.operation = view.getUint16(at + OPERATION);
  out.senderMacHigh = view.getUint16(at + SENDER_MAC);
  out.senderMacLow = view.getInt32(at + SENDER_MAC + 2);
  out.senderIp = view.getInt32(at + SENDER_IP);
  out.targetMacHigh = view.getUint16(at + TARGET_MAC);
  out.targetMacLow = view.getInt32(at + TARGET_MAC + 2);
  out.targetIp = view.getInt32(at + TARGET_IP);
}

export function emit(view: DataView, at: number, packet: Packet): number {
  view.setUint32(at, 0x0001_0800);
  view.setUint16(at + HARDWARE_LENGTH, 0x0604);
  view.setUint16(at + OPERATION, packet.operation);
  view.setUint16(at + SENDER_MAC, packet.senderMacHigh);
  view.setInt32(at + SENDER_MAC + 2, packet.senderMacLow);
  view.setInt32(at + SENDER_IP, packet.senderIp);
  view.setUint16(at + TARGET_MAC, packet.targetMacHigh);
  view.setInt32(at + TARGET_MAC + 2, packet.targetMacLow);
  view.setInt32(at + TARGET_IP, packet.targetIp);
  return LENGTH;
}
