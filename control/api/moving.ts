/** Which volumes can be moved to which pools. Pure; the move itself is reconcile/moving.ts. */
import type { StorageStatus } from '../../storage/contract.js';
import { poolKind } from '../model/storage/pool.js';
import type { Desired } from '../reconcile/desired.js';
import type { MoveRequest } from './contract.js';

/** In words; null: it can. */
export function whyNotMoved(
  desired: Desired,
  status: StorageStatus,
  pool: string,
  volume: string,
  { to, keepSource }: MoveRequest,
): string | null {
  const { specs, moveFacts } = desired;
  const spec = specs.volume.get(volume);
  if (spec?.pool !== pool)
    return `volume ${pool}/${volume} is not in the configuration: name it there first, or copy it: weft volume export, weft volume import`;
  const fact = moveFacts.get(volume);
  if (fact?.to !== undefined)
    return fact.to === to
      ? null
      : `volume "${volume}" is on its way to pool "${fact.to}": weft volume move ${pool}/${volume} --cancel ends that`;
  if (fact?.drop !== undefined)
    return `what is left of volume "${volume}" in pool "${fact.drop}" is still being destroyed: try again in a moment`;
  if (fact?.at !== undefined && fact.at !== pool)
    return `a machine that runs still uses another volume "${volume}", in pool "${fact.at}": stop it first`;
  if (pool === to) return `volume "${volume}" is in pool "${to}" already`;
  for (const name of [pool, to]) {
    const one = specs.pool.get(name);
    if (one === undefined) return `there is no pool "${name}" in the configuration`;
    if (poolKind(one) !== 'directory')
      return `pool "${name}" is of kind ${poolKind(one)}: volumes are moved between directories; weft backup, or weft volume export and import, copy them`;
  }
  if (spec.mirror !== undefined)
    return spec.mirror.pool === to
      ? `volume "${volume}" is mirrored to pool "${to}": take the mirror out of the configuration, destroy that side (weft volume delete ${to}/${volume} --destroy-data), and move it`
      : `volume "${volume}" is mirrored: take the mirror out of the configuration first`;
  if (spec.encryption !== undefined)
    return `volume "${volume}" is encrypted with a key that belongs to where it lies: copy it (weft volume export and import) to an encrypted volume of another name`;
  const clone = [...specs.volume].find(([, { from }]) => from?.volume === volume)?.[0];
  if (clone !== undefined)
    return `the configuration says that volume "${clone}" was made from it, in the same pool: take "from" out of volume "${clone}", which is made`;
  const found = (name: string) => status.volumes.find(one => one.pool === name && one.name === volume);
  const [source, target] = [found(pool), found(to)];
  if (source === undefined) return `volume ${pool}/${volume} is not there yet`;
  if (source.state === 'failed' || source.state === 'damaged')
    return `volume ${pool}/${volume} is ${source.state}: ${source.reason ?? 'see weft volume show'}`;
  if (target !== undefined)
    return `there is a volume ${to}/${volume} already: weft volume rename or weft volume delete makes room`;
  const snapshots = source.snapshots?.length ?? 0;
  if (snapshots > 0 && !keepSource)
    return `volume ${pool}/${volume} has snapshots (${snapshots}), which do not move: delete them, or leave them there (--keep-source)`;
  const free_bytes = status.pools.find(one => one.name === to)?.free_bytes ?? 0;
  return free_bytes < source.allocated_bytes
    ? `pool "${to}" has ${free_bytes} bytes free, and volume ${pool}/${volume} takes ${source.allocated_bytes}`
    : null;
}
