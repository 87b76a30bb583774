/** Snapshots of a mirrored volume are of its first side. */
import t from 'tap';
import { Operations, type OperationsParts } from '../../../storage/desk/operations.js';
import type { UsedVolume } from '../../../storage/desk/volumes.js';
import type { MirrorStatus } from '../../../storage/volume/mirrorParts.js';

const STATUS: MirrorStatus = { state: 'in-sync', good: 'first', left_bytes: 0, reason: null };

/** What a snapshot came to, and the steps that it took: a pool that has the volume, and fails as soon as it is to be changed. */
async function snapshot(
  mirror: MirrorStatus | null,
  later: MirrorStatus | null,
): Promise<{ said: string; steps: string[] }> {
  const steps: string[] = [];
  const open = { mirror, name: 'v', pool: { require: () => ({}), addTop: () => void steps.push('changed') } };
  if (later !== null) setTimeout(() => (open.mirror = later), 30);
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
    },
    nbd: {},
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
  const out = { ...STATUS, state: 'degraded', good: 'second', reason: 'its disk failed' } as const;
  for (const [now, later] of [
    [out, null],
    [{ ...out, good: null }, out],
    [null, { ...out, state: 'resyncing' }],
  ] as const) {
    const { said, steps } = await snapshot(now, later);
    t.match(
      said,
      /first side of its mirror.*lacks what was written last \(its disk failed\).*wait until both/,
    );
    t.same(steps, ['used', 'left']);
  }
});

void t.test('taken when it has everything', async t => {
  for (const mirror of [
    STATUS,
    { ...STATUS, good: 'second' },
    { ...STATUS, state: 'degraded' },
  ] as MirrorStatus[]) {
    const { steps } = await snapshot(mirror, null);
    t.same(steps, ['used', 'left', 'used', 'changed', 'left']);
  }
});
