/**
 * Group "tap": from tap to tap.
 *
 *      namespace a                namespace s                 namespace b
 *   iperf3 -c / sender  [tapA]====( switch )====[tapB]  iperf3 -s / counted at the interface
 *      10.99.0.1                                               10.99.0.2
 *
 * The interfaces are the switch's own taps, moved into a and b (two cables into a bridge for the kernel's).
 *
 * tap-tcp is a TCP stream, tap-64b are small frames, rtt is a datagram there and back (load.ts). `weft` is as it
 * comes: once it has decided a flow, the kernel forwards it. `weft-engine` is the same with `offload: off`: what a
 * frame costs that has to go through weft-dataplane. Contenders are in tapContenders.ts.
 */
import { group } from '../bench.js';
import type { SwitchCase } from './load.js';
import { tapContenders } from './tapContenders.js';

const CASES: readonly SwitchCase[] = [
  { name: 'tap-tcp', unit: 'Gb/s', better: 'higher', per: 'Gb', load: 'tcp' },
  { name: 'tap-64b', unit: 'kpps', better: 'higher', per: 'Mframe', load: 'frames' },
  { name: 'rtt-p50', unit: 'us', better: 'lower', load: 'rtt', percentile: 'p50' },
  { name: 'rtt-p99', unit: 'us', better: 'lower', load: 'rtt', percentile: 'p99' },
];

export const tapGroup = group<SwitchCase>({ name: 'tap', cases: CASES, contenders: tapContenders });
