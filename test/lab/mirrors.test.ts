/**
 * Mirror sessions, with tcpdump and tshark to say what came out.
 *
 *     a10: access 10 --+          +-- trunk: 10 and 900 (the VLAN that takes copies away)
 *     b10: access 10 --+- switch -+-- probe: the port that copies go to
 *     c20: access 20 --+          +-- sniffer: access 900
 *
 * Each port is a tap in a namespace of its own name; frames carry a text.
 */
import t from 'tap';
import type { MirrorSession, MirrorsView, PortVlan } from '../../dataplane/contract.js';
import { Capture, textOf } from './harness/capture.js';
import { BROADCAST, frame } from './harness/frames.js';
import { Lab } from './harness/lab.js';
import { missing } from './harness/needs.js';
import type { Namespace } from './harness/network.js';
import { sendFrames } from './harness/sender.js';
import { Dataplane, switchOf } from './harness/weft.js';

const skip = missing({
  root: true,
  programs: ['ip', 'nsenter', 'tcpdump', 'tshark'],
  paths: ['/dev/net/tun'],
});

const VLAN_OF: Readonly<Record<string, PortVlan>> = {
  a10: { mode: 'access', vlan: 10 },
  b10: { mode: 'access', vlan: 10 },
  c20: { mode: 'access', vlan: 20 },
  trunk: { mode: 'trunk', allowed: [[10, 10], [900, 900]], native: null }, // prettier-ignore
  probe: { mode: 'access', vlan: 10 },
  sniffer: { mode: 'access', vlan: 900 },
};
const WATCHERS = ['trunk', 'probe', 'sniffer'] as const;

interface Wiring {
  readonly lab: Lab;
  readonly plane: Dataplane;
  readonly rooms: ReadonlyMap<string, Namespace>;
  /** The sessions from now on. */
  readonly mirror: (sessions: Partial<MirrorSession>[]) => Promise<void>;
}

async function wire(lab: Lab): Promise<Wiring> {
  const inside = await lab.namespace('mir');
  const plane = await Dataplane.start(lab, { netns: inside.path });
  const ports = Object.entries(VLAN_OF).map(([name, vlan]) => ({
    name,
    vlan,
    device: { kind: 'tap' as const, ifname: name },
  }));
  const mirror: Wiring['mirror'] = async sessions => {
    const mirrors = sessions.map((each, i) => ({
      name: `s${i}`,
      in: [],
      out: [],
      vlans: [],
      destination: { port: 'probe' },
      ...each,
    }));
    await plane.configure([{ ...switchOf('lan', ports), mirrors }]);
  };
  await mirror([]);
  const rooms = new Map<string, Namespace>();
  for (const name of Object.keys(VLAN_OF)) {
    const room = await lab.namespace(`mir-${name}`);
    await inside.moveLink(name, room);
    await room.up(name);
    rooms.set(name, room);
  }
  return { lab, plane, rooms, mirror };
}

type Said = readonly [by: string, text: string, more?: Partial<Parameters<typeof frame>[0]>];

/** What came out of the watchers, each text with its VLANs behind it. All say END last, by a port that all hear. */
async function seen(wiring: Wiring, said: readonly Said[]): Promise<Record<string, string[]>> {
  const { lab, rooms } = wiring;
  const captures = new Map<string, Capture>();
  for (const name of WATCHERS) captures.set(name, await Capture.start(lab, rooms.get(name)!, name));
  for (const [by, payload, more] of said)
    await sendFrames(rooms.get(by)!, by, [
      frame({ to: BROADCAST, from: `02:00:00:00:00:${by.slice(1).padStart(2, '0')}`, ...more, payload }),
    ]);
  // Sessions of its own for the end, so that every watcher hears it after all that was decided before.
  await wiring.mirror([{ in: ['c20'] }, { in: ['c20'], destination: { vlan: 900 } }]);
  await sendFrames(rooms.get('c20')!, 'c20', [
    frame({ to: BROADCAST, from: '02:00:00:00:00:20', payload: 'end' }),
  ]);
  const out: Record<string, string[]> = {};
  for (const [name, capture] of captures) {
    await capture.waitFor('end');
    out[name] = (await capture.frames())
      .map(each => [textOf(each), ...each.vlans].join(' '))
      .filter(text => !text.startsWith('end'));
  }
  return out;
}

t.setTimeout(200_000);

await t.test('what is copied, where to, and in which form', { skip }, async t => {
  const lab = Lab.open();
  t.teardown(() => lab.close());
  const wiring = await wire(lab);
  const { plane, mirror } = wiring;

  t.same(
    await seen(wiring, [['a10', 'plain']]),
    { trunk: ['plain 10'], probe: ['plain'], sniffer: [] },
    'without a session the probe is a port like others',
  );

  await mirror([{ in: ['a10'] }]);
  t.same(
    await seen(wiring, [
      ['a10', 'from a'],
      ['b10', 'from b'],
      ['a10', 'not of its VLAN', { tags: [{ vlan: 77 }] }],
    ]),
    { trunk: ['from a 10', 'from b 10'], probe: ['from a', 'not of its VLAN 77'], sniffer: [] },
    'as it comes, also what is dropped; the probe has nothing else',
  );

  await mirror([{ out: ['trunk'] }]);
  t.same(
    await seen(wiring, [
      ['a10', 'leaves'],
      ['c20', 'does not'],
      ['probe', 'a probe says nothing'],
    ]),
    { trunk: ['leaves 10'], probe: ['leaves 10'], sniffer: [] },
    'as it leaves, with its tag',
  );

  await mirror([{ vlans: [[15, 25]] }]);
  t.same(
    await seen(wiring, [
      ['a10', 'ten'],
      ['c20', 'twenty'],
    ]),
    { trunk: ['ten 10'], probe: ['twenty'], sniffer: [] },
  );

  await mirror([{ in: ['a10', 'trunk'], destination: { vlan: 900 } }]);
  t.same(
    await seen(wiring, [
      ['a10', 'remote'],
      ['trunk', 'a copy of another', { tags: [{ vlan: 900 }] }],
    ]),
    { trunk: ['remote 900', 'remote 10'], probe: ['remote'], sniffer: ['remote', 'a copy of another'] },
    'a VLAN takes copies away; copies are not copied again',
  );

  await mirror([{ name: 'cut', in: ['a10'], snaplen_bytes: 20 }]);
  const cut = await seen(wiring, [['a10', 'abcdefghijklmnopqrstuvwxyz']]);
  t.same(cut['probe'], ['abcdef']);
  await mirror([{ name: 'cut', in: ['a10'], snaplen_bytes: 20 }]);
  const { sessions } = await plane.get<MirrorsView>('/switches/lan/show/mirrors');
  t.match(sessions[0], { name: 'cut', destination: 'probe', problem: null });
});
