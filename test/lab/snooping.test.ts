/**
 * IGMP and MLD snooping with the kernel's stations and a bridge of the kernel as another who asks.
 *
 *   [snpA] sender --+             +-- [snpC] station, IGMPv2 and MLDv1
 *                   +---( weft )--+
 *   [snpB] station -+             +-- [snpD] -- br0: a bridge of the kernel, multicast querier at times
 *          IGMPv3, MLDv2
 *
 * What does not arrive is known by what comes after it: a broadcast is sent behind each frame to a group, and frames of one
 * sender overtake each other nowhere.
 */
import t from 'tap';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { GroupsView } from '../../dataplane/contract.js';
import type { PortSnooping, SwitchSnooping } from '../../dataplane/contract.js';
import { Capture } from './harness/capture.js';
import { Lab } from './harness/lab.js';
import { missing } from './harness/needs.js';
import type { Namespace } from './harness/network.js';
import { eventually, run } from './harness/processes.js';
import type { RunningProgram } from './harness/processes.js';
import { Dataplane, switchOf } from './harness/weft.js';

const skip = missing({
  root: true,
  programs: ['ip', 'nsenter', 'busybox', 'tcpdump', 'tshark'],
  paths: ['/dev/net/tun'],
});

t.setTimeout(240_000);

const MEMBER = fileURLToPath(new URL('./harness/member.js', import.meta.url));
/** Sends two datagrams, one behind the other: GROUP TEXT, then a broadcast with TEXT-behind. */
const SEND = `
const [ifname, local, broadcast, group, port, text] = process.argv.slice(1);
const dgram = await import('node:dgram');
const v6 = group.includes(':');
const to = dgram.createSocket(v6 ? 'udp6' : 'udp4');
const all = dgram.createSocket('udp4');
await new Promise(done => to.bind(0, done));
await new Promise(done => all.bind(0, local, done));
to.setMulticastInterface(v6 ? '::%' + ifname : local);
to.setMulticastTTL(4);
all.setBroadcast(true);
await new Promise(done => to.send(text, Number(port), group, done));
await new Promise(done => all.send(text + '-behind', 9, broadcast, done));
to.close();
all.close();
`;
const PORT = 5004;
const NAMES = ['snpA', 'snpB', 'snpC', 'snpD'] as const;
type Name = (typeof NAMES)[number];
const LISTENERS = ['snpB', 'snpC', 'snpD'] as const;
const addressOf = (name: Name): string => `10.79.0.${NAMES.indexOf(name) + 2}`;
/** We ask as 10.79.0.254 and by the highest of link-local addresses, so that any other outdoes us. */
const OWN = '10.79.0.254';
const OWN6 = 'fe80::ffff:ffff:ffff:ffff';

const snooping = (unknown: 'flood' | 'routers'): SwitchSnooping => ({
  igmp: true,
  mld: true,
  unknown,
  querier: { ipv4: OWN, ipv6: OWN6, interval_s: 10, response_s: 1 },
  robustness: 2,
  limit: 1000,
});

await t.test('snooping with stations and a querier of the kernel', { skip, timeout: 200_000 }, async t => {
  const lab = Lab.open();
  t.teardown(() => lab.close());
  const inside = await lab.namespace('snp-s');
  const plane = await Dataplane.start(lab, { netns: inside.path });
  const configure = async (
    unknown: 'flood' | 'routers',
    ports: Partial<Record<Name, PortSnooping>> = {},
  ): Promise<unknown> =>
    plane.configure([
      {
        ...switchOf(
          'lan',
          NAMES.map(name => ({
            name,
            vlan: { mode: 'access' as const, vlan: 1 },
            device: { kind: 'tap' as const, ifname: name },
            ...(ports[name] === undefined ? {} : { snooping: ports[name] }),
          })),
        ),
        snooping: snooping(unknown),
      },
    ]);
  await configure('routers');
  const rooms = new Map<Name, Namespace>();
  const captures = new Map<Name, Capture>();
  for (const name of NAMES) {
    const room = await lab.namespace(`snp-${name}`, { ipv6: true });
    rooms.set(name, room);
    await inside.moveLink(name, room);
    if (name === 'snpD') continue;
    await room.up(name, `${addressOf(name)}/24`, `fd79::${NAMES.indexOf(name) + 2}/64`);
  }
  const [sender, stationB, stationC, other] = NAMES.map(name => rooms.get(name)!) as [
    Namespace,
    Namespace,
    Namespace,
    Namespace,
  ];
  for (const file of ['ipv4/conf/snpC/force_igmp_version=2', 'ipv6/conf/snpC/force_mld_version=1']) {
    const [path = '', value = ''] = file.split('=');
    await stationC.run(['sh', '-c', `echo ${value} > /proc/sys/net/${path}`]);
  }
  const bridge = async (...words: string[]): Promise<unknown> =>
    other.ip('link', 'set', 'br0', 'type', 'bridge', ...words);
  // It defers to whoever was heard first, whatever the addresses: for a second only.
  const patience = ['mcast_snooping', '1', 'mcast_querier_interval', '100'];
  await other.ip('link', 'add', 'name', 'br0', 'type', 'bridge', ...patience);
  await other.ip('link', 'set', 'snpD', 'master', 'br0', 'up');
  await other.up('br0', '10.79.0.1/24');
  for (const name of LISTENERS) captures.set(name, await Capture.start(lab, rooms.get(name)!, name));

  const shown = async (): Promise<GroupsView> =>
    GroupsView.parse(await plane.get('/switches/lan/show/groups'));
  const membersOf = async (group: string): Promise<string[]> =>
    (await shown()).groups
      .filter(one => one.group === group)
      .map(({ port }) => port)
      .sort();
  const until = async (group: string, ...ports: Name[]): Promise<unknown> =>
    eventually(`${group} to be of ${ports.join(', ') || 'nobody'}`, async () =>
      String(await membersOf(group)) === String(ports) ? true : null,
    );
  let count = 0;
  /** Where a frame to the group arrives. */
  const reaches = async (group: string): Promise<string[]> => {
    const text = `frame-${++count}`;
    const where = ['snpA', addressOf('snpA'), '10.79.0.255', group, String(PORT), text];
    await sender.run([process.execPath, '--input-type=module', '-e', SEND, ...where]);
    for (const capture of captures.values()) await capture.waitFor(`${text}-behind`);
    return LISTENERS.filter(name => {
      const bytes = readFileSync(captures.get(name)!.path, 'latin1');
      return bytes.split(`${text}-behind`).join('').includes(text);
    });
  };
  const join = async (name: Name, group: string): Promise<RunningProgram> => {
    const program = rooms
      .get(name)!
      .start([process.execPath, MEMBER, name, addressOf(name), group, String(PORT)]);
    await program.waitForOutput(stdout => (stdout.includes('joined') ? true : null));
    return program;
  };
  const GROUP = '239.79.1.2';
  const GROUP6 = 'ff15::79:1';

  await t.test('we ask, being alone', async t => {
    const queriers = await eventually('us to ask', async () => {
      const seen = (await shown()).queriers;
      return seen.filter(({ own }) => own).length === 2 ? seen : null;
    });
    t.same(queriers.map(({ family, address }) => `${family} ${address}`).sort(), [
      `igmp ${OWN}`,
      `mld ${OWN6}`,
    ]);
    // Until all had time to answer our first question, groups go everywhere.
    await eventually('groups not to be flooded', async () => {
      return (await reaches(GROUP)).length === 0 ? true : null;
    });
    t.same(await reaches(GROUP), [], 'nobody has joined, and unknown groups go to routers');
    t.same(await reaches('224.0.0.99'), ['snpB', 'snpC', 'snpD'], 'groups of the link go everywhere');
  });

  await t.test('who joins gets the group, by IGMPv3 and v2; a leave ends it', async t => {
    const b = await join('snpB', GROUP);
    await until(GROUP, 'snpB');
    t.same(await reaches(GROUP), ['snpB']);
    t.same(await reaches('239.79.1.3'), [], 'another group');
    const c = await join('snpC', GROUP);
    await until(GROUP, 'snpB', 'snpC');
    t.same(await reaches(GROUP), ['snpB', 'snpC']);
    await b.waitForOutput(stdout => (stdout.includes(`frame-${count}`) ? true : null));
    await c.waitForOutput(stdout => (stdout.includes(`frame-${count}`) ? true : null));
    b.child.stdin?.end();
    await until(GROUP, 'snpC');
    t.same(await reaches(GROUP), ['snpC'], 'the one who left; not the one who stays');
    const single: PortSnooping = { router: 'auto', fastLeave: true, limit: 10 };
    await configure('routers', { snpC: single });
    t.same(await reaches(GROUP), ['snpC'], 'other settings forget nobody');
    c.child.stdin?.end();
    await until(GROUP);
    t.same(await reaches(GROUP), []);
  });

  await t.test('IPv6: MLDv2 and v1, and neighbours are still found', async t => {
    const b = await join('snpB', GROUP6);
    await until(GROUP6, 'snpB');
    t.same(await reaches(GROUP6), ['snpB']);
    const c = await join('snpC', GROUP6);
    await until(GROUP6, 'snpB', 'snpC');
    t.same(await reaches(GROUP6), ['snpB', 'snpC']);
    b.child.stdin?.end();
    await until(GROUP6, 'snpC');
    t.same(await reaches(GROUP6), ['snpC']);
    const { status, stdout } = await stationB.run(
      ['busybox', 'ping', '-6', '-c', '2', '-W', '3', 'fd79::4'],
      {
        mayFail: true,
      },
    );
    t.equal(status, 0, stdout);
    c.child.stdin?.end();
    await until(GROUP6);
  });

  await t.test('another who asks, with a lower address: it is heard, and is where routers are', async t => {
    t.same((await shown()).routers, []);
    // These versions tell how often they ask, so that their silence is known soon.
    await bridge('mcast_igmp_version', '3', 'mcast_mld_version', '2');
    await bridge('mcast_query_use_ifaddr', '1', 'mcast_query_response_interval', '100');
    await bridge('mcast_query_interval', '300', 'mcast_startup_query_interval', '100', 'mcast_querier', '1');
    const queriers = await eventually(
      'the other to be heard',
      async () => {
        const seen = (await shown()).queriers;
        return seen.some(({ own }) => own) ? null : seen;
      },
      { timeout_ms: 30_000 },
    );
    t.match(
      queriers.find(({ family }) => family === 'igmp'),
      { address: '10.79.0.1', own: false },
    );
    t.match(
      queriers.find(({ family }) => family === 'mld'),
      { address: /^fe80::/, own: false },
    );
    const { routers } = await shown();
    t.ok(routers.length > 0 && routers.every(({ port }) => port === 'snpD'), JSON.stringify(routers));
    t.same(await reaches('239.79.9.9'), ['snpD'], 'a group that nobody has joined goes to the router');
    const b = await join('snpB', GROUP);
    await until(GROUP, 'snpB');
    t.same(await reaches(GROUP), ['snpB', 'snpD']);
    await eventually('the bridge behind to have heard the report', async () => {
      const { stdout } = await other.run(['bridge', 'mdb', 'show', 'dev', 'br0']);
      return stdout.includes(GROUP) ? true : null;
    });
    b.child.stdin?.end();
    await until(GROUP);
    await configure('flood');
    t.same(await reaches('239.79.9.9'), ['snpB', 'snpC', 'snpD'], 'as configured otherwise');
    await configure('routers', { snpC: { router: 'always', fastLeave: false, limit: 10 } });
    t.same(await reaches('239.79.9.9'), ['snpC', 'snpD'], "a port said to be a router's");
    await configure('routers');
  });

  await t.test('the other goes silent: after a while we ask again', async t => {
    await bridge('mcast_querier', '0');
    await eventually(
      'us to ask again',
      async () => ((await shown()).queriers.every(({ own }) => own) ? true : null),
      { timeout_ms: 90_000, every_ms: 200 },
    );
    await eventually(
      'the router to be forgotten',
      async () => ((await shown()).routers.length === 0 ? true : null),
      { timeout_ms: 90_000, every_ms: 200 },
    );
    t.same(await reaches('239.79.9.9'), []);
  });

  await t.test('what we sent, as tshark reads it', async t => {
    const capture = captures.get('snpB')!;
    await capture.frames();
    const how = ['-n', '-r', capture.path, '-Y', 'igmp or icmpv6.type == 130', '-V'];
    const { stdout } = await run(['tshark', ...how]);
    t.match(stdout, new RegExp(`Source Address: ${OWN.replaceAll('.', '\\.')}`));
    t.match(stdout, /Multicast Listener Query/);
    t.match(stdout, /Membership Query/);
    t.notMatch(stdout, /Malformed|Expert Info \(Error|checksum.*incorrect/i);
  });
});
