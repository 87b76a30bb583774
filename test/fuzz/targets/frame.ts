import assert from 'node:assert';
import { DROP, PORT_COUNTERS } from '../../../dataplane/switch/counters.js';
import { FLOOD, Relay } from '../../../dataplane/switch/relay.js';
import * as ethernet from '../../../dataplane/wire/ethernet.js';
import * as vlan from '../../../dataplane/wire/vlan.js';
import type { Target } from '../harness.js';

const ACCESS_10 = 0;
const TRUNK = 1;
const TRUNK_NATIVE_20 = 2;
const ACCESS_20 = 3;
const PORTS = 4;

function frame(destination: number, source: number, tags: readonly number[], payload: number): Uint8Array {
  const bytes = new Uint8Array(14 + tags.length * 4 + payload).fill(0x5a);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, destination);
  view.setUint32(2, 1);
  view.setUint16(6, source);
  view.setUint32(8, 2);
  let at = 12;
  for (const tag of tags) {
    view.setUint16(at, ethernet.TYPE_CVLAN);
    view.setUint16(at + 2, tag);
    at += 4;
  }
  view.setUint16(at, ethernet.TYPE_IPV4);
  return bytes;
}

/** Behind room for a tag, at the very end of its memory: reading on behind the frame throws. */
function placed(input: Uint8Array): { view: DataView; at: number } {
  const bytes = new Uint8Array(vlan.LENGTH + input.length);
  bytes.set(input, vlan.LENGTH);
  return { view: new DataView(bytes.buffer), at: vlan.LENGTH };
}

const tagOf = (view: DataView, at: number) =>
  vlan.isTagged(view, at) ? vlan.tci(view, at) & vlan.VID_MASK : 0;

export const target: Target = {
  says: 'frames through a switch: decisions are sound, and no frame leaves its VLAN or reads past its end',
  samples: [
    frame(0x0200, 0x0204, [], 46),
    frame(0xffff, 0x0204, [10], 46),
    frame(0x0204, 0x0200, [0x6000 | 20, 10], 46),
    frame(0x0180, 0x0202, [0], 100),
    frame(0x0200, 0x0204, [4095], 10),
    frame(0x0200, 0x0100, [300], 1500),
  ],
  run(input, random) {
    const relay = new Relay(16, 300_000);
    relay.vlans.set(ACCESS_10, { mode: 'access', vlan: 10 });
    relay.vlans.set(TRUNK, {
      mode: 'trunk',
      allowed: [
        [1, 40],
        [4090, 4094],
      ],
      native: null,
    });
    relay.vlans.set(TRUNK_NATIVE_20, { mode: 'trunk', allowed: [[10, 19]], native: 20 });
    relay.vlans.set(ACCESS_20, { mode: 'access', vlan: 20 });
    for (let now_ms = 1; now_ms < 4; now_ms++) {
      const port = random.below(PORTS);
      const { view, at } = placed(input);
      const decision = relay.decide(view, at, input.length, port, now_ms);
      assert(decision < PORTS && decision > DROP - PORT_COUNTERS.length);
      if (decision <= DROP) continue;
      assert(input.length >= ethernet.LENGTH && input.length <= ethernet.FRAME_MAX_BYTES);
      assert(relay.vlan >= 1 && relay.vlan <= vlan.VID_MAX && relay.vlans.has(port, relay.vlan));
      const egress = decision === FLOOD ? [...relay.vlans.members(relay.vlan)] : [decision];
      for (const to of egress) {
        if (to === port) {
          assert.equal(decision, FLOOD);
          continue;
        }
        assert(relay.vlans.has(to, relay.vlan));
        const copy = placed(input);
        const edit = relay.edit(to);
        const start = vlan.editInPlace(copy.view, copy.at, edit);
        assert.equal(start, copy.at - vlan.growth(edit));
        const outLength = copy.view.byteLength - start;
        assert.equal(outLength, input.length + vlan.growth(edit));
        // The far side puts it into the same VLAN: by its tag, or by what untagged frames mean at that port.
        if (outLength < ethernet.LENGTH + vlan.LENGTH) continue;
        const isUntaggedVlan = relay.vlans.pvid(to) === relay.vlan;
        if (!isUntaggedVlan) assert.equal(tagOf(copy.view, start), relay.vlan);
        else if (relay.vlans.isAccess(port)) assert.equal(tagOf(copy.view, start), 0, 'a tag hops VLANs');
      }
    }
  },
};
