/**
 * sFlow as tshark reads it: samples of what crossed the switch, and counters.
 *
 *   a [tapA]---- switch ----[tapB] b          collector: tshark on the loopback of the switch's namespace
 */
import t from 'tap';
import { BROADCAST, frame } from './harness/frames.js';
import { Lab } from './harness/lab.js';
import { missing } from './harness/needs.js';
import { eventually } from './harness/processes.js';
import { sendFrames } from './harness/sender.js';
import { Dataplane, switchOf } from './harness/weft.js';

const skip = missing({ root: true, programs: ['ip', 'nsenter', 'tshark'], paths: ['/dev/net/tun'] });

await t.test('a collector understands what it is told', { skip }, async t => {
  const lab = Lab.open();
  t.teardown(() => lab.close());
  const inside = await lab.namespace('switch');
  const [a, b] = [await lab.namespace('a'), await lab.namespace('b')];
  await inside.ip('link', 'set', 'lo', 'up');
  const plane = await Dataplane.start(lab, { netns: inside.path });
  const fields = [
    'sflow_245.version',
    'sflow_245.agent',
    'sflow_245.vlan.in',
    'sflow_245.ifinbcast',
    'eth.src',
    '_ws.malformed',
  ];
  const listen = 'tshark -l -n -i lo -T fields -E separator=|'.split(' ');
  const shark = inside.start(
    listen.concat(
      ['-f', 'udp port 6343'],
      fields.flatMap(field => ['-e', field]),
    ),
  );
  await eventually('tshark to listen', async () => (shark.stderr.includes('Capturing') ? true : null));
  await plane.configure([
    {
      ...switchOf('lan', [
        { name: 'a', vlan: { mode: 'access', vlan: 10 }, device: { kind: 'tap', ifname: 'tapA' } },
        { name: 'b', vlan: { mode: 'access', vlan: 10 }, device: { kind: 'tap', ifname: 'tapB' } },
      ]),
      sampling: {
        collectors: [{ address: '127.0.0.1', port: 6343 }],
        agent: '192.0.2.1',
        rate: 2,
        header_bytes: 128,
        polling_s: 1,
      },
    },
  ]);
  for (const [room, ifname] of [
    [a, 'tapA'],
    [b, 'tapB'],
  ] as const) {
    await inside.ip('link', 'set', ifname, 'netns', room.path);
    await room.ip('link', 'set', ifname, 'up');
  }
  const from = '02:00:00:00:00:0a';
  await sendFrames(
    a,
    'tapA',
    Array.from({ length: 200 }, () => frame({ to: BROADCAST, from, length_bytes: 100 })),
  );
  const rows = await eventually('flow samples and counters', async () => {
    const lines = shark.stdout.split('\n').map(line => line.split('|'));
    const hasFlows = lines.some(([, , , , source]) => source?.includes(from));
    const hasCounters = lines.some(([, , , broadcasts]) => (broadcasts ?? '').split(',').includes('200'));
    return hasFlows && hasCounters ? lines.filter(line => line.length > 1) : null;
  });
  for (const [version, agent, vlans = '', , , malformed] of rows) {
    t.equal(version, '5');
    t.equal(agent, '192.0.2.1');
    t.ok(
      vlans.split(',').every(vlan => vlan === '' || vlan === '10'),
      `VLAN ${vlans}`,
    );
    t.equal(malformed, '', 'nothing is malformed');
  }
  const shown = await plane.get<{ framesSeen: number; framesSampled: number }>('/switches/lan/show/sampling');
  t.ok(shown.framesSeen >= 200, `${shown.framesSeen} seen`);
  t.ok(shown.framesSampled > 50 && shown.framesSampled < shown.framesSeen, `${shown.framesSampled} sampled`);
});
