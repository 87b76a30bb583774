/** What a port can be at its outer end. Each kind has a body in ports/. */
import { z } from 'zod';
import { LagSettings } from './lag.js';

const Ifname = z.string().min(1).max(15);
const SocketPath = z.string().min(1).max(107);

const SIMPLE_DEVICES = [
  /** A tap device of the host, made if absent, with IFF_VNET_HDR where the kernel has it. Needs CAP_NET_ADMIN. */
  z.strictObject({
    kind: z.literal('tap'),
    ifname: Ifname,
    mtu_bytes: z.int().min(576).max(65_521).optional(),
    /** More than one: IFF_MULTI_QUEUE. */
    queues: z.int().min(1).max(16).optional(),
  }),
  /** An existing interface of the host (NIC, veth, …) by a packet socket, with PACKET_VNET_HDR. Needs CAP_NET_RAW. */
  z.strictObject({ kind: z.literal('packet'), ifname: Ifname }),
  /** An existing interface of the host by AF_XDP; falls back to a packet socket, and says so. */
  z.strictObject({
    kind: z.literal('xdp'),
    ifname: Ifname,
    mode: z.enum(['auto', 'zerocopy', 'copy', 'generic']).default('auto'),
    queues: z.int().min(1).max(16).optional(),
  }),
  /** vhost-user: a guest's virtqueues in shared memory. `client` dials (QEMU has `server=on`), `server` listens. */
  z.strictObject({
    kind: z.literal('vhost'),
    path: SocketPath,
    role: z.enum(['client', 'server']),
    /** Pairs at most. */
    queues: z.int().min(1).max(16).optional(),
    /** Who may dial a listening socket besides us: it is given to this uid and gid. */
    owner: z.strictObject({ uid: z.int().min(0), gid: z.int().min(0) }).optional(),
    /**
     * Take memory whose owner could cut it off (no F_SEAL_SHRINK: hugetlbfs, as DPDK has it). Such a peer can end the
     * plane, with everybody's network; so only for peers that are trusted. QEMU's memfd needs no trust.
     */
    trusted: z.boolean().optional(),
  }),
  /**
   * A Unix stream socket carrying frames, each behind a 32-bit big-endian length (QEMU `-netdev stream`).
   * `connect`: dialled, and dialled again, until the peer listens. `listen`: one peer at a time.
   */
  z.strictObject({
    kind: z.literal('stream'),
    path: SocketPath,
    role: z.enum(['connect', 'listen']),
  }),
  /** A Unix datagram socket, one frame to a datagram (QEMU `-netdev dgram`). */
  z.strictObject({ kind: z.literal('dgram'), path: SocketPath, peer: SocketPath }),
  /** VXLAN (RFC 7348) to one or several remote ends; frames to unknown stations go to all of them. */
  z.strictObject({
    kind: z.literal('vxlan'),
    vni: z.int().min(0).max(0xff_ffff),
    local: z.string().optional(),
    /** UDP port listened on. */
    port: z.int().min(1).max(65_535).default(4789),
    remotes: z
      .array(z.strictObject({ address: z.string(), port: z.int().min(1).max(65_535).default(4789) }))
      .max(256),
    /** Frames are taken from ends that are not among `remotes`, too. */
    anySender: z.boolean().optional(),
    /** What does not fit the path is dropped; else the host sends it in fragments. */
    dontFragment: z.boolean().optional(),
  }),
  /** A cable to the port of another switch of this plane, which names this one in turn. */
  z.strictObject({ kind: z.literal('patch'), switch: z.string(), port: z.string() }),
  /** Returns to the switch what the switch sends to it. For tests and measurements. */
  z.strictObject({ kind: z.literal('loopback') }),
  /** Writes every frame that the switch sends to it into a pcapng file; receives nothing. */
  z.strictObject({ kind: z.literal('pcap'), path: z.string().min(1) }),
] as const;

export const SimpleDevice = z.discriminatedUnion('kind', SIMPLE_DEVICES);
export type SimpleDevice = z.infer<typeof SimpleDevice>;

export const LagMember = z.strictObject({
  /** Unique within its port. */
  name: z.string().min(1).max(64),
  device: SimpleDevice,
  /** 802.1AX-2014 6.3.4: the lower is the better; for activeBackup too. */
  priority: z.int().min(0).max(65_535).default(32_768),
});
export type LagMember = z.infer<typeof LagMember>;

/** Several devices as one port; counters and state of each are in the port's status. */
export const LagDevice = z.strictObject({
  kind: z.literal('lag'),
  settings: LagSettings,
  members: z.array(LagMember).max(32),
});
export type LagDevice = z.infer<typeof LagDevice>;

export const PortDevice = z.discriminatedUnion('kind', [...SIMPLE_DEVICES, LagDevice]);
export type PortDevice = z.infer<typeof PortDevice>;
