/**
 * Flow rules with real stacks at both ends.
 *
 *   namespace a: 10.98.0.1 [rulA]====( weft )====[rulB] namespace b: 10.98.0.2, iperf3 -s
 *
 * What passes and what does not is asked of ping and iperf3; what a rule changed is asked of tcpdump, and of the
 * far end's stack, which counts wrong checksums.
 */
import t from 'tap';
import { RulesView } from '../../dataplane/contract.js';
import type { FlowRules } from '../../dataplane/contract.js';
import { Lab } from './harness/lab.js';
import { missing } from './harness/needs.js';
import type { Namespace } from './harness/network.js';
import { eventually } from './harness/processes.js';
import { Dataplane, switchOf } from './harness/weft.js';

const skip = missing({
  root: true,
  programs: ['ip', 'nsenter', 'busybox', 'iperf3', 'tcpdump'],
  paths: ['/dev/net/tun'],
});

const A = '10.98.0.1';
const B = '10.98.0.2';
const PORT = 5201;

const portsOf = () =>
  ['rulA', 'rulB'].map(name => ({
    name,
    vlan: { mode: 'access' as const, vlan: 1 },
    device: { kind: 'tap' as const, ifname: name },
  }));

type Rule = FlowRules['rules'][number];
const rule = (name: string, match: Rule['match'], actions: Rule['actions'], priority = 0): Rule => ({
  name,
  priority,
  match,
  actions,
});

/** Whether an answer comes in so many seconds: few where none is to come. */
async function pings(from: Namespace, to: string, patience_s = 1): Promise<boolean> {
  const argv = ['busybox', 'ping', '-c', '1', '-W', String(patience_s), to];
  return (await from.run(argv, { mayFail: true })).status === 0;
}

/** Megabits per second that the far end took, or null when there was no connection. */
async function iperf(from: Namespace, ...more: string[]): Promise<number | null> {
  const argv = ['iperf3', '--json', '--client', B, '--connect-timeout', '10000', ...more];
  const { status, stdout } = await from.run(argv, { mayFail: true, timeout_ms: 60_000 });
  if (status !== 0) return null;
  const { end } = JSON.parse(stdout) as { end: { sum_received?: { bits_per_second: number } } };
  return end.sum_received === undefined ? null : end.sum_received.bits_per_second / 1e6;
}

await t.test('rules between two stacks', { skip, timeout: 200_000 }, async t => {
  const lab = Lab.open();
  t.teardown(() => lab.close());
  const inside = await lab.namespace('rul-s');
  const [a, b] = [await lab.namespace('rul-a'), await lab.namespace('rul-b')];
  const plane = await Dataplane.start(lab, { netns: inside.path });
  const configure = async (rules?: FlowRules): Promise<unknown> =>
    plane.configure([{ ...switchOf('lan', portsOf()), ...(rules === undefined ? {} : { rules }) }]);
  await configure();
  await inside.moveLink('rulA', a);
  await inside.moveLink('rulB', b);
  await a.up('rulA', `${A}/24`);
  await b.up('rulB', `${B}/24`);
  b.start(['iperf3', '--server']);
  await eventually('iperf3 to be reached', async () => iperf(a, '--bytes', '64K'));
  const shown = async (): Promise<RulesView> => RulesView.parse(await plane.get('/switches/lan/show/rules'));

  await t.test('drop one port, and nothing else; though the flow was with the kernel', async t => {
    await configure({
      default: 'allow',
      meters: [],
      rules: [rule('no-iperf', { protocols: [6], destinationPorts: [[5000, 6000]] }, { verdict: 'drop' })],
    });
    t.equal(await iperf(a, '--bytes', '64K', '--connect-timeout', '1000'), null);
    t.ok(await pings(a, B, 10));
    const view = await shown();
    t.equal(view.rules[0]?.name, 'no-iperf');
    t.ok((view.rules[0]?.frames ?? 0) > 0);
    await configure();
    t.not(await iperf(a, '--bytes', '64K'), null);
  });

  await t.test('all is dropped but what is allowed', async t => {
    await configure({
      default: 'drop',
      meters: [],
      rules: [
        rule('arp', { etherTypes: [0x0806] }, { verdict: 'allow' }),
        rule(
          'to-iperf',
          { protocols: [6], destinationPorts: [[PORT, PORT]], destinations: [B] },
          { verdict: 'allow' },
        ),
        rule(
          'from-iperf',
          { protocols: [6], sourcePorts: [[PORT, PORT]], sources: [`${B}/31`] },
          { verdict: 'allow' },
        ),
      ],
    });
    t.notOk(await pings(a, B));
    t.not(await iperf(a, '--bytes', '1M'), null);
    t.ok((await shown()).unmatched.frames > 0);
  });

  await t.test('a code point is set in packets of TCP, and every checksum stays right', async t => {
    const errors = b.snmp('Tcp', 'InCsumErrors') + b.snmp('Ip', 'InHdrErrors');
    await configure({
      default: 'allow',
      meters: [],
      rules: [rule('mark', { inPorts: ['rulA'], protocols: [6] }, { verdict: 'allow', setDscp: 46 })],
    });
    const watch = b.start([
      'tcpdump',
      '-nn',
      '-v',
      '-i',
      'rulB',
      '-Q',
      'in',
      '--immediate-mode',
      '-l',
      '-c',
      '30',
      'tcp',
    ]);
    await eventually('tcpdump to listen', () => (watch.stderr.includes('listening') ? true : null));
    t.not(await iperf(a, '--bytes', '20M'), null);
    const { stdout } = await watch.ended;
    const marks = stdout.match(/tos 0x[0-9a-f]+/g) ?? [];
    t.equal(marks.length, 30);
    t.same([...new Set(marks)], ['tos 0xb8']);
    t.notMatch(stdout, /bad cksum/);
    t.equal(b.snmp('Tcp', 'InCsumErrors') + b.snmp('Ip', 'InHdrErrors'), errors);
  });

  await t.test('a meter holds TCP to its rate', async t => {
    await configure({
      default: 'allow',
      meters: [{ name: 'slow', rate_bps: 20e6, burst_bytes: 200_000, exceed: 'drop' }],
      rules: [rule('metered', { inPorts: ['rulA'], protocols: [6] }, { verdict: 'allow', meter: 'slow' })],
    });
    const rate = await iperf(a, '--time', '3');
    t.ok(rate !== null && rate > 2 && rate < 26, `${rate?.toFixed(1)} Mbit/s through a meter of 20`);
    const [meter] = (await shown()).meters;
    t.ok((meter?.exceededFrames ?? 0) > 0 && (meter?.conformedFrames ?? 0) > 0);
  });

  await t.test('a change of rules loses no frame', async t => {
    const ping = a.start(['busybox', 'ping', '-q', '-c', '300', '-i', '0.01', '-W', '10', B]);
    for (let n = 0; ping.isRunning && n < 100; n++)
      await configure({
        default: 'allow',
        meters: [],
        rules: Array.from({ length: 50 }, (_, i) =>
          rule(
            `r${i}`,
            { protocols: [17], destinationPorts: [[n + i + 1, 2 * n + i + 100]] },
            { verdict: 'drop' },
          ),
        ),
      });
    const { stdout } = await ping.ended;
    t.match(stdout, /300 packets transmitted, 300 packets received, 0% packet loss/);
  });
});
