/** Which capabilities a switch has: the one list. Each is made with the switch, and is off until configured. */
import type { SwitchConfig, SwitchSampling } from '../contract.js';
import { SamplingApp } from '../sampling/app.js';
import type { SwitchApp } from './app.js';
import type { Feature } from './feature.js';
import type { Stages } from './stages.js';

/** What a switch is given by the engine around it. */
export interface Surroundings {
  /** The switch's own address, as configured or this host's and its name's alone. */
  addressOf(config: SwitchConfig): Uint8Array;
  /** Offloaded flows of this switch may not be right any more. */
  decisionsChanged(app: SwitchApp): void;
  tell(event: {
    type: 'switchEvent';
    switch: string;
    what: string;
    port: string | null;
    message: string;
  }): void;
  /** Sends a datagram from the thread that may wait. */
  export: (datagram: Uint8Array, collectors: SwitchSampling['collectors']) => void;
}

export function makeFeatures(app: SwitchApp, stages: Stages, surroundings: Surroundings): Feature[] {
  const sampling = new SamplingApp(app, stages, surroundings.export);
  return [sampling];
}
