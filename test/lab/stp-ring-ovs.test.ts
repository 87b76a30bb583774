/** A ring of two switches of weft and an Open vSwitch with STP: see harness/ring.ts. */
import { ringWith } from './harness/ring.js';

await ringWith('Open vSwitch (STP)');
