/**
 * Benchmark "switch": groups, each a file with its cases, its contenders and the picture of what they stand in.
 * A new group is a file beside these and a line below.
 */
import type { Bench } from '../bench.js';
import { packetGroup, xdpGroup } from './hostInterface.js';
import { rulesGroup } from './rules.js';
import { slicesGroup } from './slices.js';
import { idleGroup } from './idle.js';
import { lagGroup } from './lag.js';
import { macsGroup } from './macs.js';
import { tapGroup } from './tap.js';
import { vhostGroup } from './vhost.js';

export const switchBench: Bench = {
  name: 'switch',
  about: 'frames and bytes from one network namespace to another through a switch',
  groups: [
    tapGroup,
    xdpGroup,
    packetGroup,
    macsGroup,
    idleGroup,
    vhostGroup,
    rulesGroup,
    slicesGroup,
    lagGroup,
  ],
  defaults: { full: { rounds: 5, seconds: 3 }, quick: { rounds: 2, seconds: 1 } },
};
