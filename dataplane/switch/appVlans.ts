/** What came in by each VLAN of a switch, and who is in it. The frame path counts into the rows itself. */
import type { VlansView } from '../contract.js';
import type { Link } from '../engine/link.js';
import type { VlanMembership } from './vlanMembership.js';

const VLANS = 4096;

export class VlanTallies {
  readonly frames = new Float64Array(VLANS);
  readonly octets = new Float64Array(VLANS);
  /** Of those, sent to all. */
  readonly flooded = new Float64Array(VLANS);

  show(vlans: VlanMembership, links: readonly (Link | undefined)[]): VlansView {
    const shown: VlansView['vlans'] = [];
    const names = (ports: Int32Array): string[] => Array.from(ports, port => links[port]?.name ?? `${port}`);
    for (let vid = 1; vid < VLANS; vid++) {
      const members = vlans.members(vid);
      const bare = members.filter(port => vlans.leavesUntagged(port, vid));
      if (this.frames[vid] === 0 && bare.length === 0) continue;
      shown.push({
        vlan: vid,
        fid: vlans.fid(vid),
        untagged: names(bare),
        tagged: names(members.filter(port => !vlans.leavesUntagged(port, vid))),
        frames: this.frames[vid]!,
        octets: this.octets[vid]!,
        floodedFrames: this.flooded[vid]!,
      });
    }
    return { vlans: shown };
  }
}
