/** A ring of two switches of weft and the kernel's bridge with STP: see harness/ring.ts. */
import { ringWith } from './harness/ring.js';

await ringWith('the kernel bridge');
