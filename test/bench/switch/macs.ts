/**
 * Group "macs": what a frame costs as the table of addresses grows. Frames of 64 bytes go to as many stations in turn
 * as the case says, all behind the same far end; otherwise as in group "tap".
 *
 * Nothing is offloaded here (`offload: off`): it is the filtering database that is asked for, and a flow that the
 * kernel forwards never meets it.
 */
import { OURS, group } from '../bench.js';
import type { SwitchCase } from './load.js';
import { linuxBridge, ovsNetdev, weftSource } from './tapContenders.js';

const CASES: readonly SwitchCase[] = [10, 1000, 10_000, 100_000].map(stations => ({
  name: `macs-${stations}`,
  unit: 'kpps',
  better: 'higher',
  per: 'Mframe',
  load: 'frames',
  stations,
}));

export const macsGroup = group<SwitchCase>({
  name: 'macs',
  cases: CASES,
  contenders: [weftSource(OURS, 'mac', 'off'), linuxBridge, ovsNetdev],
});
