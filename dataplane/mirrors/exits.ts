/** How a frame of a VLAN leaves by a port: pure, from the port's VLAN settings. */
import type { PortVlan } from '../contract.js';

type Ranges = readonly (readonly [number, number])[];

const holds = (ranges: Ranges, vlan: number): boolean =>
  ranges.some(([first, last]) => vlan >= first && vlan <= last);

/** The number that the VLAN has on the wire of a port that translates. */
function onTheWire(translate: Ranges | undefined, vlan: number): number {
  return translate?.find(([, inside]) => inside === vlan)?.[0] ?? vlan;
}

/** The VLAN of the tag that it leaves with; 0: without one; undefined: the port is not a member. */
export function exitOf(port: PortVlan, vlan: number): number | undefined {
  switch (port.mode) {
    case 'access':
    case 'tunnel':
      return port.vlan === vlan ? 0 : undefined;
    case 'trunk':
      if (port.native === vlan) return 0;
      return holds(port.allowed, vlan) ? onTheWire(port.translate, vlan) : undefined;
    case 'hybrid':
      if (holds(port.untagged, vlan)) return 0;
      return holds(port.tagged, vlan) ? onTheWire(port.translate, vlan) : undefined;
  }
}
