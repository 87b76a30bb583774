/**
 * The load that is put on a switch, and how what arrives is counted. See tap.ts for the picture.
 *
 * - tcp: one TCP stream of iperf3, as the receiver counts it.
 * - frames: frames of 64 bytes (without FCS) that arrive, while a sender in a process of its own offers as many as
 *   it can, as an application would: through the hooks and the queueing discipline of its interface. All addresses
 *   are learned before, so it is unicast.
 * - rtt: a datagram of 64 bytes there and back (pingPong.ts).
 */
import { fileURLToPath } from 'node:url';
import { EXPERIMENTAL_TYPE, frame } from '../../lab/harness/frames.js';
import type { Namespace } from '../../lab/harness/network.js';
import { floodCounts, sendFrames, startFlood } from '../../lab/harness/sender.js';
import type { SenderCounts } from '../../lab/harness/sender.js';
import { meter } from '../bench.js';
import type { Case, Contender, Sample } from '../bench.js';
import { countArrivals } from './arrivals.js';

export interface SwitchCase extends Case {
  readonly load: 'tcp' | 'frames' | 'rtt';
  /** Of frames: so many destinations in turn, instead of one. */
  readonly stations?: number;
  /** Of rtt. */
  readonly percentile?: 'p50' | 'p99';
  /** The frames carry UDP in IPv4, for switches that look at it. */
  readonly isUdp?: boolean;
}

export const ADDRESS_A = '10.99.0.1';
export const ADDRESS_B = '10.99.0.2';

const FRAME_BYTES = 64;
/** 10.99.0.1:4000 to 10.99.0.9:5000, whom nobody is: the far end's stack drops it in silence. */
const UDP_PACKET = Buffer.from('4500002e00000000401165f00a6300010a6300090fa01388001a0000', 'hex');
const PING_PONG = fileURLToPath(new URL('./pingPong.js', import.meta.url));
/** So that no queue on the way overflows, and all are learned. */
const LEARNING_RATE_PPS = 50_000;
/** Until the sender is at full speed, and after the window until it ends. */
const MARGIN_S = 0.3;

/** Two namespaces joined by a switch that is up, whichever it is. */
export interface Joined {
  readonly a: Namespace;
  readonly ifA: string;
  readonly b: Namespace;
  readonly ifB: string;
  readonly processCpu_s: (() => number | null) | null;
}

const pause = (seconds: number): Promise<void> => new Promise(resolve => setTimeout(resolve, seconds * 1000));

async function measureTcp({ a, processCpu_s }: Joined, seconds: number): Promise<Sample> {
  return meter(processCpu_s, async () => {
    const client = [
      'iperf3',
      '--json',
      '--client',
      ADDRESS_B,
      '--time',
      String(Math.max(1, Math.round(seconds))),
    ];
    const { stdout } = await a.run(client, { timeout_ms: (seconds + 30) * 1000 });
    const { end } = JSON.parse(stdout) as {
      end: { sum_received: { bits_per_second: number; seconds: number } };
    };
    const { bits_per_second, seconds: ran_s } = end.sum_received;
    return { value: bits_per_second / 1e9, seconds: ran_s, work: (bits_per_second / 1e9) * ran_s };
  });
}

/** Addresses beside those of the interfaces: locally administered, numbered. */
const stationMac = (number: number): string =>
  [0x02, 0x77, 0, number >> 16, (number >> 8) & 0xff, number & 0xff]
    .map(byte => byte.toString(16).padStart(2, '0'))
    .join(':');

async function measureFrames(joined: Joined, useCase: SwitchCase, seconds: number): Promise<Sample> {
  const { a, ifA, b, ifB, processCpu_s } = joined;
  const { isUdp = false, stations = 0 } = useCase;
  const [macA, macB] = [await a.macOf(ifA), await b.macOf(ifB)];
  const kind = isUdp ? { type: 0x0800, payload: UDP_PACKET } : {};
  const macs = stations === 0 ? [macB] : Array.from({ length: stations }, (_, i) => stationMac(i));
  const toB = macs.map(to => frame({ to, from: macA, length_bytes: FRAME_BYTES, ...kind }));
  const toA = macs.map(from => frame({ to: macA, from, length_bytes: FRAME_BYTES }));
  await sendFrames(a, ifA, [toB[0]!]);
  await sendFrames(b, ifB, toA, stations === 0 ? undefined : LEARNING_RATE_PPS);

  const arrivals = countArrivals(b, ifB, isUdp ? 0x0800 : EXPERIMENTAL_TYPE);
  try {
    const sender = startFlood(a, ifA, toB, seconds + 2 * MARGIN_S);
    while (sender.isRunning && arrivals.count() === 0) await pause(0.01);
    await pause(MARGIN_S);
    const sample = await meter(processCpu_s, async () => {
      const [from, from_ms] = [arrivals.count(), performance.now()];
      await pause(seconds);
      const [to, to_ms] = [arrivals.count(), performance.now()];
      return {
        value: (to - from) / (to_ms - from_ms),
        seconds: (to_ms - from_ms) / 1000,
        work: (to - from) / 1e6,
      };
    });
    checkOffer(await floodCounts(sender), sample, arrivals.count());
    return sample;
  } finally {
    arrivals.close();
  }
}

async function measureRtt(
  { a, b, processCpu_s }: Joined,
  { percentile = 'p50' }: SwitchCase,
  seconds: number,
): Promise<Sample> {
  const program = [process.execPath, PING_PONG];
  const answerer = b.start([...program, 'answer', ADDRESS_B, ADDRESS_A]);
  try {
    // Before it listens its host says so, and the first question fails at once.
    await pause(MARGIN_S);
    return await meter(processCpu_s, async () => {
      const asked = [...program, 'ask', ADDRESS_A, ADDRESS_B, String(seconds)];
      const { stdout } = await a.run(asked, { timeout_ms: (seconds + 30) * 1000 });
      const told = JSON.parse(stdout) as { p50_us: number; p99_us: number; count: number };
      if (told.count === 0) throw new Error('no answer came back');
      return { value: percentile === 'p50' ? told.p50_us : told.p99_us, seconds };
    });
  } finally {
    await answerer.stop();
  }
}

/** A figure is worth nothing when frames came that nobody sent. */
function checkOffer(sent: SenderCounts, sample: Sample, arrived: number): void {
  // A few more than were sent: what the host's own stack says to its neighbours now and then.
  const slack = 16;
  if (arrived > sent.accepted + slack) {
    throw new Error(
      `${arrived} frames arrived of ${sent.accepted} sent: the switch multiplies or something else sends`,
    );
  }
  if (sample.value === 0) throw new Error('no frame arrived');
}

export function switchContender(name: string, joined: Joined): Contender<SwitchCase> {
  return {
    name,
    measure: async (useCase, seconds) => {
      if (useCase.load === 'tcp') return measureTcp(joined, seconds);
      if (useCase.load === 'rtt') return measureRtt(joined, useCase, seconds);
      return measureFrames(joined, useCase, seconds);
    },
  };
}
