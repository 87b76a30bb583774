/**
 * What a port's settings are when its configuration leaves them out: pure, from what the port is.
 *
 *   a guest's port (stream, dgram, vhost)    edge, with BPDU guard, tried again after 300 s
 *   pcap                                     edge: nobody is there to speak
 *   all others                               edge when no bridge has spoken for three seconds (AutoEdge)
 *
 * Guests get the guard because nobody expects a bridge in them, because one that speaks could make itself the root of
 * the network, and because a guest that bridges two of its cards would close a loop: BPDUs we send into the one come
 * out of the other, and the guard cuts it. It comes back by itself, since nobody watches a guest's port; a guest that
 * is meant to be a bridge has `bpduGuard: false`, and better `rootGuard: true`.
 */
import type { PortDevice, PortSpanningTree } from '../contract.js';
import type { PortSettings } from './variables.js';

/** 802.1D-2004 table 17-2. */
const PORT_PRIORITY = 128;
const GUEST_RECOVERY_S = 300;
/** Virtual ports have no speed; ten gigabits per second is nearer to what they do than any other step of the table. */
const ASSUMED_SPEED_BPS = 10e9;
/** Table 17-3: 20,000,000 for 1 Mb/s, 20,000 for 1 Gb/s, 2 for 10 Tb/s. */
const COST_TIMES_SPEED = 20e12;
const COST_MAX = 200_000_000;

export function pathCost(speed_bps: number): number {
  return Math.min(Math.max(Math.round(COST_TIMES_SPEED / speed_bps), 1), COST_MAX);
}

/** Of an aggregate: of its members together, whether or not they are up, so that the tree does not move with each. */
function assumedSpeed_bps(device: PortDevice): number {
  return device.kind === 'lag' ? ASSUMED_SPEED_BPS * Math.max(device.members.length, 1) : ASSUMED_SPEED_BPS;
}

function isGuests(device: PortDevice): boolean {
  return device.kind === 'stream' || device.kind === 'dgram' || device.kind === 'vhost';
}

export function portSettings(device: PortDevice, words: PortSpanningTree = {}): PortSettings {
  const edge = words.edge ?? (isGuests(device) || device.kind === 'pcap' ? true : 'auto');
  const pointToPoint = words.pointToPoint ?? 'auto';
  return {
    priority: words.priority ?? PORT_PRIORITY,
    pathCost: words.pathCost ?? pathCost(words.speed_bps ?? assumedSpeed_bps(device)),
    adminEdge: edge === true,
    autoEdge: edge !== false,
    pointToPoint:
      pointToPoint === 'auto' ? device.kind !== 'vxlan' || device.remotes.length <= 1 : pointToPoint,
    restrictedRole: words.rootGuard ?? false,
    restrictedTcn: words.restrictedTcn ?? false,
    loopGuard: words.loopGuard ?? false,
    // Who says that a guest's port is no edge, or is to keep its role, expects a bridge there.
    bpduGuard: words.bpduGuard ?? (isGuests(device) && edge === true && words.rootGuard !== true),
    guardRecovery_s: words.guardRecovery_s ?? GUEST_RECOVERY_S,
    bpduFilter: words.bpduFilter ?? false,
  };
}
