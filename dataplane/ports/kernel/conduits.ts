/**
 * Conduits: cables (veth) from the switch's network namespace to that of a tap which was moved elsewhere, for the
 * frames that the kernel forwards. They carry nothing but what the programs at their ends put on them: no
 * addresses, no IPv6, frames of any length.
 *
 *   namespace of a container          |   namespace of weft-dataplane
 *   [tap] --gate--> [weft-1f2e.0p] ===|=== [weft-1f2e.0] --forward--> …
 *
 * The four digits are this process's own, and claimed (host/claim.ts) in its namespace: cables of a process that
 * was killed are known by a claim that nobody holds, and removed by the next one that starts.
 */
import { writeFileSync } from 'node:fs';
import { claim, claims, endClaim } from '../../../host/claim.js';
import { ENODEV, HostError } from '../../../host/errno.js';
import { addVeth, deleteLink, deleteLinkGroup, linkByName, links, setLink } from '../../../host/netlink.js';
import { inNetns } from '../../../host/netns.js';

const PREFIX = 'weft-';
/** Largest that a veth takes. A super-frame is not asked. */
const MTU_BYTES = 65_535;
/** IFNAMSIZ allows four characters for the number and one for the far end's letter. */
const NUMBERS_MAX_COUNT = 36 ** 4;

/** Interfaces of one process are of one group, so that they can go together. */
const groupOf = (id: string): number => 0x7766_0000 | Number.parseInt(id, 16);

export interface Conduit {
  /** In the namespace of the switch. */
  readonly ifname: string;
  readonly home: number;
  /** In the tap's namespace: its index there. */
  readonly away: number;
}

export function nameOf(id: string, number: number): string {
  return `${PREFIX}${id}.${number.toString(36)}`;
}

/** The digits of the process that made it, or undefined for an interface that is no conduit's near end. */
export function idOf(ifname: string): string | undefined {
  return /^weft-([0-9a-f]{4})\.[0-9a-z]{1,4}$/.exec(ifname)?.[1];
}

function quieten(ifname: string): void {
  try {
    writeFileSync(`/proc/sys/net/ipv6/conf/${ifname}/disable_ipv6`, '1');
  } catch {
    // No IPv6 in this kernel: as quiet as wished.
  }
}

export class Conduits {
  readonly #id: string;
  readonly #claim: number;
  #next = 0;

  /** `random` has no bounds to keep: 0 <= random() < 1. */
  constructor(random: () => number) {
    for (let attempt = 0; ; attempt++) {
      const id = Math.floor(random() * 0x1_0000)
        .toString(16)
        .padStart(4, '0');
      try {
        this.#claim = claim(PREFIX + id);
        this.#id = id;
        return;
      } catch (error) {
        if (attempt >= 16 || !(error instanceof HostError) || error.code !== 'EADDRINUSE') throw error;
      }
    }
  }

  /** Removes what dead processes left in this namespace. Returns the names. */
  removeLeftovers(): string[] {
    const alive = claims(PREFIX);
    const dead = new Map<string, string[]>();
    for (const { name, kind } of links()) {
      const id = idOf(name);
      // Our own digits: of an earlier process that happened to have the same.
      if (kind !== 'veth' || id === undefined || (id !== this.#id && alive.has(PREFIX + id))) continue;
      dead.set(id, [...(dead.get(id) ?? []), name]);
    }
    for (const id of dead.keys()) deleteLinkGroup(groupOf(id));
    return [...dead.values()].flat();
  }

  make(netns: number): Conduit {
    const ifname = nameOf(this.#id, this.#next);
    this.#next = (this.#next + 1) % NUMBERS_MAX_COUNT;
    const far = `${ifname}p`;
    addVeth(ifname, far, { peerNetns: netns, group: groupOf(this.#id) });
    try {
      const away = inNetns(netns, () => rise(far));
      return { ifname, home: rise(ifname), away };
    } catch (error) {
      this.#delete(ifname);
      throw error;
    }
  }

  /** Either end may be gone already, with its namespace or by somebody's hand. */
  remove({ ifname }: Conduit): void {
    this.#delete(ifname);
  }

  #delete(ifname: string): void {
    try {
      deleteLink(ifname);
    } catch (error) {
      if (!(error instanceof HostError) || error.errno !== ENODEV) throw error;
    }
  }

  /** All of them at once. */
  removeAll(): void {
    try {
      deleteLinkGroup(groupOf(this.#id));
    } catch (error) {
      if (!(error instanceof HostError) || error.errno !== ENODEV) throw error;
    }
  }

  /** Those that are still there are nobody's from now on. */
  close(): void {
    endClaim(this.#claim);
  }
}

function rise(ifname: string): number {
  quieten(ifname);
  setLink(ifname, { mtu_bytes: MTU_BYTES, up: true });
  const link = linkByName(ifname);
  if (link === undefined) throw new HostError('RTM_GETLINK', ENODEV, ifname);
  return link.index;
}
