/** `weft switch vlans`: the VLANs in use, who is in them, and what came in. */
import { dataplane } from '../../../control/api/contract.js';
import { formatBytes } from '../../format.js';
import { formatTable } from '../../table.js';
import { view } from './view.js';

export const vlansView = view<dataplane.VlansView>({
  what: 'vlans',
  description: 'the VLANs in use: their ports, and what came in',
  schema: dataplane.VlansView,
  lines: ({ vlans }, session) =>
    formatTable(
      ['VLAN', 'UNTAGGED', 'TAGGED', 'FRAMES', 'FLOODED', 'BYTES', 'ADDRESSES OF'],
      vlans.map(({ vlan, fid, untagged, tagged, frames, octets, floodedFrames }) => [
        String(vlan),
        untagged.join(' ') || '-',
        tagged.join(' ') || '-',
        String(frames),
        String(floodedFrames),
        formatBytes(octets),
        fid === vlan ? '-' : `VLAN ${fid}`,
      ]),
      session.out,
    ),
});
