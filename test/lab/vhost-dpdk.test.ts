/**
 * DPDK as the driver of two vhost-user ports (harness/testpmd.ts): frames circulate through our switch, the plane is
 * killed and comes back under it, with one pair of queues and with several.
 *
 * lab: alone (testpmd polls).
 */
import t from 'tap';
import { hugePages, missingHugePages } from './harness/hugePages.js';
import { Lab } from './harness/lab.js';
import { missing } from './harness/needs.js';
import { eventually } from './harness/processes.js';
import { Testpmd } from './harness/testpmd.js';
import { Dataplane, switchOf } from './harness/weft.js';

t.setTimeout(280_000);

const skip = missing({ root: true, programs: ['dpdk-testpmd', 'mount'] }) || missingHugePages();
const HUGE_MIB = 160;

for (const [isServer, queues] of [
  [false, 1],
  [true, 1],
  [true, 2],
] as const)
  await t.test(
    `testpmd ${isServer ? 'listens' : 'dials'}, ${queues} pair(s) of queues`,
    { skip },
    async t => {
      const lab = Lab.open();
      t.teardown(() => lab.close());
      const huge = await hugePages(lab, HUGE_MIB);
      const paths = [lab.path('a.sock'), lab.path('b.sock')] as const;
      const ports = paths.map(
        (path, i) =>
          ({
            name: `p${i}`,
            vlan: { mode: 'access', vlan: 1 },
            device: { kind: 'vhost', path, role: isServer ? 'client' : 'server', trusted: true, queues },
          }) as const,
      );
      let plane = await Dataplane.start(lab);
      await plane.configure([switchOf('lan', [...ports])]);
      const pmd = await Testpmd.start(lab, { paths, isServer, huge, queues });
      await pmd.circulate(64, 4);
      const passes = async (what: string): Promise<void> => {
        const from = (await pmd.totals()).received;
        await eventually(what, async () => ((await pmd.totals()).received > from + 20_000 ? true : null));
      };
      await passes('frames to circulate');
      const status = await plane.status();
      for (const port of status.switches[0]!.ports) {
        t.equal(port.state, 'up', port.reason ?? port.name);
        t.equal(port.counters['ringFaults'] ?? 0, 0);
      }
      t.pass('frames circulate');
      if (isServer) {
        for (let i = 0; i < 2; i++) {
          plane.program.signal('SIGKILL');
          await plane.program.ended;
          plane = await Dataplane.start(lab);
          await plane.configure([switchOf('lan', [...ports])]);
          let said: unknown;
          await eventually('both ports to be up', async () => {
            // testpmd sees to its sockets only when it is asked for its links.
            await pmd.say('show port summary all');
            const now = (await plane.status()).switches[0]!.ports;
            said = now.map(port => [port.state, port.reason]);
            return now.every(port => port.state === 'up') ? true : null;
          }).catch((error: unknown) => {
            throw new Error(`${String(error)}: ${JSON.stringify(said)}; ${pmd.program.stderr.slice(-800)}`);
          });
          // Frames that were on their way through the plane may be lost: new ones are put in.
          await pmd.stop();
          await pmd.circulate(64, 4);
          await passes('frames to circulate again');
        }
        t.pass('the plane was killed and came back');
      }
      await pmd.stop();
    },
  );
