/** Carrying out one action: which edge is asked for what. Rejects with the edge's own words. */
import { PlaneError } from '../supervise/errors.js';
import type { Action } from './action.js';
import type { Edges } from './loop.js';
import { fillSocket } from './planes.js';

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
      if (keeper.desired.specs.volume.get(action.name)?.pool !== action.pool) return;
      if (action.mark !== undefined) await keeper.rememberFill(action.pool, action.name, action.mark);
      await storage.putVolume(action.pool, action.name, action.size_bytes);
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
      try {
        await storage.destroyVolume(action.pool, action.name);
      } catch (error) {
        // It is gone: an earlier weftd got so far.
        if (!(error instanceof PlaneError && error.status === 404)) throw error;
      }
      await keeper.rememberFill(action.pool, action.name, null);
      return;
    case 'prepareMachine':
      await guests.prepare(action.name);
      return;
    case 'startMachine':
      await guests.start(action.plan);
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
