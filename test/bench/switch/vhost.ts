/**
 * Group "vhost": from guest to guest by shared memory, one processor for the switch and one for both guests.
 *
 *   processor 0   testpmd: two virtio-user ports; what one receives the other sends      (lab/harness/testpmd.ts)
 *   processor 1   the switch under test: two vhost-user ports, both addresses learned
 *
 * A fixed number of frames circulates, so that nothing is lost and neither end works for nothing; the figure is how
 * many the switch passes on in a second, both directions together. Open vSwitch has one thread that polls (PMD) and
 * huge pages; the guests have huge pages for all.
 */
import { hugePages, missingHugePages } from '../../lab/harness/hugePages.js';
import type { Lab } from '../../lab/harness/lab.js';
import { missing } from '../../lab/harness/needs.js';
import { cpuTime_s, eventually, run } from '../../lab/harness/processes.js';
import type { RunningProgram } from '../../lab/harness/processes.js';
import { Testpmd } from '../../lab/harness/testpmd.js';
import { Dataplane, switchOf } from '../../lab/harness/weft.js';
import { OURS, group, meter } from '../bench.js';
import type { Case, Contender, ContenderSource, Sample } from '../bench.js';

interface VhostCase extends Case {
  readonly frame_bytes: number;
}

const CASES: readonly VhostCase[] = [
  { name: 'vhost-64b', unit: 'kpps', better: 'higher', per: 'Mframe', frame_bytes: 64 },
  { name: 'vhost-1500b', unit: 'kpps', better: 'higher', per: 'Mframe', frame_bytes: 1500 },
];

const GUESTS_CPU = 0;
const SWITCH_CPU = 1;
/** Of 32 frames, from each port: enough that both ends always have some in hand, less than a ring holds. */
const BURSTS = 12;
const GUESTS_HUGE_MIB = 160;
const OVS_HUGE_MIB = 640;
const WARM_UP_S = 1;
/** So many in the time of warming up: they do circulate. */
const SETTLED_FRAMES = 10_000;

const pause = (seconds: number): Promise<void> => new Promise(resolve => setTimeout(resolve, seconds * 1000));

let huge: Promise<string> | undefined;
let hugeOf: Lab | undefined;

/** Once for all who contend in a lab. */
async function hugeIn(lab: Lab): Promise<string> {
  if (huge === undefined || hugeOf !== lab) {
    hugeOf = lab;
    huge = hugePages(lab, OVS_HUGE_MIB + 2 * GUESTS_HUGE_MIB);
  }
  return huge;
}

function contender(
  name: string,
  program: RunningProgram,
  guests: () => Promise<Testpmd>,
): Contender<VhostCase> {
  return {
    name,
    measure: async ({ frame_bytes }, seconds): Promise<Sample> => {
      // Anew each time: who spins without being measured would take the processor from the other.
      const pmd = await guests();
      await eventually(
        `${name} to pass frames`,
        async () => {
          const { received } = await pmd.totals();
          await pmd.circulate(frame_bytes, BURSTS);
          await pause(WARM_UP_S);
          if ((await pmd.totals()).received > received + SETTLED_FRAMES) return true;
          // A switch that was not there yet lost what was put in.
          await pmd.stop();
          return null;
        },
        { timeout_ms: 30_000 },
      );
      const sample = await meter(
        () => cpuTime_s(program.pid),
        async () => {
          const from = await pmd.totals();
          await pause(seconds);
          const to = await pmd.totals();
          const [frames, time_ms] = [to.received - from.received, to.at_ms - from.at_ms];
          return { value: frames / time_ms, seconds: time_ms / 1000, work: frames / 1e6 };
        },
      );
      await pmd.stop();
      await pmd.end();
      if (sample.value === 0) throw new Error(`${name}: no frame came through`);
      return sample;
    },
  };
}

const PROGRAMS = ['dpdk-testpmd', 'taskset', 'mount'];
const OVS_VSWITCHD = '/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk';

const lacks = (programs: readonly string[], paths: readonly string[] = []): string | false =>
  missing({ root: true, programs: [...PROGRAMS, ...programs], paths }) || missingHugePages();

const weft: ContenderSource<VhostCase> = {
  name: OURS,
  missing: () => lacks([]),
  start: async lab => {
    const mount = await hugeIn(lab);
    const plane = await Dataplane.start(lab);
    await run(['taskset', '-a', '-p', '-c', String(SWITCH_CPU), String(plane.pid)]);
    const paths = [lab.path('wa.sock'), lab.path('wb.sock')] as const;
    const port = (name: string, path: string) =>
      ({
        name,
        vlan: { mode: 'access', vlan: 1 },
        device: { kind: 'vhost', path, role: 'server', trusted: true },
      }) as const;
    await plane.configure([switchOf('bench', [port('a', paths[0]), port('b', paths[1])])]);
    return contender(OURS, plane.program, async () =>
      Testpmd.start(lab, { paths, isServer: false, huge: mount, cpu: GUESTS_CPU }),
    );
  },
};

const ovsDpdk: ContenderSource<VhostCase> = {
  name: 'ovs-dpdk',
  missing: () => lacks(['ovsdb-tool', 'ovsdb-server', 'ovs-vsctl'], [OVS_VSWITCHD]),
  start: async lab => {
    const mount = await hugeIn(lab);
    const directory = lab.path('ovs');
    await run(['mkdir', directory]);
    const env = Object.fromEntries(
      ['OVS_RUNDIR', 'OVS_LOGDIR', 'OVS_DBDIR', 'OVS_SYSCONFDIR'].map(name => [name, directory]),
    );
    const quiet = ['-vconsole:warn', '-vsyslog:off', '-vfile:off', '--no-chdir'];
    const database = `unix:${directory}/db.sock`;
    const vsctl = async (...args: string[]) =>
      run(['ovs-vsctl', `--db=${database}`, '--timeout=30', ...args], { env });
    await run(['ovsdb-tool', 'create', `${directory}/conf.db`, '/usr/share/openvswitch/vswitch.ovsschema'], {
      env,
    });
    lab.start(
      [
        'ovsdb-server',
        `${directory}/conf.db`,
        `--remote=p${database}`,
        `--unixctl=${directory}/db.ctl`,
        ...quiet,
      ],
      { env },
    );
    await eventually('ovsdb-server to answer', async () => vsctl('--no-wait', 'init').catch(() => null));
    await vsctl(
      '--no-wait',
      'set',
      'Open_vSwitch',
      '.',
      'other_config:dpdk-init=true',
      'other_config:dpdk-socket-mem=512',
      `other_config:pmd-cpu-mask=${1 << SWITCH_CPU}`,
      `other_config:dpdk-extra=--file-prefix=weftlabovs${process.pid} --huge-dir=${mount} --no-pci`,
    );
    const program = lab.start([OVS_VSWITCHD, database, `--unixctl=${directory}/vs.ctl`, ...quiet], { env });
    const paths = [lab.path('oa.sock'), lab.path('ob.sock')] as const;
    const port = (name: string, path: string) => [
      '--',
      'add-port',
      'br0',
      name,
      '--',
      'set',
      'interface',
      name,
      'type=dpdkvhostuserclient',
      `options:vhost-server-path=${path}`,
    ];
    await vsctl(
      'add-br',
      'br0',
      '--',
      'set',
      'bridge',
      'br0',
      'datapath_type=netdev',
      ...port('va', paths[0]),
      ...port('vb', paths[1]),
    );
    // It polls whether there is work or not: it must not take our processor while we are measured.
    program.signal('SIGSTOP');
    const made = contender('ovs-dpdk', program, async () =>
      Testpmd.start(lab, { paths, isServer: true, huge: mount, cpu: GUESTS_CPU }),
    );
    return {
      name: made.name,
      measure: async (useCase, seconds) => {
        program.signal('SIGCONT');
        try {
          return await made.measure(useCase, seconds);
        } finally {
          program.signal('SIGSTOP');
        }
      },
    };
  },
};

export const vhostGroup = group<VhostCase>({ name: 'vhost', cases: CASES, contenders: [weft, ovsDpdk] });
