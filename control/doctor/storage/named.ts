/** The places that a configuration names: directories of pools, and files with certificates and keys. Pure. */
import { poolDirectory, type Layout } from '../../model/layout.js';
import type { Specs } from '../../model/resource.js';
import { parsePercent, poolKind } from '../../model/storage/pool.js';

export interface NamedPool {
  name: string;
  directory: string;
  lowSpace_percent: number;
}

export interface NamedFile {
  path: string;
  /** `key` and `psk` and `secret` are for nobody else to read. */
  holds: 'certificate' | 'authority' | 'key' | 'psk' | 'secret';
  /** Who names it, as `export "db"`. */
  by: string;
  /** Of a key: the certificate that it belongs to. */
  certificate?: string;
}

interface TlsWords {
  certificate?: string | undefined;
  key?: string | undefined;
  authority?: string | undefined;
  psk?: string | undefined;
}

export function poolsOf(layout: Layout, specs: Specs): NamedPool[] {
  return [...specs.pool]
    .filter(([, spec]) => poolKind(spec) === 'directory')
    .map(([name, spec]) => ({
      name,
      directory: poolDirectory(layout, name, spec.directory),
      lowSpace_percent: parsePercent(spec.lowSpace) ?? 10,
    }));
}

export function filesOf(specs: Specs): NamedFile[] {
  const found: NamedFile[] = [];
  for (const [name, { tls }] of specs.export)
    if (tls !== undefined) found.push(...ofTls(`export "${name}"`, tls));
  for (const [name, { remote }] of specs.pool)
    if (remote?.tls !== undefined) found.push(...ofTls(`pool "${name}"`, remote.tls));
  for (const [name, { encryption }] of specs.volume)
    if (encryption !== undefined)
      found.push({ path: encryption.keyFile, holds: 'secret', by: `volume "${name}"` });
  // One file, told once.
  return [...new Map(found.map(file => [`${file.holds} ${file.path}`, file])).values()];
}

function* ofTls(by: string, { certificate, key, authority, psk }: TlsWords): Generator<NamedFile> {
  if (certificate !== undefined) yield { path: certificate, holds: 'certificate', by };
  if (key !== undefined)
    yield { path: key, holds: 'key', by, ...(certificate === undefined ? {} : { certificate }) };
  if (authority !== undefined) yield { path: authority, holds: 'authority', by };
  if (psk !== undefined) yield { path: psk, holds: 'psk', by };
}
