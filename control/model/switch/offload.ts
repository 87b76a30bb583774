/** Offload to the kernel, as users say it, and in the plane's words. */
import { z } from 'zod';
import type { SwitchOffload } from '../../../dataplane/contract.js';
import type { Fault } from '../fault.js';
import type { SwitchSpec } from '../spec.js';

/** On a switch. */
export const SwitchWords = z.enum(['auto', 'off']).meta({
  description:
    'auto (as without it): flows between taps and interfaces of the host are forwarded by the kernel once the ' +
    'switch has decided them, where Linux 6.6 or newer can; off: every frame goes through weft-dataplane',
});
export type SwitchWords = z.infer<typeof SwitchWords>;

export function switchToPlane(mode: SwitchWords): SwitchOffload {
  return { mode };
}

/** What can only be judged by looking at the whole switch; paths begin at the switch's spec. */
export function* faults(_spec: SwitchSpec): Generator<Fault> {}
