/**
 * Two rooms with a switch between them, for any group that sends from one interface to another: namespaces `a` and
 * `b` hold the ends, `s` the switch. Groups say how each contender joins the two (tapContenders.ts).
 */
import type { Lab } from '../../lab/harness/lab.js';
import type { Namespace } from '../../lab/harness/network.js';
import { missing } from '../../lab/harness/needs.js';
import type { Needs } from '../../lab/harness/needs.js';
import { cpuTime_s, eventually } from '../../lab/harness/processes.js';
import type { RunningProgram } from '../../lab/harness/processes.js';
import type { ContenderSource } from '../bench.js';
import { ADDRESS_A, ADDRESS_B, switchContender } from './load.js';
import type { Joined, SwitchCase } from './load.js';

const NEEDS: Needs = { root: true, programs: ['ip', 'nsenter', 'iperf3'], paths: ['/dev/net/tun'] };

export interface Rooms {
  readonly a: Namespace;
  readonly b: Namespace;
  readonly s: Namespace;
}

/** Interface names are the contender's own, so that a mix-up would show. */
const interfaces = (label: string): [string, string] => [`${label}A`, `${label}B`];

/**
 * A contender by what joins its two ends: `join` makes the switch in room `s`, and interfaces `ifA` in room `a` and
 * `ifB` in room `b`; it returns the program whose processor time counts, or null when that is the kernel.
 */
export function source(
  name: string,
  label: string,
  programs: readonly string[],
  join: (lab: Lab, rooms: Rooms, ifA: string, ifB: string) => Promise<RunningProgram | null>,
  takes?: (useCase: SwitchCase) => boolean,
): ContenderSource<SwitchCase> {
  return {
    name,
    ...(takes === undefined ? {} : { takes }),
    missing: () => missing({ ...NEEDS, programs: [...(NEEDS.programs ?? []), ...programs] }),
    start: async lab => {
      const rooms: Rooms = {
        a: await lab.namespace(`${label}-a`),
        b: await lab.namespace(`${label}-b`),
        s: await lab.namespace(`${label}-s`),
      };
      const [ifA, ifB] = interfaces(label);
      const program = await join(lab, rooms, ifA, ifB);
      await rooms.a.up(ifA, `${ADDRESS_A}/24`);
      await rooms.b.up(ifB, `${ADDRESS_B}/24`);
      rooms.b.start(['iperf3', '--server']);
      await meet(rooms.a, name);
      return switchContender(name, joined(rooms, ifA, ifB, program));
    },
  };
}

const joined = ({ a, b }: Rooms, ifA: string, ifB: string, program: RunningProgram | null): Joined => ({
  a,
  ifA,
  b,
  ifB,
  processCpu_s: program === null ? null : () => cpuTime_s(program.pid),
});

/** Both ends know each other and the server listens: bytes have been through. */
async function meet(a: Namespace, name: string): Promise<void> {
  const once = ['iperf3', '--client', ADDRESS_B, '--bytes', '64K', '--connect-timeout', '2000'];
  await eventually(
    `${name} to pass TCP`,
    async () => ((await a.run(once, { mayFail: true, timeout_ms: 10_000 })).status === 0 ? true : null),
    { timeout_ms: 30_000, every_ms: 200 },
  );
}
