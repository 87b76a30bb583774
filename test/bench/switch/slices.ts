/**
 * Group "slices": does a port give each class what it was promised, and the rate that it was told?
 *
 *   namespace one: UDP  [slcA]==\
 *                                 ( weft )==[slcC]  namespace sink: iperf3 counts what arrives of each
 *   namespace two: UDP  [slcB]==/     the port to the sink is shaped; both are offered more than there is
 *
 * `slice-3to1` is by how much the shares that arrive differ from 3 to 1, in per cent of what was promised; `rate-…` is
 * what arrives of a rate that was asked for, frame headers counted, in per cent. There is nobody beside ours: the
 * kernel's own shapers sit in other places, and their figures would say nothing of this one.
 */
import type { PortConfig, Rate, SwitchConfig } from '../../../dataplane/contract.js';
import { missing } from '../../lab/harness/needs.js';
import type { Namespace } from '../../lab/harness/network.js';
import { cpuTime_s, eventually } from '../../lab/harness/processes.js';
import { Dataplane, switchOf } from '../../lab/harness/weft.js';
import { OURS, group, meter } from '../bench.js';
import type { Case, ContenderSource } from '../bench.js';

interface SliceCase extends Case {
  /** Of the port, in bits per second. */
  readonly rate_bps: number;
  readonly weights: readonly [number, number] | null;
}

const SHARES = { unit: '% off 3:1', better: 'lower', weights: [3, 1] } as const;
const REACHED = { unit: '% of asked', better: 'higher', weights: null } as const;

const CASES: readonly SliceCase[] = [
  { name: 'slice-3to1', rate_bps: 100e6, ...SHARES },
  { name: 'rate-1m', rate_bps: 1e6, ...REACHED },
  { name: 'rate-100m', rate_bps: 100e6, ...REACHED },
  { name: 'rate-1g', rate_bps: 1e9, ...REACHED },
];

const SINK = '10.98.0.3';
const PAYLOAD_BYTES = 1400;
/** Ethernet without FCS, IPv4, UDP: what the plane counts besides. */
const HEADER_BYTES = 14 + 20 + 8;
/** Until the load is steady, and after the window. */
const MARGIN_S = 1;
/** What each sender offers, of the whole rate. */
const OFFERED = 1.2;

const NEEDS = { root: true, programs: ['ip', 'nsenter', 'iperf3'], paths: ['/dev/net/tun'] };

function bench({ rate_bps, weights }: SliceCase): SwitchConfig {
  const rate: Rate = { unit: 'bits', per_s: rate_bps, burst: Math.max(3044, rate_bps / 8 / 250) };
  const [first, second] = weights ?? [1, 1];
  const sender = (name: string, priority: number): PortConfig => ({
    name,
    vlan: { mode: 'access', vlan: 1 },
    device: { kind: 'tap', ifname: `slc${name}` },
    qos: { trust: 'none', priority },
  });
  const limits = { limit_bytes: Math.max(16_384, rate_bps / 8 / 20), limit_frames: 4000, strict: false };
  return {
    ...switchOf('bench', [
      sender('A', 5),
      sender('B', 1),
      {
        name: 'C',
        vlan: { mode: 'access', vlan: 1 },
        device: { kind: 'tap', ifname: 'slcC' },
        qos: {
          trust: 'pcp',
          priority: 0,
          egress: {
            rate,
            classes: [
              { name: 'first', priorities: [5], weight: first, ...limits },
              { name: 'second', priorities: [1], weight: second, ...limits },
            ],
          },
        },
      },
    ]),
  };
}

interface IperfEnd {
  end: { sum: { packets: number; lost_packets: number } };
}

function offer(port: number, rate_bps: number, seconds: number): string[] {
  return ['iperf3', '--json', '--client', SINK, '--port', String(port), '--udp'].concat(
    ['--length', String(PAYLOAD_BYTES), '--bitrate', String(Math.round(rate_bps * OFFERED))],
    ['--time', String(seconds)],
  );
}

/** How many datagrams of one sender arrived, by the sink's own count. */
async function arrived(from: Namespace, port: number, rate_bps: number, seconds: number): Promise<number> {
  const { stdout } = await from.run(offer(port, rate_bps, seconds), { timeout_ms: (seconds + 30) * 1000 });
  const { packets, lost_packets } = (JSON.parse(stdout) as IperfEnd).end.sum;
  return packets - lost_packets;
}

/** Frames that the sink's interface takes in a second, while one sender offers more than the rate. */
async function framesPerSecond(
  from: Namespace,
  sink: Namespace,
  rate_bps: number,
  seconds: number,
): Promise<number> {
  const load = from.run(offer(5201, rate_bps, seconds + 2 * MARGIN_S), { timeout_ms: 60_000 });
  await pause(MARGIN_S);
  const [before, before_ms] = [sink.receivedPackets('slcC'), performance.now()];
  await pause(seconds);
  const [after, after_ms] = [sink.receivedPackets('slcC'), performance.now()];
  await load;
  return ((after - before) / (after_ms - before_ms)) * 1000;
}

const pause = async (seconds: number): Promise<void> =>
  new Promise(resolve => setTimeout(resolve, seconds * 1000));

const weft: ContenderSource<SliceCase> = {
  name: OURS,
  missing: () => missing(NEEDS),
  start: async lab => {
    const inside = await lab.namespace('slc-s');
    const [one, two, sink] = [
      await lab.namespace('slc-one'),
      await lab.namespace('slc-two'),
      await lab.namespace('slc-sink'),
    ];
    const plane = await Dataplane.start(lab, { netns: inside.path });
    await plane.configure([bench(CASES[0]!)]);
    for (const [room, ifname, address] of [
      [one, 'slcA', '10.98.0.1/24'],
      [two, 'slcB', '10.98.0.2/24'],
      [sink, 'slcC', `${SINK}/24`],
    ] as const) {
      await inside.moveLink(ifname, room);
      await room.up(ifname, address);
    }
    for (const port of [5201, 5202]) {
      sink.start(['iperf3', '--server', '--port', String(port)]);
      const once = ['iperf3', '--client', SINK, '--port', String(port), '--bytes', '64K'];
      await eventually(
        'the sink to listen',
        async () => ((await one.run(once, { mayFail: true, timeout_ms: 10_000 })).status === 0 ? true : null),
        { timeout_ms: 30_000, every_ms: 200 },
      );
    }
    return {
      name: OURS,
      measure: async (useCase, seconds) => {
        await plane.configure([bench(useCase)]);
        const { rate_bps, weights } = useCase;
        const whole_s = Math.max(2, Math.round(seconds));
        return meter(
          () => cpuTime_s(plane.pid),
          async () => {
            if (weights === null) {
              const frames = await framesPerSecond(one, sink, rate_bps, whole_s);
              const reached_bps = frames * (PAYLOAD_BYTES + HEADER_BYTES) * 8;
              return { value: (reached_bps / rate_bps) * 100, seconds: whole_s };
            }
            const [first, second] = await Promise.all([
              arrived(one, 5201, rate_bps, whole_s),
              arrived(two, 5202, rate_bps, whole_s),
            ]);
            const wanted = weights[0] / (weights[0] + weights[1]);
            const got = first / (first + second);
            return { value: (Math.abs(got - wanted) / wanted) * 100, seconds: whole_s };
          },
        );
      },
    };
  },
};

export const slicesGroup = group<SliceCase>({ name: 'slices', cases: CASES, contenders: [weft] });
