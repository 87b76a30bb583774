/** What differs between two snapshots of a volume, or since one until now: from the layers' maps alone, a page at a time. */
import { Checksum } from '../checksum/checksum.js';
import type { Diff } from '../contract.js';
import { Difference, differencePage } from '../jobs/extents.js';
import { LayerFile } from '../jobs/layerFile.js';
import type { Pool } from '../pool/pool.js';

const EXTENTS_LIMIT = 1000;
/** 32 GiB a page of what was written: the desk must not stand still over what has few differences. */
const GROUPS_LIMIT = 1024;

let checksum: Checksum | null = null;

/** `from` null: from the beginning; `to` null: until now. Throws VOLUME_UNKNOWN, SNAPSHOT_UNKNOWN. */
export function diffOf(
  pool: Pool,
  volume: string,
  from: string | null,
  to: string | null,
  offset_bytes: number,
): Diff {
  const record = pool.require(volume);
  const layerOf = (name: string): string => pool.requireSnapshot(record, name).layer;
  const older = from === null ? null : pool.acquireChain(layerOf(from));
  const newer = pool.acquireChain(to === null ? record.top : layerOf(to));
  checksum ??= new Checksum();
  const sums = checksum;
  try {
    const open = (chain: typeof newer): LayerFile[] => chain.map(layer => new LayerFile(layer, sums));
    const difference = new Difference(older === null ? null : open(older), open(newer));
    const { extents, next_bytes } = differencePage(difference, offset_bytes, EXTENTS_LIMIT, GROUPS_LIMIT);
    return { size_bytes: difference.size_bytes, extents, next_bytes };
  } finally {
    for (const { uuid } of [...(older ?? []), ...newer]) pool.release(uuid);
  }
}
