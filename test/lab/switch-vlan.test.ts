/**
 * VLANs of the switch, with tcpdump and tshark to say what came out.
 *
 *     a10: access 10 ---+          +--- trunk: 10 and 20-29, no native
 *     b10: access 10 ---+- switch -+
 *     c20: access 20 ---+          +--- native: 10 and 20, 20 untagged
 *
 * Each port is a tap in a namespace of its own name. Frames go to the broadcast address and carry a text; which
 * texts came out of all the other taps, and with which tags, is read from captures. That something did not arrive
 * is known without waiting for it: see `deliver`.
 */
import t from 'tap';
import type { MacTable, PortVlan } from '../../dataplane/contract.js';
import { Capture, textOf } from './harness/capture.js';
import { BROADCAST, frame } from './harness/frames.js';
import type { FrameSpec } from './harness/frames.js';
import { Lab } from './harness/lab.js';
import { missing } from './harness/needs.js';
import type { Namespace } from './harness/network.js';
import { eventually } from './harness/processes.js';
import { sendFrames } from './harness/sender.js';
import { Dataplane, switchOf } from './harness/weft.js';

const skip = missing({
  root: true,
  programs: ['ip', 'nsenter', 'tcpdump', 'tshark'],
  paths: ['/dev/net/tun'],
});

const NAMES = ['a10', 'b10', 'c20', 'trunk', 'native'] as const;
type PortName = (typeof NAMES)[number];

const access = (vlan: number): PortVlan => ({ mode: 'access', vlan });
const trunk = (allowed: [number, number][], native: number | null): PortVlan => ({
  mode: 'trunk',
  allowed,
  native,
});

const VLAN_OF: Readonly<Record<PortName, PortVlan>> = {
  a10: access(10),
  b10: access(10),
  c20: access(20),
  trunk: trunk([[10, 10], [20, 29]], null), // prettier-ignore
  native: trunk([[10, 10], [20, 20]], 20), // prettier-ignore
};

interface Wiring {
  readonly lab: Lab;
  readonly plane: Dataplane;
  readonly rooms: ReadonlyMap<PortName, Namespace>;
}

async function wire(lab: Lab): Promise<Wiring> {
  const inside = await lab.namespace('switch');
  const plane = await Dataplane.start(lab, { netns: inside.path });
  const ports = NAMES.map(name => ({
    name,
    vlan: VLAN_OF[name],
    device: { kind: 'tap' as const, ifname: name },
  }));
  await plane.configure([switchOf('lan', ports)]);
  const rooms = new Map<PortName, Namespace>();
  for (const name of NAMES) {
    const room = await lab.namespace(name);
    await inside.moveLink(name, room);
    await room.up(name);
    rooms.set(name, room);
  }
  return { lab, plane, rooms };
}

type Said = Omit<FrameSpec, 'to' | 'from' | 'payload'> & { to?: string; from?: string };

/** What arrives, by port: each text with the VLAN ids of its tags behind it, in order: `hello 10`. */
type Arrived = Record<PortName, string[]>;

const tagged = (vlan: number): Pick<FrameSpec, 'tags'> => ({ tags: [{ vlan }] });

/** First `by` says everything, then each of the others is told that it was all. */
async function deliver(wiring: Wiring, by: PortName, said: Readonly<Record<string, Said>>): Promise<Arrived> {
  const { lab, rooms } = wiring;
  const captures = new Map(
    await Promise.all(
      [...rooms].map(async ([name, room]) => [name, await Capture.start(lab, room, name)] as const),
    ),
  );
  const say = async (name: PortName, words: Readonly<Record<string, Said>>): Promise<void> => {
    const from = `02:00:00:00:00:0${NAMES.indexOf(name) + 1}`;
    const frames = Object.entries(words).map(([payload, how]) =>
      frame({ to: BROADCAST, from, ...how, payload }),
    );
    await sendFrames(rooms.get(name)!, name, frames);
  };

  // A switch keeps the order of the frames of one port: once DONE is through, all before it is decided ...
  const DONE = 'done';
  const witness = by === 'trunk' ? 'native' : 'trunk';
  const wayOut = by === 'trunk' ? tagged(10) : {};
  await say(by, { ...said, [DONE]: wayOut });
  await captures.get(witness)!.waitFor(DONE);
  // ... and what it put on the way to a port comes before END, which is sent only now.
  const END = 'end';
  await say('trunk', { [END]: tagged(10), [`${END}, all`]: tagged(20) });
  await say('native', { [END]: {} });
  for (const capture of captures.values()) await capture.waitFor(END);

  const read = async ([name, capture]: [PortName, Capture]): Promise<[PortName, string[]]> => [
    name,
    (await capture.frames())
      .map(seen => [textOf(seen), ...seen.vlans].join(' '))
      .filter(text => !text.startsWith(DONE) && !text.startsWith(END)),
  ];
  return Object.fromEntries(await Promise.all([...captures].map(read))) as Arrived;
}

// Each part has an end of its own; on a busy machine they are far apart.
t.setTimeout(600_000);

await t.test('frames come out where their VLAN says, tagged as the port says', { skip }, async t => {
  const lab = Lab.open();
  t.teardown(() => lab.close());
  const wiring = await wire(lab);

  t.same(
    await deliver(wiring, 'a10', {
      untagged: {},
      'own tag': tagged(10),
      'other tag': tagged(20),
      'priority tag': { tags: [{ vlan: 0, priority: 5 }] },
      'tag in tag': { tags: [{ vlan: 10 }, { vlan: 20 }] },
    }),
    {
      a10: [],
      b10: ['untagged', 'own tag', 'priority tag'],
      c20: [],
      trunk: ['untagged 10', 'own tag 10', 'priority tag 10'],
      native: ['untagged 10', 'own tag 10', 'priority tag 10'],
    },
    'from an access port',
  );

  t.same(
    await deliver(wiring, 'trunk', {
      ten: tagged(10),
      twenty: tagged(20),
      'nobody else has': tagged(25),
      'not allowed': tagged(30),
      'no native': {},
      'no native for priority': { tags: [{ vlan: 0, priority: 5 }] },
      'two tags': { tags: [{ vlan: 10 }, { vlan: 20 }] },
      'reserved VLAN': tagged(4095),
    }),
    {
      a10: ['ten', 'two tags 20'],
      b10: ['ten', 'two tags 20'],
      c20: ['twenty'],
      trunk: [],
      native: ['ten 10', 'twenty', 'two tags 10 20'],
    },
    'from a trunk without native VLAN',
  );

  t.same(
    await deliver(wiring, 'native', {
      untagged: {},
      'native tag': tagged(20),
      ten: tagged(10),
      'not allowed': tagged(25),
    }),
    {
      a10: ['ten'],
      b10: ['ten'],
      c20: ['untagged', 'native tag'],
      trunk: ['untagged 20', 'native tag 20', 'ten 10'],
      native: [],
    },
    'from a trunk with native VLAN 20',
  );
});

await t.test('a learned address gets its frames alone, in its own VLAN only', { skip }, async t => {
  const lab = Lab.open();
  t.teardown(() => lab.close());
  const wiring = await wire(lab);
  // The same address lives in VLAN 10 behind b10 and in VLAN 20 behind the trunk.
  const address = '02:00:00:00:00:99';
  await sendFrames(wiring.rooms.get('b10')!, 'b10', [frame({ to: BROADCAST, from: address })]);
  await sendFrames(wiring.rooms.get('trunk')!, 'trunk', [
    frame({ to: BROADCAST, from: address, ...tagged(20) }),
  ]);
  await eventually('both to be learned', async () => {
    const { entries } = await wiring.plane.get<MacTable>('/switches/lan/macs');
    const places = entries.filter(({ mac }) => mac === address).map(({ vlan, port }) => `${vlan} ${port}`);
    return places.includes('10 b10') && places.includes('20 trunk') ? true : null;
  });
  t.same(await deliver(wiring, 'a10', { 'for ten': { to: address } }), {
    a10: [],
    b10: ['for ten'],
    c20: [],
    trunk: [],
    native: [],
  });
  t.same(await deliver(wiring, 'c20', { 'for twenty': { to: address } }), {
    a10: [],
    b10: [],
    c20: [],
    trunk: ['for twenty 20'],
    native: [],
  });
});

await t.test('frames that are none do no harm', { skip }, async t => {
  const lab = Lab.open();
  t.teardown(() => lab.close());
  const wiring = await wire(lab);
  const a10 = wiring.rooms.get('a10')!;
  const start = frame({ to: BROADCAST, from: '02:00:00:00:00:01', tags: [{ vlan: 10 }], length_bytes: 18 });
  const cut = [14, 15, 16, 17].map(length => start.slice(0, length));
  const manyTags = frame({
    to: BROADCAST,
    from: '02:00:00:00:00:01',
    tags: Array.from({ length: 100 }, () => ({ vlan: 10 })),
  });
  await sendFrames(a10, 'a10', [...cut, manyTags]);
  t.same((await deliver(wiring, 'a10', { 'still here': {} })).b10.at(-1), 'still here');
  t.ok(wiring.plane.program.isRunning);
});
