/**
 * What the kernel needs of one port to forward its decided flows: programs at its hooks and, where the port is a tap
 * in another network namespace, a conduit to there. Opening and closing may wait for the kernel some tens of
 * milliseconds, so this runs beside the engine, not in it.
 *
 *   tap, with us          tcx egress of the tap: forward
 *   tap, elsewhere        tcx egress of the tap: gate;  far end of the conduit, ingress: deliver;
 *                         near end of the conduit, ingress: forward
 *   interface of the host tcx ingress: forward; filter at its packet socket
 *
 * Everything hangs on fds of this process: nothing of it forwards a frame after our end, however we end. Only the
 * conduit itself stays behind, without an effect, until the next start (conduits.ts).
 */
import * as bpf from '../../../host/bpf.js';
import { ENODEV, HostError } from '../../../host/errno.js';
import { linkByName } from '../../../host/netlink.js';
import { inNetns } from '../../../host/netns.js';
import { close } from '../../../host/raw.js';
import * as program from './program.js';
import type { Maps } from './program.js';
import { HOW_IN, HOW_OUT, HOW_PEER } from './layout.js';
import type { How } from './layout.js';
import type { Conduit, Conduits } from './conduits.js';

export interface ShortcutRequest {
  readonly maps: Maps;
  readonly port: number;
  readonly kind: 'tap' | 'packet';
  readonly ifname: string;
  /** Where a tap is, as an fd that is the caller's; undefined: with us. */
  readonly netns: number | undefined;
}

/** How frames get out of a port. */
export interface WayOut {
  /** For frames whose program runs where something comes in, and where something leaves (a tap with us). */
  readonly fromIngress: How;
  readonly fromEgress: How;
  readonly ifindex: number;
  readonly frame_max_bytes: number;
  readonly segment_max_bytes: number;
  /** Where this port's own frames meet `forward`. */
  readonly hook: 'ingress' | 'egress';
}

/** No limit but that of the kernel's own lengths. */
const UNBOUNDED_BYTES = 0x7fff_ffff;
const ETHERNET_BYTES = 14;
/** IPv4 and TCP without options: what a segment of an MTU has besides its data. */
const SEGMENT_HEADERS_BYTES = 40;

export class Shortcut {
  readonly way: WayOut;
  readonly #fds: number[] = [];
  readonly #conduits: Conduits;
  #conduit: Conduit | undefined;
  #filter: number | undefined;

  /** Throws HostError when the kernel lacks something, and then leaves nothing behind. */
  constructor(request: ShortcutRequest, conduits: Conduits) {
    this.#conduits = conduits;
    try {
      this.way = this.#open(request);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  #open({ maps, port, kind, ifname, netns }: ShortcutRequest): WayOut {
    if (kind === 'packet') {
      const { index, mtu_bytes } = indexOf(ifname);
      this.#filter = bpf.loadProgram({
        type: bpf.PROG_TYPE_SOCKET_FILTER,
        instructions: program.filter(maps, port),
        name: 'weft_filter',
      });
      this.#attach('weft_forward', program.forward(maps, port), index, bpf.ATTACH_TCX_INGRESS);
      return {
        fromIngress: HOW_OUT,
        fromEgress: HOW_OUT,
        ifindex: index,
        frame_max_bytes: mtu_bytes + ETHERNET_BYTES,
        segment_max_bytes: mtu_bytes - SEGMENT_HEADERS_BYTES,
        hook: 'ingress',
      };
    }
    const bounds = { frame_max_bytes: UNBOUNDED_BYTES, segment_max_bytes: UNBOUNDED_BYTES };
    if (netns === undefined) {
      const { index } = indexOf(ifname);
      this.#attach('weft_forward', program.forward(maps, port), index, bpf.ATTACH_TCX_EGRESS);
      return { fromIngress: HOW_IN, fromEgress: HOW_IN, ifindex: index, ...bounds, hook: 'egress' };
    }
    const conduit = this.#conduits.make(netns);
    this.#conduit = conduit;
    const behind = program.forwardBehindGate(maps, port);
    this.#attach('weft_forward', behind, conduit.home, bpf.ATTACH_TCX_INGRESS);
    inNetns(netns, () => {
      const { index } = indexOf(ifname);
      this.#attach('weft_deliver', program.deliver(index), conduit.away, bpf.ATTACH_TCX_INGRESS);
      this.#attach('weft_gate', program.gate(maps, port, conduit.away), index, bpf.ATTACH_TCX_EGRESS);
    });
    return { fromIngress: HOW_PEER, fromEgress: HOW_OUT, ifindex: conduit.home, ...bounds, hook: 'ingress' };
  }

  /** For the packet socket of an interface: an fd that belongs to the caller from now on. */
  takeFilter(): number | undefined {
    const filter = this.#filter;
    this.#filter = undefined;
    return filter;
  }

  #attach(name: string, instructions: Uint8Array, ifindex: number, attachType: number): void {
    const fd = bpf.loadProgram({ type: bpf.PROG_TYPE_SCHED_CLS, instructions, attachType, name });
    try {
      this.#fds.push(bpf.createLink(fd, ifindex, attachType));
    } finally {
      close(fd);
    }
  }

  close(): void {
    // Those that send into the conduit were tied last, and go first.
    if (this.#filter !== undefined) close(this.#filter);
    this.#filter = undefined;
    for (const fd of this.#fds.splice(0).reverse()) close(fd);
    if (this.#conduit !== undefined) this.#conduits.remove(this.#conduit);
    this.#conduit = undefined;
  }
}

function indexOf(ifname: string): { index: number; mtu_bytes: number } {
  const link = linkByName(ifname);
  if (link === undefined)
    throw new HostError('RTM_GETLINK', ENODEV, ifname, 'there is no interface of that name');
  return link;
}
