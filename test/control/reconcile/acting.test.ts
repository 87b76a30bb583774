/** Actions of several steps, done again after an attempt that got further than was remembered: what is gone is no failure. */
import t from 'tap';
import { act } from '../../../control/reconcile/acting.js';
import type { Action } from '../../../control/reconcile/action.js';
import type { Edges } from '../../../control/reconcile/loop.js';
import { PlaneError } from '../../../control/supervise/errors.js';

/** As control/supervise/ words what weft-storage answers: the code of its own is `planeCode`. */
const refuses = (status: number, planeCode: string) => async (): Promise<never> => {
  throw new PlaneError('PLANE_REFUSED', `weft-storage: ${planeCode}`, { status, planeCode });
};

function edges(storage: object) {
  const remembered: unknown[] = [];
  const keeper = {
    rememberUndo: async (name: string, fact: unknown) => remembered.push([name, fact]),
    rememberFill: async (pool: string, name: string, fact: unknown) => remembered.push([pool, name, fact]),
  };
  return { remembered, edges: { keeper, storage } as unknown as Edges };
}

const run = (parts: Edges, action: Action) => act(parts, action, new AbortController().signal, () => {});

const disks = [{ pool: 'p', volume: 'v' }];
const gone = refuses(404, 'SNAPSHOT_UNKNOWN');

await t.test('arming begins with the removal of a snapshot that is hardly ever there', async t => {
  const { edges: parts, remembered } = edges({ deleteSnapshot: gone, snapshot: async () => {} });
  await run(parts, { type: 'armDisks', name: 'm', disks });
  t.same(remembered, [['m', { state: 'armed', disks }]]);
});

await t.test('going back when the snapshot is gone already', async t => {
  const { edges: parts, remembered } = edges({ deleteSnapshot: gone, rollback: gone });
  await run(parts, { type: 'undoDisks', name: 'm', disks: [{ ...disks[0]!, discard: true }] });
  t.same(remembered, [['m', null]]);
});

await t.test('destroying a volume that is gone; any other refusal is one', async t => {
  const { edges: parts, remembered } = edges({ destroyVolume: refuses(404, 'VOLUME_UNKNOWN') });
  await run(parts, { type: 'destroyVolume', pool: 'p', name: 'v' });
  t.same(remembered, [['p', 'v', null]]);
  for (const code of ['POOL_UNKNOWN', 'VOLUME_EXPORTED']) {
    const other = edges({ destroyVolume: refuses(409, code), deleteSnapshot: refuses(409, code) });
    await t.rejects(run(other.edges, { type: 'destroyVolume', pool: 'p', name: 'v' }), {
      message: `weft-storage: ${code}`,
    });
    await t.rejects(run(other.edges, { type: 'armDisks', name: 'm', disks }), {
      message: `weft-storage: ${code}`,
    });
    t.same(other.remembered, []);
  }
});
