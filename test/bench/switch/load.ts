/**
 * The load that is put on a switch, and how what arrives is counted. See tap.ts for the picture.
 *
 * - tcp: one TCP stream of iperf3, as the receiver counts it.
 * - frames: frames of 64 bytes (without FCS) that arrive, while a sender in a process of its own offers more
 *   than any switch here takes. Both addresses are learned before, so it is unicast.
 */
import { frame } from '../../lab/harness/frames.js';
import type { Namespace } from '../../lab/harness/network.js';
import { floodCounts, sendFrames, startFlood } from '../../lab/harness/sender.js';
import type { SenderCounts } from '../../lab/harness/sender.js';
import { meter } from '../bench.js';
import type { Case, Contender, Sample } from '../bench.js';

export interface SwitchCase extends Case {
  readonly load: 'tcp' | 'frames';
  /** The frames carry UDP in IPv4, for switches that look at it. */
  readonly isUdp?: boolean;
}

export const ADDRESS_A = '10.99.0.1';
export const ADDRESS_B = '10.99.0.2';

const FRAME_BYTES = 64;
/** 10.99.0.1:4000 to 10.99.0.9:5000, whom nobody is: the far end's stack drops it in silence. */
const UDP_PACKET = Buffer.from('4500002e00000000401165f00a6300010a6300090fa01388001a0000', 'hex');
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

async function measureFrames(joined: Joined, isUdp: boolean, seconds: number): Promise<Sample> {
  const { a, ifA, b, ifB, processCpu_s } = joined;
  const [macA, macB] = [await a.macOf(ifA), await b.macOf(ifB)];
  const kind = isUdp ? { type: 0x0800, payload: UDP_PACKET } : {};
  const toB = frame({ to: macB, from: macA, length_bytes: FRAME_BYTES, ...kind });
  const toA = frame({ to: macA, from: macB, length_bytes: FRAME_BYTES });
  await sendFrames(b, ifB, [toA]);
  await sendFrames(a, ifA, [toB]);

  const before = b.receivedPackets(ifB);
  const sender = startFlood(a, ifA, toB, seconds + 2 * MARGIN_S);
  while (sender.isRunning && b.receivedPackets(ifB) === before) await pause(0.01);
  await pause(MARGIN_S);
  const sample = await meter(processCpu_s, async () => {
    const [from, from_ms] = [b.receivedPackets(ifB), performance.now()];
    await pause(seconds);
    const [to, to_ms] = [b.receivedPackets(ifB), performance.now()];
    return {
      value: (to - from) / (to_ms - from_ms),
      seconds: (to_ms - from_ms) / 1000,
      work: (to - from) / 1e6,
    };
  });
  checkOffer(await floodCounts(sender), sample, b.receivedPackets(ifB) - before);
  return sample;
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
    measure: async ({ load, isUdp }, seconds) =>
      load === 'tcp' ? measureTcp(joined, seconds) : measureFrames(joined, isUdp === true, seconds),
  };
}
