/** What a port can be at its outer end, as users say it: exactly one of these words. */
import { z } from 'zod';
import type { PortDevice, SimpleDevice } from '../../../dataplane/contract.js';
import { Priority, lagToPlane, lagWords } from './lag.js';

const SIMPLE_DEVICES = ['tap', 'stream', 'vhost', 'loopback', 'pcap'] as const;
const PORT_DEVICES = [...SIMPLE_DEVICES, 'lag'] as const;

const simpleWords = {
  tap: z
    .string()
    .regex(/^[^\s/:]{1,15}$/, 'an interface name is 1 to 15 characters without space, slash or colon')
    .optional()
    .meta({ description: 'a tap interface of this host, made if absent' }),
  mtu: z.int().min(576).max(65_521).optional().meta({ description: 'of the tap interface, in bytes' }),
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
  loopback: z.literal(true).optional().meta({ description: 'gives back what it is sent' }),
  pcap: z.string().min(1).optional().meta({ description: 'records what it is sent into this pcapng file' }),
};

const SimplePort = z.object(simpleWords);
type SimplePort = z.infer<typeof SimplePort>;

/** A link of an aggregate; what only records or gives back is none. */
const { loopback: _loopback, pcap: _pcap, ...memberWords } = simpleWords;
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

function simpleToPlane(port: SimplePort): SimpleDevice {
  if (port.tap !== undefined)
    return { kind: 'tap', ifname: port.tap, ...(port.mtu === undefined ? {} : { mtu_bytes: port.mtu }) };
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
