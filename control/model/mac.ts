/**
 * Addresses of network cards that no one chose: derived from the machine's name and the card's place in its
 * list, so that a guest keeps its address for ever, on every host, without our remembering anything.
 */
import { createHash } from 'node:crypto';

/** IEEE 802-2014 8.4: bit 0 of the first byte is "group", bit 1 "locally administered". */
const GROUP = 0x01;
const LOCAL = 0x02;

export function derivedMac(machine: string, index: number): string {
  const hash = createHash('sha256').update(`weft card ${index} of ${machine}`).digest();
  hash[0] = (hash[0]! & ~GROUP) | LOCAL;
  return Array.from(hash.subarray(0, 6), byte => byte.toString(16).padStart(2, '0')).join(':');
}

/** Cached: it is asked for every card on every turn of the reconciler. */
const known = new Map<string, string>();
const KNOWN_MAX = 100_000;

export function macOf(machine: string, index: number, chosen: string | undefined): string {
  if (chosen !== undefined) return chosen;
  const key = `${machine} ${index}`;
  let mac = known.get(key);
  if (mac === undefined) {
    if (known.size >= KNOWN_MAX) known.clear();
    mac = derivedMac(machine, index);
    known.set(key, mac);
  }
  return mac;
}
