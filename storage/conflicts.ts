/**
 * What in a configuration contradicts itself, so that it cannot be done whatever the machine is like. Pure. The
 * first of two that collide is kept; the other gets the reason.
 */
import type { ExportListen, StorageConfig } from './contract.js';

interface Conflicts {
  /** By pool name. */
  readonly poolConflicts: Map<string, string>;
  /** By export name. */
  readonly exportConflicts: Map<string, string>;
}

export function conflictsOf(config: StorageConfig): Conflicts {
  const poolConflicts = new Map<string, string>();
  const directories = new Map<string, string>();
  for (const { name, directory } of config.pools) {
    if (directory === undefined) continue;
    const other = directories.get(directory);
    if (other !== undefined) poolConflicts.set(name, `${directory} is the directory of pool ${other} too`);
    else directories.set(directory, name);
  }

  const exportConflicts = new Map<string, string>();
  const offered = new Map<string, string>();
  const owners = new Map<string, { name: string; owner: string; isGuests: boolean }>();
  const secrets = new Map<string, { name: string; tls: string }>();
  for (const { name, nbdName, listen } of config.exports) {
    for (const where of listen) {
      const address = addressOf(where);
      const key = `${address} ${nbdName}`;
      const same = offered.get(key);
      const owner = JSON.stringify(where.kind === 'tcp' ? null : (where.owner ?? null));
      const otherOwner = owners.get(address);
      const otherTls = secrets.get(address);
      if (same !== undefined)
        exportConflicts.set(
          name,
          `export ${same} has the NBD name "${nbdName}" on ${address} already: choose another`,
        );
      else if (otherOwner !== undefined && (otherOwner.isGuests || where.kind === 'vhost-user'))
        exportConflicts.set(
          name,
          `export ${otherOwner.name} has the socket ${address} already, and one of vhost-user shows one disk`,
        );
      else if (otherOwner !== undefined && otherOwner.owner !== owner)
        exportConflicts.set(name, `export ${otherOwner.name} gives the socket ${address} to another owner`);
      else if (otherTls !== undefined && otherTls.tls !== tlsOf(where))
        exportConflicts.set(name, `export ${otherTls.name} has another tls, or none, on ${address}`);
    }
    if (exportConflicts.has(name)) continue;
    for (const where of listen) {
      const owner = JSON.stringify(where.kind === 'tcp' ? null : (where.owner ?? null));
      offered.set(`${addressOf(where)} ${nbdName}`, name);
      owners.set(addressOf(where), { name, owner, isGuests: where.kind === 'vhost-user' });
      secrets.set(addressOf(where), { name, tls: tlsOf(where) });
    }
  }
  return { poolConflicts, exportConflicts };
}

/** Names that the configuration uses twice; such a configuration is refused whole. */
export function duplicateNames(config: StorageConfig): string[] {
  const twice = (kind: string, names: readonly string[]): string[] => {
    const seen = new Set<string>();
    return names.filter(name => seen.has(name) || (seen.add(name), false)).map(name => `${kind} ${name}`);
  };
  return [
    ...twice(
      'pool',
      config.pools.map(pool => pool.name),
    ),
    ...twice(
      'export',
      config.exports.map(one => one.name),
    ),
  ];
}

/** To be compared. */
function tlsOf(listen: ExportListen): string {
  if (listen.kind !== 'tcp' || listen.tls === undefined) return '';
  const { certificate, key, authority, psk, pskIdentity } = listen.tls;
  return JSON.stringify([certificate, key, authority, psk, pskIdentity]);
}

function addressOf(listen: ExportListen): string {
  return listen.kind === 'tcp' ? `${listen.host}:${listen.port}` : listen.path;
}
