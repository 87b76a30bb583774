/**
 * LLDP with lldpd, both ways; what we send as tshark reads it; and that a guest's port stays silent.
 *
 *   lan --- port "up", members m0 ==== p0, m1 ==== p1 --- lldpd, in a namespace of its own
 *    |
 *    +--- port "guest" (a stream socket): nothing
 */
import t from 'tap';
import { LagSettings, SwitchLldp } from '../../dataplane/contract.js';
import type { LldpView, SwitchConfig } from '../../dataplane/contract.js';
import { Capture } from './harness/capture.js';
import { Lab } from './harness/lab.js';
import { missing } from './harness/needs.js';
import { eventually, run } from './harness/processes.js';
import { Dataplane, switchOf } from './harness/weft.js';

const skip = missing({ root: true, programs: ['ip', 'nsenter', 'lldpd', 'lldpcli', 'tcpdump', 'tshark'] });

t.setTimeout(200_000);

const lanOf = (path: string, settings: object, ports: { description?: string }): SwitchConfig => ({
  ...switchOf('lan', [
    {
      name: 'up',
      vlan: { mode: 'trunk', allowed: [[1, 20]], native: 7 },
      lldp: ports,
      device: {
        kind: 'lag',
        settings: LagSettings.parse({ mode: 'static' }),
        members: ['m0', 'm1'].map(ifname => ({
          name: ifname,
          device: { kind: 'packet', ifname },
          priority: 32_768,
        })),
      },
    },
    { name: 'guest', vlan: { mode: 'access', vlan: 7 }, device: { kind: 'stream', path, role: 'listen' } },
  ]),
  address: '02:00:00:00:aa:07',
  lldp: SwitchLldp.parse(settings),
});

await t.test('LLDP', { skip }, async t => {
  const lab = Lab.open();
  t.teardown(() => lab.close());
  const [mid, peer] = [await lab.namespace('lldp-weft'), await lab.namespace('lldp-peer')];
  for (const n of [0, 1]) {
    await lab.veth(mid, `m${n}`, peer, `p${n}`);
    await mid.up(`m${n}`);
    await peer.up(`p${n}`);
  }
  const capture = await Capture.start(lab, peer, 'p0', 'ether proto 0x88cc');
  const socket = lab.path('lldpd.sock');
  const words = ['-d', '-u', socket, '-I', 'p0,p1', '-C', 'p0', '-S', 'the peer of the lab'];
  const lldpd = peer.start(['lldpd', ...words]);
  const plane = await Dataplane.start(lab, { netns: mid.path });
  const settings = {
    interval_s: 1,
    systemName: 'weft-lab',
    managementAddresses: ['192.0.2.7', '2001:db8::7'],
  };
  const path = lab.path('guest.sock');
  await plane.configure([lanOf(path, settings, { description: 'to the peer' })]);

  const view = async (): Promise<LldpView> => plane.get<LldpView>('/switches/lan/show/neighbours');
  const both = await eventually(
    `both members to hear of lldpd; it says ${lldpd.stderr.slice(-500)}`,
    async () => {
      const seen = await view();
      return seen.neighbours.length === 2 ? seen : null;
    },
    { timeout_ms: 90_000, every_ms: 200 },
  );
  t.same(both.neighbours.map(({ port, member }) => `${port} ${member}`).sort(), ['up m0', 'up m1']);
  for (const { systemDescription, chassisIdKind, portDescription } of both.neighbours) {
    t.match(systemDescription, /the peer of the lab/);
    t.equal(chassisIdKind, 'mac');
    t.match(portDescription, /^p[01]$/);
  }
  t.same(
    both.links.map(({ port, member }) => `${port} ${member}`).sort(),
    ['up m0', 'up m1'],
    'the guest is no link',
  );

  const told = await eventually(
    'lldpd to hear of us',
    async () => {
      const { stdout } = await peer.run(
        ['lldpcli', '-u', socket, '-f', 'keyvalue', 'show', 'neighbors', 'details'],
        {
          mayFail: true,
        },
      );
      return stdout.includes('lldp.p0.') && stdout.includes('lldp.p1.') ? stdout : null;
    },
    { timeout_ms: 60_000, every_ms: 300 },
  );
  for (const line of [
    'lldp.p0.chassis.mac=02:00:00:00:aa:07',
    'lldp.p0.chassis.name=weft-lab',
    'lldp.p0.chassis.mgmt-ip=192.0.2.7',
    'lldp.p0.chassis.mgmt-ip=2001:db8::7',
    'lldp.p0.chassis.Bridge.enabled=on',
    'lldp.p0.port.ifname=up/m0',
    'lldp.p0.port.descr=to the peer',
    'lldp.p0.vlan.vlan-id=7',
    'lldp.p1.port.ifname=up/m1',
    'lldp.p0.port.aggregation=1',
  ])
    t.ok(told.includes(line), line);

  await plane.configure([lanOf(path, { ...settings, mode: 'rx' }, {})]);
  await eventually('our leave to be taken', async () => {
    const { stdout } = await peer.run(['lldpcli', '-u', socket, '-f', 'keyvalue', 'show', 'neighbors'], {
      mayFail: true,
    });
    return stdout.includes('weft-lab') ? null : true;
  });
  t.equal((await view()).neighbours.length, 2, 'who only listens still hears');

  await capture.frames();
  const { stdout } = await run(['tshark', '-n', '-r', capture.path, '-V']);
  t.match(stdout, /Link Layer Discovery Protocol/);
  t.notMatch(stdout, /Malformed|Expert Info \(Error/, 'tshark has nothing to complain of');
  t.match(stdout, /System Name = weft-lab/);
  t.match(stdout, /Port VLAN Identifier: 7/);
  t.match(stdout, /Aggregation Status: .*(Enabled|True|Yes|In aggregation)/i);
  t.match(stdout, /Seconds: 0|Time To Live = 0/, 'the last word');

  lldpd.signal('SIGKILL');
  await lldpd.ended;
  await peer.ip('link', 'set', 'p0', 'down');
  await eventually('the neighbour over a link that is down to be gone', async () =>
    (await view()).neighbours.some(({ member }) => member === 'm0') ? null : true,
  );
});
