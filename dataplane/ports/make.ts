/** From a port's configuration to its body. */
import type { PortDevice, PortFaults } from '../contract.js';
import type { Link } from '../engine/link.js';
import type { Port } from '../engine/port.js';
import { DgramPort } from './dgram.js';
import { FaultyPort } from './faulty.js';
import type { Gather } from './gather.js';
import { LoopbackPort } from './loopback.js';
import { PacketPort } from './packet.js';
import { PatchPort } from './patch.js';
import { PcapPort } from './pcap.js';
import { StreamPort } from './stream.js';
import { TapPort } from './tap.js';
import { VhostPort } from './vhost/port.js';
import { VxlanPort } from './vxlan.js';
import { XdpPort } from './xdp.js';

/** What ports of one engine share. */
export interface PortShared {
  gather: Gather;
  /** Microseconds since the Unix epoch, for recordings. */
  wallClock_us: () => number;
}

/** `owner`: the name of the link's switch. */
export function makePort(
  link: Link,
  device: PortDevice,
  faults: PortFaults | undefined,
  shared: PortShared,
  owner = '',
): Port {
  const port = makeDevice(link, device, shared, owner);
  return faults === undefined ? port : new FaultyPort(link, port, faults);
}

function makeDevice(link: Link, device: PortDevice, shared: PortShared, owner: string): Port {
  switch (device.kind) {
    case 'tap':
      return new TapPort(link, device, shared.gather);
    case 'packet':
      return new PacketPort(link, device);
    case 'stream':
      return new StreamPort(link, device, shared.gather);
    case 'dgram':
      return new DgramPort(link, device, shared.gather);
    case 'patch':
      return new PatchPort(link, owner, device);
    case 'loopback':
      return new LoopbackPort(link);
    case 'vhost':
      return new VhostPort(link, device);
    case 'vxlan':
      return new VxlanPort(link, device);
    case 'xdp':
      return new XdpPort(link, device);
    case 'pcap':
      return new PcapPort(link, device.path, shared.wallClock_us);
    default:
      throw new Error(`no port of kind ${device.kind} yet`);
  }
}
