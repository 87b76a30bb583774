/** What would become of a frame: told right, and with nothing left behind. */
import t from 'tap';
import { TraceView } from '../../../dataplane/contract.js';
import { SwitchConfig } from '../../../dataplane/contract.js';
import { buildFrame } from '../../../control/model/switch/trialFrame.js';
import { SwitchBench } from '../switchBench.js';

const ALL = 'ff:ff:ff:ff:ff:ff';
const station = (n: number): string => `02:00:00:00:00:0${n}`;
const tagged = (vlan: number, priority = 0) => ({ tags: [{ vlan, priority, tpid: 0x8100 }] });

function trace(bench: SwitchBench, port: string, bytes: Uint8Array): TraceView {
  const told = bench.app.trace(port, bytes);
  if (typeof told === 'string') throw new Error(told);
  return TraceView.parse(told);
}

const stagesOf = (told: TraceView): string[] =>
  told.stages.map(({ stage, verdict }) => `${stage} ${verdict}`);

function wired(more: Partial<SwitchConfig> = {}): SwitchBench {
  return new SwitchBench({
    ...more,
    ports: [
      { name: 'a', vlan: { mode: 'access', vlan: 10 } },
      { name: 'b', vlan: { mode: 'access', vlan: 10 } },
      { name: 'c', vlan: { mode: 'access', vlan: 20 } },
      { name: 'up', vlan: { mode: 'trunk', allowed: [[10, 20]], native: null } },
      { name: 'wan', vlan: { mode: 'trunk', allowed: [[10, 10]], native: null, tpid: 0x88a8 } },
    ],
  });
}

await t.test('flooded, with the tags that each port puts on', async t => {
  const told = trace(wired(), 'a', buildFrame({ src: station(1), dst: ALL }));
  t.equal(told.outcome, 'flooded');
  t.equal(told.vlan, 10);
  t.same(
    told.egress.map(({ port, tags }) => [port, tags]),
    [
      ['b', 'untagged'],
      ['up', 'tag 10'],
      ['wan', 'service tag 10'],
    ],
  );
  t.same(stagesOf(told), ['vlan pass', 'learning pass', 'lookup pass']);
  t.match(told.stages[1]!.why, 'would be learned');
});

await t.test('forwarded to who is known; refused with the name of the counter', async t => {
  const bench = wired();
  bench.send('b', buildFrame({ src: station(2), dst: ALL }));
  const told = trace(bench, 'up', buildFrame({ src: station(1), dst: station(2), ...tagged(10, 5) }));
  t.equal(told.outcome, 'forwarded');
  t.same(told.egress, [{ port: 'b', tags: 'untagged', queue: null }]);
  t.equal(told.priority, 5);
  const moved = trace(bench, 'a', buildFrame({ src: station(2), dst: ALL }));
  t.match(moved.stages[1]!.why, 'would move here from port b');
  const same = trace(bench, 'b', buildFrame({ src: station(3), dst: station(2) }));
  t.equal(same.reason, 'dropSamePort');
  for (const [port, bytes, reason] of [
    ['up', buildFrame({ src: station(1), dst: ALL, ...tagged(99) }), 'dropVlanNotMember'],
    ['up', buildFrame({ src: station(1), dst: ALL }), 'dropUntagged'],
    ['up', new Uint8Array(10), 'dropTruncated'],
  ] as const) {
    const refused = trace(bench, port, bytes);
    t.equal(refused.outcome, 'dropped');
    t.equal(refused.reason, reason);
    t.equal(refused.stages.at(-1)!.verdict, 'drop');
    t.equal(refused.vlan, null);
  }
  const bpdu = trace(bench, 'a', buildFrame({ src: station(1), dst: '01:80:c2:00:00:00' }));
  t.equal(bpdu.outcome, 'control');
  t.equal(bench.app.trace('nobody', new Uint8Array(60)), 'NO_SUCH_PORT');
});

await t.test('rules, guards, limits and storms are asked, and nothing is left of it', async t => {
  const rules = SwitchConfig.shape.rules.parse({
    rules: [
      {
        name: 'no-telnet',
        priority: 10,
        match: { protocols: [6], destinationPorts: [[23, 23]] },
        actions: { verdict: 'drop', log: true },
      },
      { name: 'mark', priority: 5, match: {}, actions: { verdict: 'continue', setVlan: 20 } },
    ],
    default: 'allow',
    meters: [],
  });
  const config = {
    ...(rules === undefined ? {} : { rules }),
    ports: [
      {
        name: 'a',
        vlan: { mode: 'access' as const, vlan: 10 },
        addresses: { limit: 1, onFull: 'shutdown' as const, moves: null, recovery_s: null },
        storm: {
          broadcast: { unit: 'frames' as const, rate_per_s: 1, burst: 1 },
          action: 'shutdown' as const,
          recovery_s: null,
        },
      },
      { name: 'b', vlan: { mode: 'access' as const, vlan: 20 } },
    ],
  };
  const bench = new SwitchBench(config);
  const before = snapshot(bench);
  const ip = { ipSrc: '10.0.0.1', ipDst: '10.0.0.2', protocol: 'tcp' };
  for (let round = 0; round < 3; round++) {
    const refused = trace(bench, 'a', buildFrame({ src: station(1), dst: ALL, ...ip, dport: 23 }));
    t.equal(refused.reason, 'dropRule');
    t.match(refused.stages.at(-1)!.why, '"no-telnet"');
    const passed = trace(bench, 'a', buildFrame({ src: station(1 + round), dst: ALL, ...ip, dport: 80 }));
    t.equal(passed.outcome, 'flooded', 'no round uses up what the next may have');
    t.same(
      passed.egress.map(({ port }) => port),
      ['b'],
      'in the VLAN that the rule gave it',
    );
  }
  t.same(snapshot(bench), before);
  // A real one uses up the broadcasts and the addresses of the port.
  bench.send('a', buildFrame({ src: station(1), dst: ALL }));
  t.equal(trace(bench, 'a', buildFrame({ src: station(1), dst: ALL })).reason, 'dropStormBroadcast');
  t.equal(trace(bench, 'a', buildFrame({ src: station(2), dst: station(9) })).reason, 'dropAddressLimit');
  t.ok(bench.app.portNamed('a')!.link.isUp, 'nothing was put down');
});

await t.test('five thousand trials leave no buffer taken', async t => {
  const bench = wired();
  for (let i = 0; i < 5000; i++) trace(bench, 'a', buildFrame({ src: station(1), dst: ALL }));
  t.equal(bench.rig.pool.usedCount, 0);
});

await t.test('VLANs: who is in them and what came in', async t => {
  const bench = wired();
  bench.send('a', buildFrame({ src: station(1), dst: ALL }));
  bench.send('up', buildFrame({ src: station(2), dst: station(1), ...tagged(10) }));
  bench.send('up', buildFrame({ src: station(2), dst: ALL, ...tagged(15) }));
  t.same(bench.app.show('vlans', {}), {
    vlans: [
      {
        vlan: 10,
        fid: 10,
        untagged: ['a', 'b'],
        tagged: ['up', 'wan'],
        frames: 2,
        octets: 120,
        floodedFrames: 1,
      },
      { vlan: 15, fid: 15, untagged: [], tagged: ['up'], frames: 1, octets: 60, floodedFrames: 1 },
      { vlan: 20, fid: 20, untagged: ['c'], tagged: ['up'], frames: 0, octets: 0, floodedFrames: 0 },
    ],
  });
});

/** Everything that a frame could have changed. */
function snapshot(bench: SwitchBench): unknown {
  return {
    own: Array.from(bench.app.counters),
    links: [...bench.ports].map(([name]) => Array.from(bench.app.portNamed(name)!.link.counters)),
    macs: bench.app.macs(),
    rules: bench.app.show('rules', {}) === undefined ? null : rulesOf(bench),
    told: [...bench.told],
    sent: [...bench.ports].map(([, { port }]) => port.sent.length),
    buffers: bench.rig.pool.usedCount,
  };
}

function rulesOf(bench: SwitchBench): unknown {
  const { rules, unmatched } = bench.app.show('rules', {}) as { rules: unknown; unmatched: unknown };
  return { rules, unmatched };
}
