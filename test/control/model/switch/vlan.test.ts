/** VLANs of a port: from the user's words to the plane's. */
import t from 'tap';
import { PortVlan } from '../../../../dataplane/contract.js';
import { FrameFieldError, buildFrame } from '../../../../control/model/switch/trialFrame.js';
import { portWords } from '../../../../control/model/switch/words.js';
import { vlanProblem, vlanToPlane } from '../../../../control/model/switch/vlan.js';
import { z } from 'zod';

const Port = z.strictObject(portWords);

void t.test('each way to stand to VLANs', async t => {
  for (const [words, plane] of [
    [{}, { mode: 'access', vlan: 1 }],
    [{ vlan: 7 }, { mode: 'access', vlan: 7 }],
    [{ tunnel: 300 }, { mode: 'tunnel', vlan: 300 }],
    [{ trunk: { allowed: ['10-12', 20] } }, { mode: 'trunk', allowed: [[10, 12], [20, 20]], native: null }], // prettier-ignore
    [
      { trunk: { allowed: [10], native: 1, tpid: 0x88a8, translate: [{ wire: 110, vlan: 10 }] } },
      { mode: 'trunk', allowed: [[10, 10]], native: 1, tpid: 0x88a8, translate: [[110, 10]] },
    ],
    [
      { hybrid: { pvid: 5, untagged: [5, 6], tagged: ['20-30'] } },
      { mode: 'hybrid', pvid: 5, untagged: [[5, 6]], tagged: [[20, 30]] },
    ],
  ] as const) {
    const port = Port.parse(words);
    t.equal(vlanProblem(port), undefined);
    t.same(vlanToPlane(port), plane);
    t.ok(PortVlan.safeParse(vlanToPlane(port)).success);
  }
});

void t.test('what cannot be', async t => {
  for (const [words, problem] of [
    [{ vlan: 1, trunk: { allowed: [1] } }, 'either vlan or trunk, not both'],
    [{ vlan: 1, tunnel: 2, hybrid: { pvid: 1 } }, /either vlan or hybrid or tunnel/],
    [{ hybrid: { pvid: 1, untagged: ['1-5'], tagged: [5] } }, /VLAN 5 is among untagged and tagged/],
    [{ trunk: { allowed: [10], translate: [{ wire: 5, vlan: 11 }] } }, /VLAN 11 is not one/],
    [
      { trunk: { allowed: ['10-11'], translate: [{ wire: 5, vlan: 10 }, { wire: 5, vlan: 11 }] } }, // prettier-ignore
      /VLAN 5 on the wire is said twice/,
    ],
    [
      { trunk: { allowed: ['10-11'], translate: [{ wire: 5, vlan: 10 }, { wire: 6, vlan: 10 }] } }, // prettier-ignore
      /VLAN 10 of the switch is said twice/,
    ],
  ] as const)
    t.match(vlanProblem(Port.parse(words)), problem);
  t.notOk(Port.safeParse({ trunk: { allowed: [1], tpid: 0x8864 } }).success);
});

void t.test('frames of fields', async t => {
  const ends = { src: '02:00:00:00:00:01', dst: 'ff:ff:ff:ff:ff:ff' };
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
  t.match(
    hex(buildFrame({ ...ends, tags: [{ vlan: 10, priority: 3, tpid: 0x8100 }] })),
    /^ffffffffffff0200000000018100600a88b5/,
  );
  const udp = buildFrame({ ...ends, ipSrc: '192.0.2.1', ipDst: '192.0.2.2', protocol: 'udp', dport: 53 });
  t.match(hex(udp), /^.{24}08004500001c0000000040117{0,1}/);
  const view = new DataView(udp.buffer);
  let sum = 0;
  for (let at = 14; at < 34; at += 2) sum += view.getUint16(at);
  t.equal((sum & 0xffff) + (sum >>> 16), 0xffff, 'the header checksum is right');
  t.equal(view.getUint16(36), 53);
  const v6 = buildFrame({ ...ends, ipSrc: '2001:db8::1', ipDst: '2001:db8::2' });
  t.match(hex(v6), /^.{24}86dd6/);
  for (const [fields, problem] of [
    [{ ...ends, src: 'nobody' }, /src "nobody"/],
    [{ ...ends, ipSrc: '10.0.0.1' }, /both/],
    [{ ...ends, ipSrc: '10.0.0.1', ipDst: '::1' }, /different families/],
    [{ ...ends, dport: 5 }, /needs IP addresses/],
    [{ ...ends, ipSrc: '10.0.0.1', ipDst: '10.0.0.2', dport: 5 }, /needs a protocol/],
    [{ ...ends, ipSrc: '10.0.0.1', ipDst: '10.0.0.2', protocol: 'tpc' }, /"tpc" is no protocol/],
    [{ ...ends, tags: [{ vlan: 4096, priority: 0, tpid: 0x8100 }] }, /vlan 4096/],
  ] as const) {
    const failure = (() => {
      try {
        return buildFrame(fields);
      } catch (error) {
        return error;
      }
    })();
    t.ok(failure instanceof FrameFieldError);
    t.match(String(failure), problem);
  }
});
