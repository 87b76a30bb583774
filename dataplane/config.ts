/**
 * What the schema of a configuration cannot say: names that must be unique, devices that only one port can have.
 * Pure. A configuration that fails here is refused as a whole.
 */
import { posix } from 'node:path';
import type { DataplaneConfig, PortDevice } from './contract.js';

export interface ConfigProblem {
  code: string;
  message: string;
}

/** What two ports must not both have; undefined when any number may have it. */
function claimOf(device: PortDevice): string | undefined {
  switch (device.kind) {
    case 'tap':
      return `tap ${device.ifname}`;
    case 'stream':
    case 'vhost':
      return `path ${posix.normalize(device.path)}`;
    case 'pcap':
      return `path ${posix.normalize(device.path)}`;
    default:
      return undefined;
  }
}

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
      const claim = claimOf(port.device);
      const holder = claim === undefined ? undefined : claims.get(claim);
      if (claim !== undefined && holder !== undefined)
        return { code: 'DEVICE_TAKEN', message: `${where} wants ${claim}, which ${holder} has already` };
      if (claim !== undefined) claims.set(claim, where);
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
