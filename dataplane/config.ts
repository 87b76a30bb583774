/**
 * What the schema of a configuration cannot say: names that must be unique, devices that only one port can have.
 * Pure. A configuration that fails here is refused as a whole.
 */
import { posix } from 'node:path';
import type { DataplaneConfig, PortDevice, SimpleDevice } from './contract.js';

export interface ConfigProblem {
  code: string;
  message: string;
}

/** What two ports must not both have, as a key and in words; undefined when any number may have it. */
function claimOf(device: SimpleDevice): { key: string; text: string } | undefined {
  switch (device.kind) {
    case 'tap':
      return { key: `interface ${device.ifname}`, text: `tap ${device.ifname}` };
    case 'packet':
    case 'xdp':
      return { key: `interface ${device.ifname}`, text: `interface ${device.ifname}` };
    case 'stream':
    case 'vhost':
    case 'dgram':
    case 'pcap': {
      const text = `path ${posix.normalize(device.path)}`;
      return { key: text, text };
    }
    case 'vxlan': {
      const text = `VNI ${device.vni} at ${device.local ?? 'any address'}, UDP port ${device.port}`;
      return { key: text, text };
    }
    default:
      return undefined;
  }
}

/** Of an aggregate: those of its members. */
const devicesOf = (device: PortDevice): readonly SimpleDevice[] =>
  device.kind === 'lag' ? device.members.map(member => member.device) : [device];

/** The first thing wrong with it, undefined when nothing is. `ownSocket`: the path that the plane serves at. */
export function checkConfig(config: DataplaneConfig, ownSocket: string): ConfigProblem | undefined {
  const switches = new Set<string>();
  const claims = new Map<string, string>([[`path ${posix.normalize(ownSocket)}`, 'the plane itself']]);
  for (const each of config.switches) {
    if (switches.has(each.name))
      return {
        code: 'DUPLICATE_SWITCH',
        message: `switch ${each.name} is there twice: give one another name`,
      };
    switches.add(each.name);
    const ports = new Set<string>();
    for (const port of each.ports) {
      const where = `port ${port.name} of switch ${each.name}`;
      if (ports.has(port.name))
        return { code: 'DUPLICATE_PORT', message: `${where} is there twice: give one another name` };
      ports.add(port.name);
      for (const device of devicesOf(port.device)) {
        const claim = claimOf(device);
        if (claim === undefined) continue;
        const holder = claims.get(claim.key);
        if (holder !== undefined)
          return {
            code: 'DEVICE_TAKEN',
            message: `${where} wants ${claim.text}, which ${holder} has already`,
          };
        claims.set(claim.key, where);
      }
      if (port.vlan.mode !== 'trunk') continue;
      const reversed = port.vlan.allowed.find(([first, last]) => first > last);
      if (reversed !== undefined)
        return {
          code: 'BAD_VLAN_RANGE',
          message: `${where} allows VLANs ${reversed[0]} to ${reversed[1]}: write the lower one first`,
        };
    }
  }
  return undefined;
}
