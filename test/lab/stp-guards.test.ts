/**
 * Guards of spanning tree on a live switch, with BPDUs made by hand, and what tshark makes of ours.
 *
 *     guest, uplink, below: taps of one switch, each in a namespace of its own
 *
 * BPDUs are written here octet by octet, apart from dataplane/wire, so that the two can disagree.
 */
import t from 'tap';
import type { PortConfig, SpanningTreeView } from '../../dataplane/contract.js';
import { Lab } from './harness/lab.js';
import { missing } from './harness/needs.js';
import type { Namespace } from './harness/network.js';
import { eventually, run } from './harness/processes.js';
import { sendFrames } from './harness/sender.js';
import { Dataplane, switchOf } from './harness/weft.js';

const skip = missing({
  root: true,
  programs: ['ip', 'nsenter', 'tcpdump', 'tshark'],
  paths: ['/dev/net/tun'],
});

/** A whole frame. Role 3 is designated; times are in seconds. */
function rstBpdu(priority: number, { role = 3, flags = 0, type = 2, version = 2 } = {}): Uint8Array {
  const bridge = `${priority.toString(16).padStart(4, '0')}020000000099`;
  const bpdu =
    `0000${hex(version)}${hex(type)}${hex((role << 2) | flags)}${bridge}00000000${bridge}8001` +
    '0000140002000f0000';
  return Uint8Array.from(Buffer.from(`0180c20000000200000000990027424203${bpdu}`.padEnd(120, '0'), 'hex'));
}
const hex = (octet: number): string => octet.toString(16).padStart(2, '0');

interface Bench {
  readonly lab: Lab;
  readonly plane: Dataplane;
  readonly rooms: Readonly<Record<string, Namespace>>;
}

async function bench(lab: Lab, ports: Readonly<Record<string, PortConfig['spanningTree']>>): Promise<Bench> {
  const inside = await lab.namespace('stpg');
  const plane = await Dataplane.start(lab, { netns: inside.path });
  const rooms: Record<string, Namespace> = {};
  const configs = Object.entries(ports).map(([name, spanningTree]): PortConfig => ({
    name,
    vlan: { mode: 'access', vlan: 1 },
    device: { kind: 'tap', ifname: name },
    ...(spanningTree === undefined ? {} : { spanningTree }),
  }));
  const spanningTree = {
    mode: 'rstp',
    priority: 32_768,
    maxAge_s: 6,
    helloTime_s: 1,
    forwardDelay_s: 4,
    transmitHoldCount: 6,
  } as const;
  await plane.configure([{ ...switchOf('lan', configs), address: '02:00:00:00:00:01', spanningTree }]);
  for (const name of Object.keys(ports)) {
    const room = await lab.namespace(`stpg-${name}`);
    await inside.moveLink(name, room);
    await room.up(name);
    rooms[name] = room;
  }
  return { lab, plane, rooms };
}

type Port = SpanningTreeView['ports'][number];

async function port({ plane }: Bench, name: string): Promise<Port> {
  const view = await plane.get<SpanningTreeView>('/switches/lan/show/stp');
  return view.ports.find(each => each.port === name)!;
}

async function until(on: Bench, name: string, what: string, holds: (port: Port) => boolean): Promise<Port> {
  return eventually(
    `port ${name} ${what}`,
    async () => {
      const now = await port(on, name);
      return holds(now) ? now : null;
    },
    { every_ms: 50 },
  );
}

const isForwarding = (each: Port): boolean => each.state === 'forwarding';

t.setTimeout(200_000);

await t.test('BPDU guard: put down with a reason, and tried again', { skip }, async t => {
  const lab = Lab.open();
  t.teardown(() => lab.close());
  const on = await bench(lab, { guest: { edge: true, bpduGuard: true, guardRecovery_s: 2 } });
  await until(on, 'guest', 'to forward at once', isForwarding);
  await sendFrames(on.rooms['guest']!, 'guest', [rstBpdu(0)]);
  await until(on, 'guest', 'to be put down', each => each.heldBackBy !== null);
  const status = await on.plane.status();
  t.match(status.switches[0]!.ports[0]!.reason, /BPDU guard/);
  const seen = await until(on, 'guest', 'to be tried again', each => each.heldBackBy === null);
  t.equal(seen.counters['guardTrips'], 1);
  await until(on, 'guest', 'to forward again', isForwarding);
  const { ports } = (await on.plane.status()).switches[0]!;
  t.equal(ports[0]!.state, 'up');
});

await t.test('root guard, loop guard, filter, and an inferior bridge', { skip }, async t => {
  const lab = Lab.open();
  t.teardown(() => lab.close());
  const on = await bench(lab, {
    uplink: { loopGuard: true, edge: false },
    below: { rootGuard: true, edge: false },
    deaf: { bpduFilter: true, edge: true },
  });
  const { uplink, below, deaf } = on.rooms as Record<string, Namespace>;

  await sendFrames(below!, 'below', [rstBpdu(0)]);
  const guarded = await until(on, 'below', 'to be held by the root guard', each => each.heldBackBy !== null);
  t.match(guarded, { role: 'alternate', state: 'discarding', heldBackBy: /root guard/ });
  await until(on, 'below', 'to be released when the better root is silent', each => each.heldBackBy === null);

  await sendFrames(uplink!, 'uplink', [rstBpdu(4096)]);
  await until(on, 'uplink', 'to be the way to the root', each => each.role === 'root');
  const silent = await until(on, 'uplink', 'to be held by the loop guard', each => each.heldBackBy !== null);
  t.match(silent, { state: 'discarding', heldBackBy: /loop guard/ });
  await sendFrames(uplink!, 'uplink', [rstBpdu(4096)]);
  await until(on, 'uplink', 'to be released', each => each.heldBackBy === null && each.role === 'root');

  await sendFrames(deaf!, 'deaf', [rstBpdu(0), rstBpdu(0)]);
  const filtered = await until(
    on,
    'deaf',
    'to have filtered both',
    each => each.counters['filteredBpdusIn'] === 2,
  );
  t.match(filtered, { role: 'designated', speaks: 'nothing', counters: { rstBpdusOut: 0 } });

  // Broken in every way that 9.3.4 knows, and some more: counted, and nothing else happens.
  const broken = [rstBpdu(0).subarray(0, 30), rstBpdu(0, { version: 1 }), rstBpdu(0, { type: 0x55 })];
  const before = (await port(on, 'below')).counters['invalidBpdusIn']!;
  await sendFrames(below!, 'below', broken);
  await until(on, 'below', 'to have refused them', each => each.counters['invalidBpdusIn'] === before + 3);
});

await t.test('a flood of BPDUs is bounded', { skip }, async t => {
  const lab = Lab.open();
  t.teardown(() => lab.close());
  const on = await bench(lab, { below: { edge: false } });
  const flood = Array.from({ length: 500 }, (_, i) => rstBpdu(4096 * (i % 8)));
  await sendFrames(on.rooms['below']!, 'below', flood);
  const seen = await until(on, 'below', 'to have heard them all', each => {
    const { rstBpdusIn = 0, excessBpdusIn = 0 } = each.counters;
    return rstBpdusIn + excessBpdusIn === 500;
  });
  t.ok(seen.counters['excessBpdusIn']! > 300, `${seen.counters['excessBpdusIn']} were too many`);
});

await t.test('tshark reads what we send, RST and Configuration BPDUs and TCNs', { skip }, async t => {
  const lab = Lab.open();
  t.teardown(() => lab.close());
  const on = await bench(lab, { rapid: { edge: false }, old: { edge: false } });
  const files: Record<string, string> = {};
  const programs = [];
  for (const name of ['rapid', 'old']) {
    files[name] = lab.path(`${name}.pcap`);
    const how = ['-Z', 'root', '--immediate-mode', '-U', '-n', '-Q', 'in', '-i', name, '-w', files[name]];
    const program = on.rooms[name]!.start(['tcpdump', ...how]);
    await program.waitForOutput((_out, err) => (err.includes('listening on') ? true : null));
    programs.push(program);
  }
  const sent = async (): Promise<number> => (await port(on, 'rapid')).counters['rstBpdusOut']!;
  const before = await sent();
  // An STP bridge with the better root behind `old`: three seconds later we answer it in its own words.
  const config = rstBpdu(0, { type: 0, version: 0, role: 0 });
  await eventually(
    'the port to speak STP',
    async () => {
      await sendFrames(on.rooms['old']!, 'old', [config]);
      const now = await port(on, 'old');
      return now.speaks === 'stp' && now.counters['tcnBpdusOut']! > 0 ? true : null;
    },
    { timeout_ms: 30_000, every_ms: 500 },
  );
  await eventually('four to be sent by the other port', async () =>
    (await sent()) >= before + 4 ? true : null,
  );
  for (const program of programs) await program.stop();
  const fields = [
    'stp.version',
    'stp.type',
    'stp.flags.port_role',
    'stp.root.hw',
    'stp.max_age',
    '_ws.malformed',
  ];
  const read = async (name: string): Promise<string[]> => {
    const wanted = [...fields, '_ws.expert.message'].flatMap(field => ['-e', field]);
    const { stdout } = await run([
      'tshark',
      '-n',
      '-r',
      files[name]!,
      '-Y',
      'stp',
      '-T',
      'fields',
      ...wanted,
    ]);
    return stdout.split('\n').filter(line => line.trim() !== '');
  };
  const rapid = await read('rapid');
  t.ok(rapid.length > 3, `${rapid.length} BPDUs`);
  const [version, type, role, root, maxAge, ...complaints] = rapid.at(-1)!.split('\t');
  t.same([version, type, role, root, maxAge], ['2', '0x02', '3', '02:00:00:00:00:99', '20']);
  t.same(complaints.filter(Boolean), [], 'no complaint');
  const old = await read('old');
  t.ok(
    old.some(line => line.startsWith('0\t0x80')),
    'a TCN toward the root',
  );
  t.notOk(
    [...rapid, ...old].some(line => /malformed|error/i.test(line)),
    'nothing malformed',
  );
});
