/** Exports as they are wanted: of the configuration, and of leases, which are exports that it does not know. Pure. */
import type { ExportConfig, ExportStatus, Lease } from '../contract.js';
import { rulesOf } from '../openings.js';

export function leaseName(name: string): string {
  return `lease/${name}`;
}

export function leaseExport(name: string, { pool, volume, snapshot, readOnly, path }: Lease): ExportConfig {
  return {
    name: leaseName(name),
    nbdName: name,
    pool,
    volume,
    readOnly,
    listen: [{ kind: 'unix', path }],
    ...(snapshot === undefined ? {} : { snapshot }),
  };
}

/** Whether clients of the one can stay with the other. Listeners may differ. */
export function sameService(one: ExportConfig, other: ExportConfig | undefined): boolean {
  return (
    other !== undefined &&
    one.nbdName === other.nbdName &&
    one.pool === other.pool &&
    one.volume === other.volume &&
    one.snapshot === other.snapshot &&
    one.readOnly === other.readOnly &&
    JSON.stringify(rulesOf(one)) === JSON.stringify(rulesOf(other))
  );
}

/** Of one that the configuration contradicts itself about. */
export function refusedStatus(name: string, reason: string): ExportStatus {
  return { name, state: 'error', reason, connectionCount: 0, counters: {} };
}
