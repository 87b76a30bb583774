/**
 * The desk as jobs see it (jobs/poolDesk.ts), in terms of what is in use: after a job has changed the catalogue, whatever reads
 * one of the layers that were changed is given its chain anew, and what it read before is closed when nothing uses it.
 */
import type { DeskHost } from '../jobs/poolDesk.js';
import type { NbdServer } from '../nbd/server.js';
import type { Pool } from '../pool/pool.js';
import { StorageError } from '../volume/errors.js';
import type { LayerOpening, LayersOpening } from '../volume/opening.js';
import { keyBy } from './keys.js';
import { snapshotStatuses, type Operations } from './operations.js';
import type { UsedVolume, UsedVolumes } from './volumes.js';

interface JobHostParts extends Pick<
  DeskHost,
  'inTurn' | 'pools' | 'pool' | 'snapshot' | 'deleteSnapshot' | 'clients' | 'isMirrored' | 'tlsOf'
> {
  readonly nbd: NbdServer;
  readonly used: UsedVolumes;
  readonly operations: Operations;
  /** As configured. */
  readonly keyFile: (pool: string, volume: string) => string | undefined;
}

export function jobHost(parts: JobHostParts): DeskHost {
  const { nbd, used, operations, keyFile, ...rest } = parts;
  return {
    ...rest,
    snapshots: (pool, volume) => {
      const open = parts.pool(pool);
      return snapshotStatuses(open, open.require(volume));
    },
    freeze: async (pool, { name }) => void (await operations.freeze([{ pool, volume: name }], null)),
    keyBy: (pool, volume, uuid) => {
      const file = keyFile(pool, volume);
      return file === undefined ? null : keyBy(volume, file, uuid);
    },
    isOpen: (pool, volume) => used.isOpen(pool, volume),
    finished: layers => nbd.finishLayers(layers),
    exchange: (pool, layers, how) => exchange(nbd, used, parts.pool(pool), layers, how),
  };
}

async function exchange(
  nbd: NbdServer,
  used: UsedVolumes,
  pool: Pool,
  changed: ReadonlySet<string>,
  how: 'replace' | 'content',
): Promise<void> {
  const taken: { one: UsedVolume; layers: LayerOpening[]; base: LayersOpening }[] = [];
  try {
    for (const one of used.all()) {
      if (one.pool !== pool || !one.layers.some(({ uuid }) => changed.has(uuid))) continue;
      const record = pool.log.catalog.volumes.get(one.uuid);
      if (record === undefined) continue;
      const named = one.snapshot === null ? null : pool.requireSnapshot(record, one.snapshot);
      const layers = pool.acquireChain(named?.layer ?? record.top, true);
      const base = used.opening(one, record, layers);
      taken.push({
        one,
        layers,
        base: named === null ? base : { ...base, size_bytes: named.size_bytes, writable: false },
      });
    }
  } catch (error) {
    for (const { layers } of taken) for (const { uuid } of layers) pool.release(uuid);
    throw error;
  }
  if (taken.length === 0) return;
  const changes = taken.map(({ one, base }) => ({ volumeId: one.volumeId, base }));
  const result = await nbd.changeLayers(how, changes);
  // Both chains stay open then, as it is not known which of them is used.
  if (result < 0)
    throw new StorageError('POOL_IO', `the layers of a volume could not be exchanged (errno ${-result})`);
  for (const { one, layers } of taken) used.exchange(one, layers);
}
