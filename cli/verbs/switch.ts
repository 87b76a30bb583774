/** `weft switch …`: looking into switches. A capability that has something to show adds its View to the list. */
import type { Register } from '../resources.js';
import { registerCapture } from './switch/capture.js';
import { groupsView } from './switch/groups.js';
import { guardView } from './switch/guard.js';
import { lagView } from './switch/lag.js';
import { registerMacs } from './switch/macs.js';
import { mirrorsView } from './switch/mirrors.js';
import { offloadView } from './switch/offload.js';
import { neighboursView } from './switch/neighbours.js';
import { portsView } from './switch/ports.js';
import { queuesView } from './switch/queues.js';
import { rulesView } from './switch/rules.js';
import { stpView } from './switch/stp.js';
import { samplingView } from './switch/sampling.js';
import { registerTop } from './switch/top.js';
import { registerTrace } from './switch/trace.js';
import { registerView } from './switch/view.js';
import type { AnyView } from './switch/view.js';
import { vlansView } from './switch/vlans.js';

const VIEWS: readonly AnyView[] = [
  groupsView,
  portsView,
  vlansView,
  lagView,
  neighboursView,
  mirrorsView,
  offloadView,
  stpView,
  guardView,
  rulesView,
  queuesView,
  samplingView,
];

export const registerSwitch: Register = (program, session) => {
  const group = program.command('switch').description('look into switches');
  registerMacs(group, session);
  registerCapture(group, session);
  registerTop(group, session);
  registerTrace(group, session);
  for (const view of VIEWS) registerView(group, session, view);
};
