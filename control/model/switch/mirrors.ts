/** Mirror sessions, as users say them. */
import { z } from 'zod';
import type { MirrorSession } from '../../../dataplane/contract.js';
import type { Fault } from '../fault.js';
import type { SwitchSpec } from '../spec.js';

/** One session; a switch has them by name. */
export const SessionWords = z.strictObject({});
export type SessionWords = z.infer<typeof SessionWords>;

export function sessionToPlane(_name: string, _words: SessionWords): MirrorSession {
  return {};
}

export function* faults(_spec: SwitchSpec): Generator<Fault> {}
