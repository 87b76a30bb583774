import t from 'tap';
import { PortSpanningTree, SwitchSpanningTree } from '../../../../dataplane/contract.js';
import { SwitchSpec } from '../../../../control/model/spec.js';
import * as tree from '../../../../control/model/switch/spanningTree.js';

await t.test('a switch: what is left out, and what the plane is told', async t => {
  const words = tree.SwitchWords.parse({});
  const plane = tree.switchToPlane(words);
  t.same(plane, SwitchSpanningTree.parse({}), 'the defaults of both sides agree');
  t.same(
    tree.switchToPlane(
      tree.SwitchWords.parse({
        mode: 'stp',
        priority: 4096,
        hello: '1000ms',
        maxAge: '6s',
        forwardDelay: '4s',
      }),
    ),
    {
      mode: 'stp',
      priority: 4096,
      helloTime_s: 1,
      maxAge_s: 6,
      forwardDelay_s: 4,
      transmitHoldCount: 6,
    },
  );
});

await t.test('times that do not go together, or are none, are refused with the reason', async t => {
  const refused = (words: object): string => {
    const result = tree.SwitchWords.safeParse(words);
    return result.success ? '' : result.error.issues.map(issue => issue.message).join('; ');
  };
  t.match(refused({ maxAge: '40s' }), /twice \(forwardDelay/);
  t.match(refused({ hello: '10s' }), /twice \(hello/);
  t.match(refused({ hello: '1500ms' }), /hello is a whole number of seconds/);
  t.match(refused({ forwardDelay: '2s' }), /from 4s to 30s/);
  t.ok(refused({ priority: 1 }));
});

await t.test('a port', async t => {
  const toPlane = (words: object) => PortSpanningTree.parse(tree.portToPlane(tree.PortWords.parse(words)));
  t.same(toPlane({}), {});
  t.same(
    toPlane({
      speed: '2.5Gbit',
      edge: 'auto',
      pointToPoint: false,
      bpduGuard: true,
      bpduGuardRecovery: '5m',
      rootGuard: true,
      restrictTopologyChanges: true,
      priority: 16,
    }),
    {
      speed_bps: 2.5e9,
      edge: 'auto',
      pointToPoint: false,
      bpduGuard: true,
      guardRecovery_s: 300,
      rootGuard: true,
      restrictedTcn: true,
      priority: 16,
    },
  );
  t.same(toPlane({ cost: 7, loopGuard: true, bpduFilter: true }), {
    pathCost: 7,
    loopGuard: true,
    bpduFilter: true,
  });
  const message = (words: object): string | undefined =>
    tree.PortWords.safeParse(words).error?.issues[0]?.message;
  t.match(message({ cost: 1, speed: '1Gbit' }), /either cost or speed/);
  t.match(message({ bpduFilter: true, bpduGuard: true }), /would never act/);
  t.match(message({ rootGuard: true, loopGuard: true }), /say one of them/);
});

await t.test("a port's words on a switch without spanning tree would do nothing", async t => {
  const ports = { up: { tap: 'up', spanningTree: { rootGuard: true } } };
  const faults = (more: object) => [...tree.faults(SwitchSpec.parse({ ports, ...more }))];
  t.match(faults({}), [{ path: ['ports', 'up', 'spanningTree'], message: /spanningTree: \{\}/ }]);
  t.equal(faults({ spanningTree: { mode: 'off' } }).length, 1);
  t.same(faults({ spanningTree: {} }), []);
});
