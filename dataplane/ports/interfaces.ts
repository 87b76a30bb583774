/**
 * The host's interfaces as ports see them that use one: told of every change, and how it stands in words. One watch
 * for the engine, opened with the first who asks, closed with the last.
 *
 * A change is looked at at once; while changes keep coming (a host that starts hundreds of containers) everybody
 * looks again at most every LOOK_EVERY_MS.
 */
import { EPOLLIN } from '../../host/epoll.js';
import { drainLinkWatch, openLinkWatch } from '../../host/linkWatch.js';
import { linkByName } from '../../host/netlink.js';
import type { Link as HostLink } from '../../host/netlink.js';
import * as raw from '../../host/raw.js';
import type { LinkState } from '../engine/link.js';
import type { Loop, Watcher } from '../engine/loop.js';
import { Timer } from '../engine/timers.js';

const LOOK_EVERY_MS = 50;

export class Interfaces implements Watcher {
  readonly #loop: Loop;
  readonly #lookers = new Set<() => void>();
  readonly #again: Timer;
  #fd = -1;
  #token = -1;
  #lookedAt_ms = -Infinity;

  constructor(loop: Loop) {
    this.#loop = loop;
    this.#again = new Timer(() => this.#lookNow());
  }

  /** `look` is called after every change of some interface, until it is taken back. Throws HostError. */
  add(look: () => void): void {
    if (this.#fd < 0) {
      this.#fd = openLinkWatch();
      this.#token = this.#loop.watch(this.#fd, EPOLLIN, this);
    }
    this.#lookers.add(look);
  }

  remove(look: () => void): void {
    this.#lookers.delete(look);
    if (this.#lookers.size > 0 || this.#fd < 0) return;
    this.#loop.timers.cancel(this.#again);
    this.#loop.unwatch(this.#token);
    raw.close(this.#fd);
    this.#fd = -1;
  }

  ready(): void {
    if (!drainLinkWatch(this.#fd)) return;
    const due_ms = this.#lookedAt_ms + LOOK_EVERY_MS;
    if (this.#loop.now_ms >= due_ms) this.#lookNow();
    else if (!this.#again.isArmed) this.#loop.timers.arm(this.#again, due_ms);
  }

  #lookNow(): void {
    this.#lookedAt_ms = this.#loop.now_ms;
    for (const look of this.#lookers) look();
  }
}

const ofLoop = new WeakMap<Loop, Interfaces>();

/** Of this engine. */
export function interfacesOf(loop: Loop): Interfaces {
  let interfaces = ofLoop.get(loop);
  if (interfaces === undefined) ofLoop.set(loop, (interfaces = new Interfaces(loop)));
  return interfaces;
}

/** Undefined when there is none of that name, or it cannot be asked for. */
export function findInterface(ifname: string): HostLink | undefined {
  try {
    return linkByName(ifname);
  } catch {
    return undefined;
  }
}

/** Why an interface carries nothing; undefined when it does. */
export function whyNotUp(link: HostLink): { state: LinkState; reason: string } | undefined {
  if (!link.up)
    return { state: 'error', reason: `interface ${link.name} is down: ip link set ${link.name} up` };
  if (!link.running)
    return {
      state: 'connecting',
      reason: `interface ${link.name} has no carrier: is the cable in, and the other end up?`,
    };
  return undefined;
}

export const noSuchInterface = (ifname: string): string =>
  `this host has no interface ${ifname}, or no longer (deleted, renamed, or moved to another namespace); it is taken as soon as it is there`;
