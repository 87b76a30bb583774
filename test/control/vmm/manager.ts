/** A stand-in for weftd that a test can kill: starts the guest of a plan (JSON, first argument) and stays. */
import type { BootPlan } from '../../../control/vmm/host.js';
import { QemuHost } from '../../../control/vmm/process.js';

const [, , state = '', plan = '{}'] = process.argv;
const guests = new QemuHost({ runDirectory: `${state}/run`, accelFile: `${state}/accel.json` });
await guests.adopt();
await guests.start(JSON.parse(plan) as BootPlan);
process.stdout.write('started\n');
setInterval(() => {}, 60_000);
