/**
 * Benchmark "switch": how much gets from one network namespace to another through a switch.
 *
 *      namespace a                namespace s                 namespace b
 *   iperf3 -c / sender  [tapA]====( switch )====[tapB]  iperf3 -s / counted at the interface
 *      10.99.0.1                                               10.99.0.2
 *
 * The interfaces are the switch's own taps, moved into a and b (two cables into a bridge for the kernel's).
 *
 * tap-tcp is a TCP stream, tap-64b are small frames (load.ts). Contenders are in contenders.ts.
 */
import type { Bench } from '../bench.js';
import { switchContenders } from './contenders.js';
import type { SwitchCase } from './load.js';

const CASES: readonly SwitchCase[] = [
  { name: 'tap-tcp', unit: 'Gb/s', better: 'higher', load: 'tcp' },
  { name: 'tap-64b', unit: 'kpps', better: 'higher', load: 'frames' },
];

export const switchBench: Bench<SwitchCase> = {
  name: 'switch',
  about: 'from tap to tap through the switch; peers: Linux bridge, Open vSwitch (netdev), vde_switch',
  cases: CASES,
  contenders: switchContenders,
  defaults: { full: { rounds: 5, seconds: 3 }, quick: { rounds: 2, seconds: 1 } },
};
