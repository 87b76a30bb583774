/**
 * Group "idle": what a switch costs that nobody uses. 32 taps that are up, and not a frame; the processor time of the
 * switch's process in percent of one core. Kernel switches have no process, and take no part.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { missing } from '../../lab/harness/needs.js';
import type { RunningProgram } from '../../lab/harness/processes.js';
import type { Lab } from '../../lab/harness/lab.js';
import { OVS_PROGRAMS, startOvs } from '../../lab/harness/ovs.js';
import { Dataplane, switchOf } from '../../lab/harness/weft.js';
import { OURS, group, meter } from '../bench.js';
import type { Case, ContenderSource } from '../bench.js';

const PORTS_COUNT = 32;
/** What starting left to be done is done. */
const SETTLING_MS = 3000;
/** Shorter says little of what wakes once a second. */
const WINDOW_MIN_S = 3;

const CASES: readonly Case[] = [{ name: `idle-${PORTS_COUNT}`, unit: '% of a core', better: 'lower' }];

/** proc_pid_schedstat: nanoseconds on a processor, of all threads. */
function cpuTime_ms(pid: number): number {
  const threads = readdirSync(`/proc/${pid}/task`);
  const times = threads.map(tid =>
    Number(readFileSync(`/proc/${pid}/task/${tid}/schedstat`, 'latin1').split(' ')[0]),
  );
  return times.reduce((sum, one) => sum + one, 0) / 1e6;
}

const pause = async (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms));

function source(
  name: string,
  programs: readonly string[],
  startIt: (lab: Lab, taps: readonly string[]) => Promise<RunningProgram>,
): ContenderSource<Case> {
  return {
    name,
    missing: () => missing({ root: true, programs: ['ip', ...programs], paths: ['/dev/net/tun'] }),
    start: async lab => {
      const program = await startIt(
        lab,
        Array.from({ length: PORTS_COUNT }, (_, i) => `idle${i}`),
      );
      await pause(SETTLING_MS);
      return {
        name,
        measure: async (_useCase, seconds) =>
          meter(null, async () => {
            const [before_ms, from_ms] = [cpuTime_ms(program.pid), performance.now()];
            await pause(Math.max(seconds, WINDOW_MIN_S) * 1000);
            const elapsed_ms = performance.now() - from_ms;
            return {
              value: ((cpuTime_ms(program.pid) - before_ms) / elapsed_ms) * 100,
              seconds: elapsed_ms / 1000,
            };
          }),
      };
    },
  };
}

const weft = source(OURS, [], async (lab, taps) => {
  const room = await lab.namespace('idle-weft');
  const plane = await Dataplane.start(lab, { netns: room.path });
  const port = (ifname: string) =>
    ({ name: ifname, vlan: { mode: 'access', vlan: 1 }, device: { kind: 'tap', ifname } }) as const;
  await plane.configure([switchOf('idle', taps.map(port))]);
  return plane.program;
});

const ovsNetdev = source('ovs-netdev', OVS_PROGRAMS, async (lab, taps) => {
  const room = await lab.namespace('idle-ovs');
  const ovs = await startOvs(lab, room);
  await ovs.vsctl(
    ...taps.flatMap(tap => ['--', 'add-port', 'br0', tap, '--', 'set', 'interface', tap, 'type=tap']),
  );
  for (const tap of taps) await room.up(tap);
  return ovs.program;
});

export const idleGroup = group<Case>({ name: 'idle', cases: CASES, contenders: [weft, ovsNetdev] });
