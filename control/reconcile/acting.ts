/** Carrying out one action: which edge is asked for what. Rejects with the edge's own words. */
import { PlaneError } from '../supervise/errors.js';
import type { Action } from './action.js';
import type { Edges } from './loop.js';
import type { SpecOf } from '../model/spec.js';
import { arrived, cutFailed, isCut, moveTarget } from './moving.js';
import { fillSocket } from './planes.js';
import { UNDO_LABEL, undoSnapshotName } from './undo.js';

export async function act(
  edges: Edges,
  action: Action,
  signal: AbortSignal,
  onProgress: (words: string) => void,
): Promise<void> {
  const { keeper, guests, images, dataplane, storage, layout } = edges;
  const progress = ({ stage, fraction }: { stage: string; fraction: number | null }): void =>
    onProgress(fraction === null ? stage : `${stage} (${Math.floor(fraction * 100)}%)`);
  switch (action.type) {
    case 'configureDataplane':
      await dataplane.configure(action.config);
      return;
    case 'configureStorage':
      await storage.configure(action.config);
      return;
    case 'buildImage':
      await images.build(action.name, action.spec, progress, signal);
      return;
    case 'forgetImage':
      await images.forget(action.name);
      return;
    case 'putVolume':
      // It may have waited in a lane while its resource was deleted.
      if (
        !isPlaceOf(keeper.desired.specs.volume.get(action.name), action.pool) &&
        moveTarget(keeper.desired, action.name) !== action.pool
      )
        return;
      if (action.mark !== undefined) await keeper.rememberFill(action.pool, action.name, action.mark);
      await storage.putVolume(action.pool, action.name, action.spec);
      return;
    case 'fillVolume': {
      const image = await images.bootFiles(action.image, action.imageSpec);
      if (image.kind !== 'disk') throw new Error(`image "${action.image}" is not a disk image`);
      const target = { socketPath: fillSocket(layout, action.name), nbdName: action.name };
      await images.fill(image, target, progress, signal);
      await keeper.rememberFill(action.pool, action.name, { state: 'filled', image: action.image });
      return;
    }
    case 'destroyVolume':
      // It may be gone: an earlier weftd got so far.
      await unlessGone(storage.destroyVolume(action.pool, action.name));
      await keeper.rememberFill(action.pool, action.name, null);
      return;
    case 'rememberMove':
      await keeper.rememberMove(action.name, action.fact);
      return;
    case 'cutMove':
      await cutMove(edges, action);
      return;
    case 'prepareMachine':
      await guests.prepare(action.name);
      return;
    case 'snapshotVolume': {
      const { pool, name, snapshot, labels } = action;
      await storage.snapshot({ name: snapshot, volumes: [{ pool, volume: name }], labels });
      return;
    }
    case 'deleteSnapshot':
      await unlessGone(storage.deleteSnapshot(action.pool, action.name, action.snapshot));
      return;
    case 'armDisks': {
      const snapshot = undoSnapshotName(action.name);
      // Of an attempt that came to nothing.
      for (const { pool, volume } of action.disks)
        await unlessGone(storage.deleteSnapshot(pool, volume, snapshot));
      await storage.snapshot({
        name: snapshot,
        volumes: action.disks,
        labels: { [UNDO_LABEL]: action.name },
      });
      await keeper.rememberUndo(action.name, { state: 'armed', disks: action.disks });
      return;
    }
    case 'undoDisks': {
      const snapshot = undoSnapshotName(action.name);
      for (const { pool, volume, discard } of action.disks) {
        // Without the snapshot, an earlier attempt got further than to its removal.
        if (discard) await unlessGone(storage.rollback(pool, volume, snapshot));
        await unlessGone(storage.deleteSnapshot(pool, volume, snapshot));
      }
      await keeper.rememberUndo(action.name, null);
      return;
    }
    case 'startMachine':
      await markAsRun(keeper, action.plan.name);
      await guests.start(action.plan);
      return;
    case 'growDisks':
      for (const [index, size_bytes] of action.sizes_bytes)
        await guests.growDisk(action.name, index, size_bytes);
      return;
    case 'stopMachine':
      await guests.stop(action.name, action.timeout_ms);
      return;
    case 'killMachine':
      await guests.kill(action.name);
      return;
    case 'forgetMachine':
      await guests.forget(action.name);
      return;
    case 'rememberMachine':
      await keeper.rememberMachine(action.name, before => ({ ...before, halted: action.fact.halted }));
      return;
    case 'unbury':
      await keeper.unbury(action.key);
      return;
  }
}

async function cutMove(
  { keeper, storage, clock }: Edges,
  { pool, name, to }: Extract<Action, { type: 'cutMove' }>,
): Promise<void> {
  const { inSync, reason, snapshotCount } = await storage.mirrorAtRest(pool, name, to);
  const fact = keeper.desired.moveFacts.get(name);
  if (fact === undefined || !isCut(keeper.desired, name)) return;
  if (inSync)
    await keeper.moved(name, to, arrived(fact, pool, to, fact.keepSource === true || snapshotCount > 0));
  else {
    await keeper.rememberMove(name, cutFailed(fact, clock.now_ms()));
    throw new Error(`the sides are not the same yet (${reason}): it is mirrored on`);
  }
}

/** From here on its disks count as changed, whatever becomes of the start or of us. */
async function markAsRun(keeper: Edges['keeper'], machine: string): Promise<void> {
  const fact = keeper.desired.undoFacts.get(machine);
  if (fact?.state === 'armed') await keeper.rememberUndo(machine, { ...fact, state: 'ran' });
}

function isPlaceOf(spec: SpecOf['volume'] | undefined, pool: string): boolean {
  return spec !== undefined && (spec.pool === pool || spec.mirror?.pool === pool);
}

const GONE: ReadonlySet<string> = new Set(['VOLUME_UNKNOWN', 'SNAPSHOT_UNKNOWN']);

/** A pool that is not known is no such thing: what lies in it may be there. */
async function unlessGone(work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch (error) {
    if (!(error instanceof PlaneError && GONE.has(error.planeCode ?? ''))) throw error;
  }
}
