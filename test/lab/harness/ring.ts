/**
 * A ring of three switches, one of them foreign: the kernel's bridge with STP, or Open vSwitch with STP or RSTP.
 *
 *     hostA --- one ==(stream)== two         one, two: switches of weft
 *                 \              /           foreign: in a namespace of its own, by cables (veth)
 *                 f1            f2           to packet ports of one and two
 *                   \          /
 *                    foreign --- hostB
 *
 * Who is the root follows from priorities; exactly one of the six ends of the ring does not forward. Then, while
 * hostA sends to hostB, the cable that it takes is cut and mended again. How long it was not heard is printed,
 * not judged: it depends on what the foreign switch speaks.
 *
 * Each foreign switch has a file of its own, as they wait for the same timers and can do so at the same time.
 */
import t from 'tap';
import type { PortConfig, SpanningTreeView, SwitchConfig } from '../../../dataplane/contract.js';
import { OVS_PROGRAMS, kernelBridge, kernelHears, openVswitch } from './foreignBridge.js';
import type { ForeignBridge } from './foreignBridge.js';
import { Beats } from './beats.js';
import { Lab } from './lab.js';
import { missing } from './needs.js';
import type { Namespace } from './network.js';
import { eventually } from './processes.js';
import { Dataplane, switchOf } from './weft.js';

const NEEDS = { root: true, programs: ['ip', 'nsenter', 'ethtool'], paths: ['/dev/net/tun'] };
/** The shortest that the standard allows: 2 * (4 - 1) >= 6 >= 2 * (2 + 1). */
const TIMES = { forwardDelay_s: 4, maxAge_s: 6 };
const LOW = 4096;
const MIDDLE = 8192;
const HIGH = 32_768;

interface Ring {
  /** Each switch in a process of its own. */
  readonly one: Dataplane;
  readonly two: Dataplane;
  readonly foreign: ForeignBridge;
  readonly room: Namespace;
  readonly hostA: Namespace;
  readonly hostB: Namespace;
}

type Maker = (
  lab: Lab,
  room: Namespace,
  interfaces: readonly string[],
  priority: number,
) => Promise<ForeignBridge>;

const kernel: Maker = async (_, room, interfaces, priority) =>
  kernelBridge(room, interfaces, { priority, ...TIMES });

const MAKERS = {
  'the kernel bridge': { programs: [], make: kernel },
  'Open vSwitch (STP)': {
    programs: OVS_PROGRAMS,
    make: async (lab, room, interfaces, priority) =>
      openVswitch(lab, room, interfaces, { priority, ...TIMES }, 'stp'),
  },
  'Open vSwitch (RSTP)': {
    programs: OVS_PROGRAMS,
    make: async (lab, room, interfaces, priority) =>
      openVswitch(lab, room, interfaces, { priority, ...TIMES }, 'rstp'),
  },
} satisfies Record<string, { programs: string[]; make: Maker }>;

const port = (name: string, device: PortConfig['device'], edge: boolean | 'auto' = false): PortConfig => ({
  name,
  vlan: { mode: 'access', vlan: 1 },
  device,
  spanningTree: { edge, bpduGuard: false },
});

function switches(lab: Lab, priority: number): SwitchConfig[] {
  const path = lab.path('ring.sock');
  const tree = (own: number) =>
    ({ mode: 'rstp', priority: own, helloTime_s: 2, transmitHoldCount: 6, ...TIMES }) as const;
  return [
    {
      ...switchOf('one', [
        port('host', { kind: 'tap', ifname: 'hosta' }, true),
        port('f1', { kind: 'packet', ifname: 'w1' }),
        port('two', { kind: 'stream', path, role: 'listen' }),
      ]),
      address: '02:00:00:00:01:01',
      spanningTree: tree(priority),
    },
    {
      ...switchOf('two', [
        port('f2', { kind: 'packet', ifname: 'w2' }),
        port('one', { kind: 'stream', path, role: 'connect' }),
      ]),
      address: '02:00:00:00:02:02',
      spanningTree: tree(HIGH),
    },
  ];
}

async function build(lab: Lab, make: Maker, ours: number, theirs: number): Promise<Ring> {
  const inside = await lab.namespace('stp-weft');
  const room = await lab.namespace('stp-foreign');
  const [hostA, hostB] = [await lab.namespace('stp-a'), await lab.namespace('stp-b')];
  for (const n of [1, 2]) {
    await lab.veth(inside, `w${n}`, room, `f${n}`);
    await inside.up(`w${n}`);
  }
  const [one, two] = [
    await Dataplane.start(lab, { netns: inside.path, socket: lab.path('one.sock') }),
    await Dataplane.start(lab, { netns: inside.path, socket: lab.path('two.sock') }),
  ];
  const [first, second] = switches(lab, ours);
  await one.configure([first!]);
  await two.configure([second!]);
  await inside.moveLink('hosta', hostA);
  await hostA.up('hosta', '10.9.0.1/24');
  await lab.veth(hostB, 'hostb', room, 'tob');
  await hostB.up('hostb', '10.9.0.2/24');
  // Open vSwitch reads from a packet socket and forwards a checksum as unfinished as it finds it.
  await hostA.run(['ethtool', '-K', 'hosta', 'tx', 'off']);
  await hostB.run(['ethtool', '-K', 'hostb', 'tx', 'off']);
  const foreign = await make(lab, room, ['f1', 'f2', 'tob'], theirs);
  return { one, two, foreign, room, hostA, hostB };
}

const stp = async (plane: Dataplane, name: string): Promise<SpanningTreeView> =>
  plane.get<SpanningTreeView>(`/switches/${name}/show/stp`);

/** The states of the six ends of the ring. */
async function ends(ring: Ring): Promise<string[]> {
  const one = await stp(ring.one, 'one');
  const two = await stp(ring.two, 'two');
  const theirs = await ring.foreign.states();
  const ours = [...one.ports.filter(each => each.port !== 'host'), ...two.ports].map(each => each.state);
  return [...ours, theirs.get('f1') ?? 'disabled', theirs.get('f2') ?? 'disabled'];
}

const isTree = (states: readonly string[]): boolean =>
  states.filter(state => state === 'forwarding').length === 5 && !states.includes('learning');

async function settled(ring: Ring): Promise<string[]> {
  return eventually(
    'the ring to become a tree',
    async () => {
      const states = await ends(ring);
      return isTree(states) ? states : null;
    },
    { timeout_ms: 60_000, every_ms: 200 },
  );
}

/** How long datagrams stayed away while something was done, until it had its effect. */
async function during(ring: Ring, what: () => Promise<void>, until: () => Promise<unknown>): Promise<number> {
  const beats = await Beats.start(ring.hostA, ring.hostB, '10.9.0.2');
  await what();
  await until();
  await beats.arrive();
  return beats.stop();
}

export async function ringWith(name: keyof typeof MAKERS): Promise<void> {
  const { programs, make } = MAKERS[name];
  t.setTimeout(280_000);
  for (const [who, ours, theirs] of [
    ['weft', LOW, MIDDLE],
    [name, MIDDLE, LOW],
  ] as const)
    await t.test(
      `${who} is the root of a ring with ${name}`,
      { skip: missing({ ...NEEDS, programs: [...NEEDS.programs, ...programs] }) },
      async t => {
        const lab = Lab.open();
        t.teardown(() => lab.close());
        if (make === kernel && ours < theirs && !(await kernelHears(await lab.namespace('stp-probe')))) {
          t.pass('SKIPPED: the bridge of this kernel hears no BPDUs in a network namespace');
          return;
        }
        const started = performance.now();
        const ring = await build(lab, make, ours, theirs);
        const states = await settled(ring);
        t.comment(
          `${name}, ${who} is root: a tree ${Math.round(performance.now() - started)} ms after the start`,
        );
        t.equal(states.filter(state => state === 'discarding').length, 1, 'one end is blocked');
        const one = await stp(ring.one, 'one');
        t.equal(one.isRoot, ours < theirs);
        await eventually('the foreign switch to know who is the root', async () =>
          (await ring.foreign.isRoot()) === theirs < ours ? true : null,
        );
        t.equal((await stp(ring.two, 'two')).rootId, one.rootId, 'they agree on the root');
        t.equal(one.ports.find(each => each.port === 'f1')!.speaks, ring.foreign.speaks);
        t.equal(one.ports.find(each => each.port === 'two')!.speaks, 'rstp');

        const cutAway_ms = await during(
          ring,
          async () => void (await ring.room.ip('link', 'set', 'f1', 'down')),
          async () =>
            eventually(
              'the other way to open',
              async () => {
                const theirs = await ring.foreign.states();
                const two = await stp(ring.two, 'two');
                const f2 = two.ports.find(each => each.port === 'f2');
                return theirs.get('f2') === 'forwarding' && f2?.state === 'forwarding' ? true : null;
              },
              { timeout_ms: 60_000, every_ms: 100 },
            ),
        );
        t.comment(
          `${name}, ${who} is root: datagrams stayed away ${Math.round(cutAway_ms)} ms when their cable was cut`,
        );
        const changes = (await stp(ring.one, 'one')).topologyChanges;
        t.ok(changes > 0, 'topology changes were counted');

        const mendAway_ms = await during(
          ring,
          async () => void (await ring.room.ip('link', 'set', 'f1', 'up')),
          async () => settled(ring),
        );
        t.comment(`${name}, ${who} is root: … and ${Math.round(mendAway_ms)} ms when it was mended`);
        const views = [await stp(ring.one, 'one'), await stp(ring.two, 'two')];
        const invalid = views.flatMap(view => view.ports).map(each => each.counters['invalidBpdusIn']);
        t.ok(
          invalid.every(count => count === 0),
          'every BPDU of theirs was understood',
        );
      },
    );
}
