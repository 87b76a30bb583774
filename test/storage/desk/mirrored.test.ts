/** Snapshots of a mirrored volume are of its first side. */
import t from 'tap';
import { Operations, type OperationsParts } from '../../../storage/desk/operations.js';
import type { UsedVolume } from '../../../storage/desk/volumes.js';

/** What a snapshot came to, and its steps: of a pool that has the volume, and a data thread that answers this when it looks. */
async function snapshot(found: number): Promise<{ said: string; steps: string[] }> {
  const steps: string[] = [];
  const open = {
    mirror: { state: 'degraded', left_bytes: 0, reason: 'its disk failed' },
    name: 'v',
    volumeId: 3,
    layers: [],
    pool: { require: () => ({}), addTop: () => void steps.push('changed') },
  };
  const operations = new Operations({
    poolOf: () => ({ require: () => ({}), snapshotRecord: () => ({}) }),
    isMirrored: () => true,
    used: {
      use: () => {
        steps.push('used');
        return open as unknown as UsedVolume;
      },
      leave: () => {
        steps.push('left');
        return Promise.resolve();
      },
      opening: () => ({}),
    },
    nbd: {
      changeLayers: (how: string) => {
        steps.push(how);
        return Promise.resolve(found);
      },
    },
    clients: () => 0,
    exportOf: () => null,
  } as unknown as OperationsParts);
  const said = await operations.snapshot('s', [{ pool: 'p', volume: 'v' }], {}).then(
    () => 'taken',
    (error: unknown) => (error as Error).message,
  );
  return { said, steps };
}

void t.test('refused while the first side lacks something, and nothing is changed', async t => {
  const { said, steps } = await snapshot(-16);
  t.match(said, /first side of its mirror.*lacks what was written last \(its disk failed\).*wait until both/);
  t.same(steps, ['used', 'look', 'left']);
});

void t.test('taken when it has everything', async t => {
  const { steps } = await snapshot(0);
  t.same(steps, ['used', 'look', 'left', 'used', 'changed', 'left']);
});
