/** What a port can be at its outer end, as users say it: exactly one of these words. */
import { z } from 'zod';
import type { PortDevice, SimpleDevice } from '../../../dataplane/contract.js';
import { Name } from '../words.js';
import { Priority, lagToPlane, lagWords } from './lag.js';
import { vxlanToPlane, vxlanWords } from './vxlan.js';

const SIMPLE_DEVICES = [
  'tap',
  'packet',
  'xdp',
  'stream',
  'vhost',
  'dgram',
  'vxlan',
  'patch',
  'loopback',
  'pcap',
] as const;
const PORT_DEVICES = [...SIMPLE_DEVICES, 'lag'] as const;

const Ifname = z
  .string()
  .regex(/^[^\s/:]{1,15}$/, 'an interface name is 1 to 15 characters without space, slash or colon');
const SocketPath = z.string().min(1).max(107);
const Queues = z.int().min(1).max(16);

const simpleWords = {
  tap: Ifname.optional().meta({ description: 'a tap interface of this host, made if absent' }),
  mtu: z.int().min(576).max(65_521).optional().meta({ description: 'of the tap interface, in bytes' }),
  queues: Queues.optional().meta({ description: 'of the tap interface, for hosts with many processors' }),
  packet: Ifname.optional().meta({
    description: 'an interface that this host has already (a card, a veth), by a packet socket',
  }),
  xdp: z
    .union([
      Ifname,
      z.strictObject({
        interface: Ifname,
        mode: z.enum(['auto', 'zerocopy', 'copy', 'generic']).default('auto').meta({
          description:
            'auto: zerocopy where the driver has it, else copy; generic: any driver, loses super-frames',
        }),
        queues: Queues.optional().meta({ description: 'receiving queues served at most; default: all' }),
      }),
    ])
    .optional()
    .meta({
      description:
        'an interface that this host has already, by AF_XDP; by packet socket where that cannot be',
    }),
  stream: z
    .strictObject({ path: z.string().min(1).max(107), role: z.enum(['connect', 'listen']) })
    .optional()
    .meta({ description: 'a Unix stream socket as QEMU -netdev stream speaks' }),
  vhost: z
    .strictObject({
      path: z.string().min(1).max(107),
      role: z.enum(['client', 'server']).meta({ description: 'client dials the socket, server makes it' }),
      queues: z.int().min(1).max(16).optional().meta({ description: 'pairs of queues at most; default 1' }),
      trusted: z.boolean().optional().meta({
        description:
          'take memory that its owner could cut off (hugepages, as DPDK has them): such a peer could end the whole switch',
      }),
    })
    .optional()
    .meta({ description: 'a vhost-user socket: a guest not of weft, or a program with virtio-user (DPDK)' }),
  dgram: z
    .strictObject({
      path: SocketPath.meta({ description: 'socket that the switch makes' }),
      peer: SocketPath.meta({ description: 'socket that frames are sent to' }),
    })
    .optional()
    .meta({ description: 'a Unix datagram socket as QEMU -netdev dgram speaks' }),
  vxlan: vxlanWords.optional().meta({ description: 'a VXLAN segment (RFC 7348) to remote ends' }),
  patch: z
    .strictObject({ switch: Name, port: Name })
    .optional()
    .meta({ description: 'a cable to the port of another switch, which names this one in turn' }),
  loopback: z.literal(true).optional().meta({ description: 'gives back what it is sent' }),
  pcap: z.string().min(1).optional().meta({ description: 'records what it is sent into this pcapng file' }),
};

const SimplePort = z.object(simpleWords);
type SimplePort = z.infer<typeof SimplePort>;

/** A link of an aggregate; what only records or gives back is none. */
const { loopback: _loopback, pcap: _pcap, patch: _patch, ...memberWords } = simpleWords;
const LagMember = z
  .strictObject({ ...memberWords, priority: Priority })
  .superRefine((member: SimplePort, context) => {
    if (SIMPLE_DEVICES.filter(device => member[device] !== undefined).length !== 1)
      context.addIssue({
        code: 'custom',
        message: `a member is exactly one of ${SIMPLE_DEVICES.filter(device => device in memberWords).join(', ')}`,
      });
  });

export const deviceWords = {
  ...simpleWords,
  lag: lagWords(LagMember).optional().meta({ description: 'several links as one port' }),
};

const DevicePort = z.object(deviceWords);
export type DevicePort = z.infer<typeof DevicePort>;

export function refineDevice(port: DevicePort, context: z.RefinementCtx): void {
  if (PORT_DEVICES.filter(device => port[device] !== undefined).length !== 1)
    context.addIssue({ code: 'custom', message: `a port is exactly one of ${PORT_DEVICES.join(', ')}` });
}

export function deviceToPlane(port: DevicePort): PortDevice {
  return port.lag === undefined
    ? simpleToPlane(port)
    : lagToPlane<z.infer<typeof LagMember>>(port.lag, simpleToPlane);
}

interface XdpWords {
  interface: string;
  mode: 'auto' | 'zerocopy' | 'copy' | 'generic';
  queues?: number | undefined;
}

const xdpOf = (words: string | XdpWords): XdpWords =>
  typeof words === 'string' ? { interface: words, mode: 'auto' } : words;

/** The host's interface that a port is at the end of. */
export const interfaceOf = (port: DevicePort): string | undefined =>
  port.tap ?? port.packet ?? (port.xdp === undefined ? undefined : xdpOf(port.xdp).interface);

function simpleToPlane(port: SimplePort): SimpleDevice {
  if (port.tap !== undefined)
    return {
      kind: 'tap',
      ifname: port.tap,
      ...(port.mtu === undefined ? {} : { mtu_bytes: port.mtu }),
      ...(port.queues === undefined ? {} : { queues: port.queues }),
    };
  if (port.packet !== undefined) return { kind: 'packet', ifname: port.packet };
  if (port.xdp !== undefined) {
    const { interface: ifname, mode, queues } = xdpOf(port.xdp);
    return { kind: 'xdp', ifname, mode, ...(queues === undefined ? {} : { queues }) };
  }
  if (port.dgram !== undefined) return { kind: 'dgram', ...port.dgram };
  if (port.vxlan !== undefined) return vxlanToPlane(port.vxlan);
  if (port.patch !== undefined) return { kind: 'patch', ...port.patch };
  if (port.stream !== undefined) return { kind: 'stream', path: port.stream.path, role: port.stream.role };
  if (port.vhost !== undefined) {
    const { path, role, queues, trusted } = port.vhost;
    return {
      kind: 'vhost',
      path,
      role,
      ...(queues === undefined ? {} : { queues }),
      ...(trusted === undefined ? {} : { trusted }),
    };
  }
  if (port.pcap !== undefined) return { kind: 'pcap', path: port.pcap };
  return { kind: 'loopback' };
}
