/** Which capabilities a switch has: the one list. Each is made with the switch, and is off until configured. */
import type { SwitchConfig, SwitchSampling } from '../contract.js';
import { GuardApp } from '../guard/app.js';
import { LagFeature } from '../lag/appFeature.js';
import { LldpFeature } from '../lldp/app.js';
import { MirrorApp } from '../mirrors/app.js';
import { Offload } from '../offload/app.js';
import { QosApp } from '../qos/app.js';
import { RulesApp } from '../rules/app.js';
import { SamplingApp } from '../sampling/app.js';
import { SnoopingApp } from '../snooping/app.js';
import { StormApp } from '../storm/app.js';
import { SpanningTreeApp } from '../spanningTree/app.js';
import type { SwitchApp } from './app.js';
import type { Feature } from './feature.js';
import type { Stages } from './stages.js';

/** What a switch is given by the engine around it. */
export interface Surroundings {
  /** The switch's own address, as configured or this host's and its name's alone. */
  addressOf(config: SwitchConfig): Uint8Array;
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
  const offload = new Offload(app, app);
  stages.offload = offload;
  const mirrors = new MirrorApp(app, stages);
  const spanningTree = new SpanningTreeApp(app, stages);
  const guard = new GuardApp(app, stages);
  const rules = new RulesApp(app, stages);
  const lldp = new LldpFeature(app, stages);
  const storm = new StormApp(app, stages);
  const qos = new QosApp(app, stages);
  const snooping = new SnoopingApp(app, stages);
  return [
    snooping,
    storm,
    new LagFeature(),
    lldp,
    mirrors,
    spanningTree,
    sampling,
    offload,
    guard,
    rules,
    qos,
  ];
}
