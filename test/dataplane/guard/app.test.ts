/** Port security on a switch of memory ports: who may speak, and who may answer. */
import t from 'tap';
import { GuardView, PortGuard } from '../../../dataplane/contract.js';
import * as arp from '../../../dataplane/wire/arp.js';
import * as dhcp from '../../../dataplane/wire/dhcp.js';
import { SwitchBench } from '../switchBench.js';

const macBytes = (mac: string): number[] => mac.split(':').map(part => Number.parseInt(part, 16));
const CLIENT = '02:00:00:00:00:0a';
const SERVER = '02:00:00:00:00:0b';
const OTHER = '02:00:00:00:00:0c';
const ALL = 'ff:ff:ff:ff:ff:ff';

const guard = (more: Partial<PortGuard> = {}): { guard: PortGuard } => ({
  guard: PortGuard.parse({
    trusted: false,
    leases: false,
    linkLocal: 'any',
    arp: { rate_pps: 100 },
    nd: { rate_pps: 100 },
    dhcpServer: false,
    router: false,
    ...more,
  }),
});

const ether = (to: string, from: string, type: number, payload: number[]): Uint8Array =>
  Uint8Array.from([...macBytes(to), ...macBytes(from), type >> 8, type & 255, ...payload]);
const word = (n: number): number[] => [n >> 8, n & 255];
const ip4 = (text: string): number[] => text.split('.').map(Number);

function udp4(
  to: string,
  from: string,
  [source, destination]: [string, string],
  [sourcePort, destinationPort]: [number, number],
  payload: number[] = [],
  fragment = 0,
): Uint8Array {
  return ether(to, from, 0x0800, [
    0x45,
    0,
    ...word(28 + payload.length),
    0,
    0,
    ...word(fragment),
    64,
    17,
    0,
    0,
    ...ip4(source),
    ...ip4(destination),
    ...word(sourcePort),
    ...word(destinationPort),
    ...word(8 + payload.length),
    0,
    0,
    ...payload,
  ]);
}

function arpFrame(from: string, sender: string, senderIp: string, operation = arp.REQUEST): Uint8Array {
  return ether(ALL, from, 0x0806, [
    0,
    1,
    8,
    0,
    6,
    4,
    ...word(operation),
    ...macBytes(sender),
    ...ip4(senderIp),
    ...macBytes('00:00:00:00:00:00'),
    ...ip4('10.0.0.254'),
  ]);
}

const v6 = (tail: number, head = [0x20, 0x01, 0x0d, 0xb8]): number[] => [
  ...head,
  ...Array.from({ length: 11 }, () => 0),
  tail,
];
const LINK_LOCAL = v6(1, [0xfe, 0x80, 0, 0]);
const UNSPECIFIED = v6(0, [0, 0, 0, 0]);

function icmp6(
  from: string,
  source: number[],
  body: number[],
  { hops = 255, extension = [] as number[] } = {},
): Uint8Array {
  const isExtended = extension.length > 0;
  return ether('33:33:00:00:00:01', from, 0x86dd, [
    0x60,
    0,
    0,
    0,
    ...word(extension.length + body.length),
    isExtended ? 60 : 58,
    hops,
    ...source,
    ...v6(1, [0xff, 2, 0, 0]),
    ...extension,
    ...body,
  ]);
}
const advertise = (target: number[], linkLayer: string): number[] => [
  136,
  0,
  0,
  0,
  0x20,
  0,
  0,
  0,
  ...target,
  2,
  1,
  ...macBytes(linkLayer),
];
const ROUTER_ADVERTISEMENT = [134, 0, 0, 0, 64, 0, 0, 30, 0, 0, 0, 0, 0, 0, 0, 0];

function dhcpMessage(over: Partial<dhcp.Message>, client = CLIENT): number[] {
  const view = new DataView(new ArrayBuffer(300));
  const [a, b, ...rest] = macBytes(client) as [number, number, number, number, number, number];
  const length = dhcp.emit(view, 0, {
    op: dhcp.BOOTREQUEST,
    xid: 77,
    clientHigh: (a << 8) | b,
    clientLow: rest.reduce((all, octet) => (all << 8) | octet, 0),
    ciaddr: 0,
    yiaddr: 0,
    giaddr: 0,
    type: dhcp.REQUEST,
    lease_s: 0,
    ...over,
  });
  return [...new Uint8Array(view.buffer, 0, length)];
}
const address = (text: string): number => ip4(text).reduce((all, octet) => (all << 8) | octet, 0);

const asks = (over: Partial<dhcp.Message> = {}, from = CLIENT, client = CLIENT): Uint8Array =>
  udp4(ALL, from, ['0.0.0.0', '255.255.255.255'], [68, 67], dhcpMessage(over, client));
const answers = (over: Partial<dhcp.Message> = {}): Uint8Array =>
  udp4(
    CLIENT,
    SERVER,
    ['10.0.0.1', '10.0.0.9'],
    [67, 68],
    dhcpMessage({ op: dhcp.BOOTREPLY, type: dhcp.ACK, yiaddr: address('10.0.0.9'), lease_s: 60, ...over }),
  );

/** What each frame from the guarded port `a` meets: `passed`, or the reason. */
function judge(guarded: Partial<PortGuard>): (...frames: Uint8Array[]) => string[] {
  const one = new SwitchBench({ ports: [{ name: 'a', ...guard(guarded) }, { name: 'b' }] });
  const refused = (): Record<string, number> => GuardView.parse(one.app.show('guard', {})).ports[0]!.refused;
  return (...frames) =>
    frames.map(frame => {
      const before = refused();
      one.send('a', frame);
      if (one.port('b').taken().length > 0) return 'passed';
      return Object.entries(refused())
        .filter(([reason, count]) => count !== (before[reason] ?? 0))
        .map(([reason]) => reason)
        .join();
    });
}

void t.test('the source MAC address', async t => {
  const send = judge({ macs: [CLIENT] });
  const plain = (from: string): Uint8Array =>
    ether(
      ALL,
      from,
      0x88b5,
      Array.from({ length: 46 }, () => 0),
    );
  t.same(send(plain(CLIENT), plain(OTHER)), ['passed', 'dropGuardMac']);
});

void t.test('IPv4 addresses, in packets and in ARP', async t => {
  const send = judge({ addresses: [{ prefix: '10.0.0.5' }, { prefix: '10.1.0.0/16', mac: OTHER }] });
  const from = (mac: string, ip: string): Uint8Array => udp4(ALL, mac, [ip, '10.0.0.254'], [1, 2]);
  t.same(
    send(
      from(CLIENT, '10.0.0.5'),
      from(CLIENT, '10.0.0.6'),
      from(CLIENT, '10.1.2.3'),
      from(OTHER, '10.1.2.3'),
    ),
    ['passed', 'dropGuardAddress', 'dropGuardAddress', 'passed'],
  );
  t.same(
    send(
      arpFrame(CLIENT, CLIENT, '10.0.0.5'),
      arpFrame(CLIENT, CLIENT, '10.0.0.5', arp.REPLY),
      arpFrame(CLIENT, CLIENT, '10.0.0.1'),
      arpFrame(CLIENT, SERVER, '10.0.0.5'),
      arpFrame(CLIENT, CLIENT, '0.0.0.0'),
      arpFrame(CLIENT, CLIENT, '0.0.0.0', arp.REPLY),
      arpFrame(CLIENT, CLIENT, '255.255.255.255'),
      arpFrame(CLIENT, CLIENT, '10.0.0.5').slice(0, 40),
      arpFrame(CLIENT, CLIENT, '10.0.0.5', 9),
    ),
    [
      'passed',
      'passed',
      'dropGuardArp',
      'dropGuardArp',
      'passed',
      'dropGuardArp',
      'dropGuardMalformed',
      'dropGuardMalformed',
      'dropGuardMalformed',
    ],
  );
});

void t.test('a tag in front changes nothing', async t => {
  const one = new SwitchBench({
    ports: [
      {
        name: 'a',
        vlan: { mode: 'trunk', allowed: [[1, 9]], native: 1 },
        ...guard({ addresses: [{ prefix: '10.0.0.5' }] }),
      },
      { name: 'b', vlan: { mode: 'trunk', allowed: [[1, 9]], native: null } },
    ],
  });
  const spoofed = arpFrame(CLIENT, CLIENT, '10.0.0.1');
  one.send('a', Uint8Array.from([...spoofed.slice(0, 12), 0x81, 0, 0, 7, ...spoofed.slice(12)]));
  t.same(one.receivers(), []);
  t.equal(one.port('a').count('dropGuardArp'), 1);
});

void t.test('ARP and neighbour discovery have a rate', async t => {
  const send = judge({ arp: { rate_pps: 3 }, nd: { rate_pps: 1 } });
  const ask = arpFrame(CLIENT, CLIENT, '10.0.0.5');
  t.same(send(ask, ask, ask, ask), ['passed', 'passed', 'passed', 'dropGuardArpRate']);
  const told = icmp6(CLIENT, v6(5), advertise(v6(5), CLIENT));
  t.same(send(told, told), ['passed', 'dropGuardNdRate']);
});

void t.test('neighbour discovery', async t => {
  const send = judge({ addresses: [{ prefix: '2001:db8::5' }] });
  const nd = (target: number[], linkLayer: string, source = v6(5), hops = 255): Uint8Array =>
    icmp6(CLIENT, source, advertise(target, linkLayer), { hops });
  t.same(
    send(
      nd(v6(5), CLIENT),
      nd(v6(6), CLIENT),
      nd(v6(5), OTHER),
      nd(v6(5), CLIENT, v6(6)),
      nd(LINK_LOCAL, CLIENT, LINK_LOCAL),
      nd(v6(5), CLIENT, v6(5), 64),
      nd(UNSPECIFIED, CLIENT),
      icmp6(CLIENT, v6(5), advertise(v6(5), CLIENT).slice(0, 26)),
      icmp6(CLIENT, v6(5), [...advertise(v6(5), CLIENT).slice(0, 24), 2, 0, 0, 0, 0, 0, 0, 0]),
      // Duplicate address detection: from nobody, about an address that one has yet to own.
      icmp6(CLIENT, UNSPECIFIED, [135, 0, 0, 0, 0, 0, 0, 0, ...v6(5)]),
    ),
    [
      'passed',
      'dropGuardNd',
      'dropGuardNd',
      'dropGuardNd',
      'passed',
      'dropGuardMalformed',
      'dropGuardMalformed',
      'dropGuardMalformed',
      'dropGuardMalformed',
      'passed',
    ],
  );
  t.same(send(icmp6(CLIENT, v6(6), [128, 0, 0, 0, 0, 0, 0, 1])), ['dropGuardAddress']);
  t.same(
    judge({ addresses: [{ prefix: '2001:db8::5' }], linkLocal: 'listed' })(
      nd(LINK_LOCAL, CLIENT, LINK_LOCAL),
    ),
    ['dropGuardNd'],
  );
});

void t.test('routers', async t => {
  const send = judge({});
  const padding = [58, 0, 1, 4, 0, 0, 0, 0];
  t.same(
    send(
      icmp6(CLIENT, LINK_LOCAL, ROUTER_ADVERTISEMENT),
      icmp6(CLIENT, LINK_LOCAL, [137, ...ROUTER_ADVERTISEMENT.slice(1)]),
      // RFC 7113: behind an extension header, and behind more of them than anybody looks through.
      icmp6(CLIENT, LINK_LOCAL, ROUTER_ADVERTISEMENT, { extension: padding }),
      icmp6(CLIENT, LINK_LOCAL, ROUTER_ADVERTISEMENT, {
        extension: [...Array.from({ length: 20 }, () => [60, ...padding.slice(1)]).flat(), ...padding],
      }),
    ),
    ['dropGuardRouter', 'dropGuardRouter', 'dropGuardRouter', 'dropGuardMalformed'],
  );
  t.same(judge({ router: true })(icmp6(CLIENT, LINK_LOCAL, ROUTER_ADVERTISEMENT)), ['passed']);
});

void t.test('DHCP: servers, and who asks in whose name', async t => {
  const send = judge({ macs: undefined });
  t.same(
    send(
      asks(),
      asks({}, CLIENT, OTHER),
      asks({ giaddr: address('10.0.0.3') }),
      answers(),
      udp4(ALL, CLIENT, ['10.0.0.1', '10.0.0.2'], [67, 67], dhcpMessage({ op: dhcp.BOOTREPLY })),
      udp4(ALL, CLIENT, ['10.0.0.1', '10.0.0.2'], [67, 68], [1, 2, 3]),
      udp4(ALL, CLIENT, ['10.0.0.1', '10.0.0.2'], [67, 68], dhcpMessage({ op: dhcp.BOOTREPLY }), 0x2000),
    ),
    [
      'passed',
      'dropGuardDhcp',
      'dropGuardDhcp',
      'dropGuardDhcpServer',
      'dropGuardDhcpServer',
      'dropGuardMalformed',
      'dropGuardMalformed',
    ],
  );
  t.same(judge({ dhcpServer: true })(answers()), ['passed']);
});

void t.test('leases: learned from trusted ports only, of use at once, gone in time', async t => {
  const ports = [
    { name: 'a', ...guard({ leases: true }) },
    { name: 'up', ...guard({ trusted: true }) },
    { name: 'rogue' },
  ];
  const one = new SwitchBench({ ports });
  const view = (): GuardView => GuardView.parse(one.app.show('guard', {}));
  const speaks = (from = CLIENT): boolean => {
    one.send('a', udp4(ALL, from, ['10.0.0.9', '10.0.0.1'], [1, 2]), arpFrame(from, from, '10.0.0.9'));
    const count = one.port('up').taken().length;
    t.ok(count === 0 || count === 2, 'IP and ARP alike');
    return count === 2;
  };
  t.notOk(speaks(), 'nothing is leased yet');
  one.send('rogue', answers());
  one.send('up', answers());
  t.same(view().leases, [], 'nobody asked');
  one.send('a', asks());
  one.receivers();
  one.send('rogue', answers());
  t.same(view().leases, [], 'one who is not trusted');
  one.send('up', answers({ type: dhcp.OFFER }));
  t.same(view().leases, [], 'an offer is no lease');
  one.send('up', answers());
  t.same(view().leases, [{ address: '10.0.0.9', mac: CLIENT, vlan: 1, port: 'a', expiresIn_s: 60 }]);
  t.ok(speaks());
  t.notOk(speaks(OTHER), 'another station of the same port');
  one.configure({ ports });
  t.ok(speaks(), 'a change elsewhere leaves it');
  one.rig.clock.now_ms = 60_001;
  t.notOk(speaks(), 'its time is over');
  t.same(view().leases, [], 'and it is swept away');
  one.send('a', asks());
  one.send('up', answers());
  one.receivers();
  t.ok(speaks());
  one.send(
    'a',
    udp4(
      SERVER,
      CLIENT,
      ['10.0.0.9', '10.0.0.1'],
      [68, 67],
      dhcpMessage({ type: dhcp.RELEASE, ciaddr: address('10.0.0.9') }),
    ),
  );
  one.receivers();
  t.notOk(speaks(), 'given back');
});

void t.test('what is refused is told, once in ten seconds for each port and reason', async t => {
  const one = new SwitchBench({ ports: [{ name: 'a', ...guard({ macs: [OTHER] }) }, { name: 'b' }] });
  one.rig.clock.now_ms = 1000;
  for (let i = 0; i < 50; i++) one.send('a', arpFrame(CLIENT, CLIENT, '10.0.0.5'));
  t.equal(one.told.length, 1);
  t.match(one.told[0], {
    what: 'guard',
    port: 'a',
    message: /source MAC address.*dropGuardMac.*02:00:00:00:00:0a in VLAN 1/,
  });
  one.rig.clock.now_ms = 11_001;
  one.send('a', arpFrame(CLIENT, CLIENT, '10.0.0.5'));
  t.equal(one.told.length, 2);
});
