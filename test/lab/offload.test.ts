/**
 * Flows that the kernel forwards in the place of weft-dataplane, with tcpdump and tshark to say what came out.
 *
 *     a: tap, access 10 ---------+          +--- trunk: tap, 10 with its tag
 *     c: tap, access 10 ---------+- switch -+
 *     v: veth, packet, access 10 +          +--- home: tap in the switch's own namespace, access 10
 *
 * Each of a, c, trunk and v's far end is in a namespace of its own. Frames carry a text with a number, so that each
 * can be told from the others: none may be missing, and none may come twice.
 *
 * lab: alone (it counts what the kernel forwarded).
 */
import t from 'tap';
import type { OffloadView, PortConfig, PortVlan, SwitchConfig } from '../../dataplane/contract.js';
import { Capture, textOf } from './harness/capture.js';
import { frame } from './harness/frames.js';
import { Lab } from './harness/lab.js';
import { missing } from './harness/needs.js';
import type { Namespace } from './harness/network.js';
import { eventually } from './harness/processes.js';
import { sendFrames } from './harness/sender.js';
import { Dataplane, switchOf } from './harness/weft.js';

const skip = missing({
  root: true,
  programs: ['ip', 'nsenter', 'tcpdump', 'tshark', 'curl', 'bpftool'],
  paths: ['/dev/net/tun'],
});

const PORTS = ['a', 'c', 'trunk', 'v', 'home'] as const;
type PortName = (typeof PORTS)[number];
const MAC: Readonly<Record<PortName, string>> = {
  a: '02:00:00:00:00:01',
  c: '02:00:00:00:00:03',
  trunk: '02:00:00:00:00:04',
  v: '02:00:00:00:00:05',
  home: '02:00:00:00:00:06',
};

const ifnameOf = (name: PortName): string => (name === 'v' ? 'far' : `tap-${name}`);

const ACCESS: PortVlan = { mode: 'access', vlan: 10 };
const TRUNK: PortVlan = { mode: 'trunk', allowed: [[10, 10]], native: null };

const portOf = (name: PortName): PortConfig => ({
  name,
  vlan: name === 'trunk' ? TRUNK : ACCESS,
  device: name === 'v' ? { kind: 'packet', ifname: 'v' } : { kind: 'tap', ifname: ifnameOf(name) },
});

interface Wiring {
  readonly lab: Lab;
  readonly inside: Namespace;
  readonly plane: Dataplane;
  readonly rooms: Readonly<Record<PortName, Namespace>>;
}

const lan = (more: Partial<SwitchConfig> = {}): SwitchConfig => ({
  ...switchOf('lan', PORTS.map(portOf)),
  ...more,
});

async function wire(lab: Lab, socket?: string): Promise<Wiring> {
  const inside = await lab.namespace('switch');
  const rooms: Record<PortName, Namespace> = {
    a: await lab.namespace('a'),
    c: await lab.namespace('c'),
    trunk: await lab.namespace('trunk'),
    v: await lab.namespace('v'),
    home: inside,
  };
  await lab.veth(inside, 'v', rooms.v, 'far');
  await inside.up('v');
  await rooms.v.up('far');
  const plane = await Dataplane.start(lab, {
    netns: inside.path,
    ...(socket === undefined ? {} : { socket }),
  });
  await plane.configure([lan()]);
  for (const name of ['a', 'c', 'trunk'] as const) {
    await inside.moveLink(ifnameOf(name), rooms[name]);
    await rooms[name].up(ifnameOf(name));
  }
  return { lab, inside, plane, rooms };
}

const view = async (plane: Dataplane): Promise<OffloadView> => plane.get('/switches/lan/show/offload');

/** All ports have their hooks. */
async function ready({ plane }: Wiring): Promise<void> {
  await eventually('every port to be offloaded', async () => {
    const { ports } = await view(plane);
    return ports.length === PORTS.length && ports.every(port => port.reason === null) ? true : null;
  }).catch(async () => t.comment(JSON.stringify((await view(plane)).ports)));
}

interface Way {
  readonly from: PortName;
  readonly to: PortName;
  /** Whose address the frames go to, if not that of `to`. */
  readonly destination?: PortName;
}

const texts = (word: string, count: number): string[] =>
  Array.from({ length: count }, (_, i) => `${word}-${i}.`);

async function send({ rooms }: Wiring, { from, to, destination = to }: Way, words: readonly string[]) {
  const tags = from === 'trunk' ? { tags: [{ vlan: 10 }] } : {};
  const frames = words.map(payload => frame({ to: MAC[destination], from: MAC[from], ...tags, payload }));
  await sendFrames(rooms[from], ifnameOf(from), frames);
}

/** Everyone has spoken, so that everyone's place is known. */
async function introduce(wiring: Wiring): Promise<void> {
  for (const name of PORTS) await send(wiring, { from: name, to: name === 'a' ? 'c' : 'a' }, ['hello']);
}

/** Sends until the flow is with the kernel. */
async function offload(wiring: Wiring, way: Way): Promise<void> {
  const { from, to } = way;
  await eventually(`a flow from ${from} to ${to} with the kernel`, async () => {
    await send(wiring, way, texts('first', 10));
    const { flows } = await view(wiring.plane);
    return flows.some(flow => flow.from === from && flow.to === to) ? true : null;
  });
}

async function framesOf(plane: Dataplane, way: Way): Promise<number> {
  const { flows } = await view(plane);
  return flows.find(flow => flow.from === way.from && flow.to === way.to)?.frames ?? 0;
}

/** Fewer than the some thirty for which tcpdump has room when it is shown each at once. */
const COUNT = 20;

/** What came out at `way.to`, in order, each with the VLAN ids of its tags behind it. */
async function arrivals(wiring: Wiring, way: Way, word: string): Promise<string[]> {
  const capture = await Capture.start(wiring.lab, wiring.rooms[way.to], ifnameOf(way.to));
  await send(wiring, way, texts(word, COUNT));
  await capture.waitFor(texts(word, COUNT).at(-1)!);
  return (await capture.frames())
    .map(seen => [textOf(seen), ...seen.vlans].join(' '))
    .filter(text => text.startsWith(word));
}

t.setTimeout(280_000);

await t.test(
  'frames of an offloaded flow arrive once each, tagged as the port says, and are counted',
  { skip },
  async t => {
    const lab = Lab.open();
    t.teardown(() => lab.close());
    const wiring = await wire(lab);
    const { plane } = wiring;
    await ready(wiring);
    await introduce(wiring);
    const ways: Way[] = [
      { from: 'a', to: 'c' },
      { from: 'a', to: 'trunk' },
      { from: 'trunk', to: 'c' },
      { from: 'a', to: 'home' },
      { from: 'home', to: 'a' },
      { from: 'home', to: 'trunk' },
      { from: 'v', to: 'a' },
      { from: 'a', to: 'v' },
      { from: 'v', to: 'home' },
      { from: 'home', to: 'v' },
      { from: 'trunk', to: 'v' },
    ];
    for (const way of ways) {
      const name = `${way.from} to ${way.to}`;
      await offload(wiring, way);
      const before = await framesOf(plane, way);
      const tag = way.to === 'trunk' ? ' 10' : '';
      t.same(
        await arrivals(wiring, way, 'x'),
        texts('x', COUNT).map(text => text + tag),
        name,
      );
      const counted = await eventually(`the frames ${name} to be counted`, async () => {
        const count = (await framesOf(plane, way)) - before;
        return count >= COUNT ? count : null;
      });
      t.ok(counted >= COUNT, `${name}: the kernel forwarded them`);
    }
    const status = await plane.status();
    const lanStatus = status.switches[0]!;
    t.ok(lanStatus.counters['offloadedFrames']! >= ways.length * COUNT);
    const a = lanStatus.ports.find(port => port.name === 'a')!.counters;
    t.ok(a['ifHCInUcastPkts']! >= 4 * COUNT, 'counters of the port it came by');
    t.ok(a['ifHCOutUcastPkts']! >= 2 * COUNT, 'counters of the port it left by');
    t.ok(a['readCalls']! < a['ifHCInUcastPkts']!, 'most of them without a read');
  },
);

await t.test('a station that moves is followed at once', { skip }, async t => {
  const lab = Lab.open();
  t.teardown(() => lab.close());
  const wiring = await wire(lab);
  await ready(wiring);
  await introduce(wiring);
  const way: Way = { from: 'a', to: 'c' };
  await offload(wiring, way);
  // The trunk's station now has c's address.
  const old = await Capture.start(lab, wiring.rooms.c, 'tap-c');
  const moved = frame({ to: MAC.a, from: MAC.c, tags: [{ vlan: 10 }], payload: 'moved' });
  const heard = await Capture.start(lab, wiring.rooms.a, 'tap-a');
  await sendFrames(wiring.rooms.trunk, 'tap-trunk', [moved]);
  await heard.waitFor('moved');
  await heard.frames();
  const there: Way = { from: 'a', to: 'trunk', destination: 'c' };
  // Sorted: the flow goes to the kernel meanwhile, and a frame may then overtake one that is just being read.
  t.same(
    (await arrivals(wiring, there, 'y')).sort(),
    texts('y', COUNT)
      .map(text => `${text} 10`)
      .sort(),
  );
  await sendFrames(wiring.rooms.trunk, 'tap-trunk', [
    frame({ to: 'ff:ff:ff:ff:ff:ff', from: MAC.trunk, tags: [{ vlan: 10 }], payload: 'end' }),
  ]);
  await old.waitFor('end');
  t.notOk(
    (await old.frames()).some(seen => textOf(seen).startsWith('y')),
    'nothing goes to the old place',
  );
});

await t.test('changes of the configuration take flows back, and lose nothing', { skip }, async t => {
  const lab = Lab.open();
  t.teardown(() => lab.close());
  const wiring = await wire(lab);
  const { plane } = wiring;
  await ready(wiring);
  await introduce(wiring);
  const way: Way = { from: 'a', to: 'c' };
  await offload(wiring, way);

  await plane.configure([lan({ offload: { mode: 'off' } })]);
  t.match(await view(plane), { mode: 'off', reason: /is off/, flows: [] });
  t.same(await arrivals(wiring, way, 'off'), texts('off', COUNT));
  await eventually('the conduits to be taken back', async () =>
    (await wiring.inside.ip('-o', 'link')).stdout.includes('weft-') ? null : true,
  );

  await plane.configure([lan()]);
  await ready(wiring);
  await offload(wiring, way);

  const elsewhere = lan();
  elsewhere.ports = elsewhere.ports.map(port =>
    port.name === 'c' ? { ...port, vlan: { mode: 'access', vlan: 20 } } : port,
  );
  await plane.configure([elsewhere]);
  const capture = await Capture.start(lab, wiring.rooms.c, 'tap-c');
  await send(wiring, way, texts('z', COUNT));
  await plane.configure([lan()]);
  await send(wiring, { from: 'c', to: 'a' }, ['hello']);
  await send(wiring, way, ['end']);
  await capture.waitFor('end');
  t.notOk(
    (await capture.frames()).some(seen => textOf(seen).startsWith('z')),
    'c is in another VLAN',
  );
});

await t.test('a capture on a port sees its frames', { skip }, async t => {
  const lab = Lab.open();
  t.teardown(() => lab.close());
  const wiring = await wire(lab);
  const { plane } = wiring;
  await ready(wiring);
  await introduce(wiring);
  const way: Way = { from: 'a', to: 'c' };
  await offload(wiring, way);
  const path = '/switches/lan/capture?port=c';
  const curl = lab.start([
    'curl',
    '-sN',
    '--unix-socket',
    plane.socket,
    '-o',
    lab.path('c.pcapng'),
    `http://x${path}`,
  ]);
  await eventually('the capture to begin', async () => {
    const { ports } = await view(plane);
    return ports.find(port => port.port === 'c')?.reason === null ? null : true;
  });
  t.same(await arrivals(wiring, way, 'seen'), texts('seen', COUNT), 'and all of them arrive');
  await curl.stop();
  const told = await wiring.inside.run(
    ['tshark', '-n', '-r', lab.path('c.pcapng'), '-T', 'fields', '-e', 'data.data'],
    { mayFail: true },
  );
  const shown = told.stdout
    .split('\n')
    .map(hex => Buffer.from(hex, 'hex').toString().replace(/\0+$/, ''))
    .filter(text => text.startsWith('seen'));
  t.same(shown, texts('seen', COUNT));
  await ready(wiring);
  await offload(wiring, way);
});

await t.test('a killed plane forwards nothing, and the next one removes what it left', { skip }, async t => {
  const lab = Lab.open();
  t.teardown(() => lab.close());
  const wiring = await wire(lab);
  await ready(wiring);
  await introduce(wiring);
  await offload(wiring, { from: 'v', to: 'home' });
  const conduits = async () =>
    ((await wiring.inside.ip('-o', 'link')).stdout.match(/weft-[0-9a-f]{4}\.[0-9a-z]+/g) ?? []).length;
  t.equal(await conduits(), 3);
  wiring.plane.program.signal('SIGKILL');
  await wiring.plane.program.ended;
  t.equal(await conduits(), 3, 'cables stay');
  const { stdout } = await wiring.inside.run(['bpftool', 'net', 'show'], { mayFail: true });
  t.notMatch(stdout, /weft/, 'but nothing is tied to any hook');
  const next = await Dataplane.start(lab, { netns: wiring.inside.path });
  await eventually('the cables to be removed', async () => ((await conduits()) === 0 ? true : null));
  t.match(next.program.stderr, /removed what a killed weft-dataplane left/);
});
