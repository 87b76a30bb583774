/** What a port can be at its outer end, as users say it: exactly one of these words. */
import { z } from 'zod';
import type { PortDevice } from '../../../dataplane/contract.js';

const PORT_DEVICES = ['tap', 'stream', 'loopback', 'pcap'] as const;

export const deviceWords = {
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
  loopback: z.literal(true).optional().meta({ description: 'gives back what it is sent' }),
  pcap: z.string().min(1).optional().meta({ description: 'records what it is sent into this pcapng file' }),
};

const DevicePort = z.object(deviceWords);
export type DevicePort = z.infer<typeof DevicePort>;

export function refineDevice(port: DevicePort, context: z.RefinementCtx): void {
  if (PORT_DEVICES.filter(device => port[device] !== undefined).length !== 1)
    context.addIssue({ code: 'custom', message: `a port is exactly one of ${PORT_DEVICES.join(', ')}` });
}

export function deviceToPlane(port: DevicePort): PortDevice {
  if (port.tap !== undefined)
    return { kind: 'tap', ifname: port.tap, ...(port.mtu === undefined ? {} : { mtu_bytes: port.mtu }) };
  if (port.stream !== undefined) return { kind: 'stream', path: port.stream.path, role: port.stream.role };
  if (port.pcap !== undefined) return { kind: 'pcap', path: port.pcap };
  return { kind: 'loopback' };
}
