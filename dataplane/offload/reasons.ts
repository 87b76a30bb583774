/**
 * Why a switch or a port keeps its frames to itself, as far as the configuration says: pure. What a frame's own
 * path says (rules that looked beyond layer 2, guards, a mirror that took a copy) is in Packet.isLayer2Decision.
 */
import type { PortConfig, SwitchConfig } from '../contract.js';

const isUsed = (words: object | undefined): boolean => words !== undefined && Object.keys(words).length > 0;

export function whyNotSwitch(config: SwitchConfig): string | null {
  if (config.offload?.mode === 'off') return 'offload is off for this switch';
  if (isUsed(config.sampling)) return 'sampling must see the frames of all ports';
  if (isUsed(config.qos?.vlans)) return 'rates of VLANs are kept by the switch';
  return null;
}

export function whyNotPort(config: PortConfig): string | null {
  if (config.faults !== undefined) return 'it makes deliberate faults';
  if (isUsed(config.qos)) return 'its rates and queues are kept by the switch';
  if (isUsed(config.guard)) return 'its guards must see every frame';
  return null;
}
