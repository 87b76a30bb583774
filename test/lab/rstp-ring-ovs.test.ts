/** A ring of two switches of weft and an Open vSwitch with RSTP: see harness/ring.ts. */
import { ringWith } from './harness/ring.js';

await ringWith('Open vSwitch (RSTP)');
