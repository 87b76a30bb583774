/**
 * Port security with real servers and a real client.
 *
 *   client: udhcpc [grdC]---+           +---[grdS] server: dnsmasq, 10.77.0.10-20
 *                           +--( weft )-+
 *                                       +---[grdR] rogue: dnsmasq, 10.66.0.10-20, router advertisements
 *
 * First without a guard, to see that the rogue would win; then with it.
 */
import t from 'tap';
import { chmodSync, writeFileSync } from 'node:fs';
import { GuardView } from '../../dataplane/contract.js';
import type { PortGuard } from '../../dataplane/contract.js';
import { BROADCAST, frame } from './harness/frames.js';
import { Lab } from './harness/lab.js';
import { missing } from './harness/needs.js';
import type { Namespace } from './harness/network.js';
import { eventually } from './harness/processes.js';
import { sendFrames } from './harness/sender.js';
import { Dataplane, switchOf } from './harness/weft.js';

const skip = missing({
  root: true,
  programs: ['ip', 'nsenter', 'busybox', 'dnsmasq'],
  paths: ['/dev/net/tun'],
});

const SERVER = '10.77.0.1';
const NAMES = ['grdC', 'grdS', 'grdR'] as const;
type Guards = Partial<Record<(typeof NAMES)[number], PortGuard>>;

const untrusted: PortGuard = {
  trusted: false,
  leases: false,
  linkLocal: 'any',
  arp: { rate_pps: 100 },
  nd: { rate_pps: 100 },
  dhcpServer: false,
  router: false,
};
const trusted: PortGuard = { ...untrusted, trusted: true };

/** What udhcpc calls with the lease in its environment. */
const SCRIPT = `#!/bin/sh
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
ip address flush dev "$interface"
ip address add "$ip/24" dev "$interface"
echo "leased $ip"
`;

const DNSMASQ = [
  '--no-daemon',
  '--port=0',
  '--conf-file=/dev/null',
  '--pid-file=',
  '--user=root',
  '--no-ping',
  '--bind-interfaces',
  '--dhcp-authoritative',
];

function dnsmasq(where: Namespace, ifname: string, leases: string, ...more: string[]): void {
  const own = [`--interface=${ifname}`, `--dhcp-leasefile=${leases}`];
  where.start(['dnsmasq', ...DNSMASQ, ...own, ...more]);
}

/** Whether an answer comes in so many seconds: few where none is to come. */
async function pings(from: Namespace, source: string, to: string, patience_s = 1): Promise<boolean> {
  const argv = ['busybox', 'ping', '-c', '1', '-W', String(patience_s), '-I', source, to];
  return (await from.run(argv, { mayFail: true })).status === 0;
}

await t.test('a client, its server, and one who would like to be it', { skip, timeout: 200_000 }, async t => {
  const lab = Lab.open();
  t.teardown(() => lab.close());
  const inside = await lab.namespace('grd-s');
  const plane = await Dataplane.start(lab, { netns: inside.path });
  const configure = async (guards: Guards): Promise<unknown> =>
    plane.configure([
      switchOf(
        'lan',
        NAMES.map(name => ({
          name,
          vlan: { mode: 'access' as const, vlan: 1 },
          device: { kind: 'tap' as const, ifname: name },
          ...(guards[name] === undefined ? {} : { guard: guards[name] }),
        })),
      ),
    ]);
  await configure({});
  const [client, server, rogue] = [
    await lab.namespace('grd-client', { ipv6: true }),
    await lab.namespace('grd-server'),
    await lab.namespace('grd-rogue', { ipv6: true }),
  ];
  await inside.moveLink('grdC', client);
  await inside.moveLink('grdS', server);
  await inside.moveLink('grdR', rogue);
  await client.up('grdC');
  await server.up('grdS', `${SERVER}/24`);
  await rogue.up('grdR', '10.66.0.1/24', '2001:db8:66::1/64');
  const script = lab.path('leased');
  writeFileSync(script, SCRIPT);
  chmodSync(script, 0o755);
  dnsmasq(
    rogue,
    'grdR',
    lab.path('rogue.leases'),
    '--dhcp-range=10.66.0.10,10.66.0.20,120',
    '--dhcp-range=2001:db8:66::,ra-only',
    '--enable-ra',
  );
  /** The address leased, or null. */
  const lease = async (): Promise<string | null> => {
    const argv = ['busybox', 'udhcpc', '-i', 'grdC', '-f', '-q', '-n', '-t', '3', '-T', '1', '-s', script];
    const { stdout } = await client.run(argv, { mayFail: true, timeout_ms: 20_000 });
    return /leased (\S+)/.exec(stdout)?.[1] ?? null;
  };
  const shown = async (): Promise<GuardView> => GuardView.parse(await plane.get('/switches/lan/show/guard'));
  const refusedOf = async (port: string): Promise<Record<string, number>> =>
    (await shown()).ports.find(one => one.port === port)?.refused ?? {};
  const routed = async (): Promise<boolean> =>
    (await client.ip('-6', 'address', 'show', 'dev', 'grdC')).stdout.includes('2001:db8:66:');

  await t.test('without a guard the rogue is believed', async t => {
    t.match(await eventually('a lease', lease), /^10\.66\.0\./);
    t.ok(
      await eventually('an address by router advertisement', async () => ((await routed()) ? true : null)),
    );
  });

  const guards: Guards = { grdC: { ...untrusted, leases: true }, grdS: trusted, grdR: untrusted };
  await t.test('with it neither its leases nor its advertisements arrive', async t => {
    await configure(guards);
    await client.ip('address', 'flush', 'dev', 'grdC');
    await client.ip('link', 'set', 'grdC', 'down');
    await client.ip('link', 'set', 'grdC', 'up');
    t.equal(await lease(), null);
    const refused = await eventually('an advertisement to be refused', async () => {
      const counts = await refusedOf('grdR');
      return (counts['dropGuardRouter'] ?? 0) > 0 ? counts : null;
    });
    t.ok((refused['dropGuardDhcpServer'] ?? 0) > 0);
    t.notOk(await routed());
  });

  await t.test("the server's lease is learned, and nothing else may speak", async t => {
    t.notOk(await pings(client, 'grdC', SERVER), 'without an address');
    dnsmasq(server, 'grdS', lab.path('server.leases'), '--dhcp-range=10.77.0.10,10.77.0.20,120');
    const address = await eventually('a lease', lease);
    t.match(address, /^10\.77\.0\./);
    const { leases } = await shown();
    t.match(leases, [{ address, port: 'grdC', mac: await client.macOf('grdC'), vlan: 1 }]);
    t.ok((leases[0]?.expiresIn_s ?? 0) > 60);
    t.ok(await pings(client, address, SERVER, 10));
    await client.ip('address', 'add', '10.77.0.200/24', 'dev', 'grdC');
    t.notOk(await pings(client, '10.77.0.200', SERVER), 'an address that nobody leased');
    const refused = await refusedOf('grdC');
    t.ok((refused['dropGuardArp'] ?? 0) + (refused['dropGuardAddress'] ?? 0) > 0, JSON.stringify(refused));
    const own = await client.macOf('grdC');
    const claim = Uint8Array.from([
      0,
      1,
      8,
      0,
      6,
      4,
      0,
      2,
      ...own.split(':').map(octet => Number.parseInt(octet, 16)),
      ...SERVER.split('.').map(Number),
      ...new Uint8Array(10),
    ]);
    await sendFrames(client, 'grdC', [frame({ to: BROADCAST, from: own, type: 0x0806, payload: claim })]);
    t.ok(
      await eventually("ARP in the server's name to be refused", async () => {
        const counts = await refusedOf('grdC');
        return (counts['dropGuardArp'] ?? 0) > (refused['dropGuardArp'] ?? 0) ? counts : null;
      }),
    );
    t.ok(await pings(client, address, SERVER, 10));
  });
  await t.test('a MAC address that is not its own', async t => {
    const mac = await client.macOf('grdC');
    await configure({ ...guards, grdC: { ...untrusted, macs: [mac] } });
    t.ok(await pings(client, 'grdC', SERVER, 10));
    await client.ip('link', 'set', 'grdC', 'address', '02:00:00:00:99:99');
    t.notOk(await pings(client, 'grdC', SERVER));
    t.ok(((await refusedOf('grdC'))['dropGuardMac'] ?? 0) > 0);
  });
});
