/**
 * Group "tap": from tap to tap.
 *
 *      namespace a                namespace s                 namespace b
 *   iperf3 -c / sender  [tapA]====( switch )====[tapB]  iperf3 -s / counted at the interface
 *      10.99.0.1                                               10.99.0.2
 *
 * The interfaces are the switch's own taps, moved into a and b (two cables into a bridge for the kernel's).
 *
 * tap-tcp is a TCP stream, tap-64b are small frames (load.ts). Contenders are in tapContenders.ts.
 */
import { group } from '../bench.js';
import type { SwitchCase } from './load.js';
import { tapContenders } from './tapContenders.js';

const CASES: readonly SwitchCase[] = [
  { name: 'tap-tcp', unit: 'Gb/s', better: 'higher', per: 'Gb', load: 'tcp' },
  { name: 'tap-64b', unit: 'kpps', better: 'higher', per: 'Mframe', load: 'frames' },
];

export const tapGroup = group<SwitchCase>({ name: 'tap', cases: CASES, contenders: tapContenders });
