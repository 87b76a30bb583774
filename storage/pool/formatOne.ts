/**
 * A pool of format 1 becomes one of format 2. There each volume was a directory with its metadata and one data file; the data
 * file becomes a plain layer, nothing is copied.
 *
 *   catalogue written: every good volume, its layer with the volume's own uuid
 *   each data file moved to layers/UUID/data            a crash in between: done again at the next open
 *   pool.json says format 2                              from here on nothing looks at volumes/ any more
 *
 * A volume that format 1 would not have served stays where it is and is told.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { StorageError } from '../volume/errors.js';
import type { Change } from './catalog.js';
import type { CatalogLog } from './catalogLog.js';
import { readSmall } from './file.js';
import { namesIn, type PoolFiles } from './files.js';
import { VOLUME_NAME, formatPool, parseVolume, type VolumeMeta } from './meta.js';

export function takeOver(parts: {
  directory: string;
  files: PoolFiles;
  log: CatalogLog;
  problems: string[];
  now_ms: () => number;
}): void {
  const { directory, files, log, problems, now_ms } = parts;
  const old = path.join(directory, 'volumes');
  const metas: VolumeMeta[] = [];
  for (const name of namesIn(old)) {
    const read = VOLUME_NAME.test(name) ? readVolume(path.join(old, name), name) : 'it is not ours';
    if (typeof read !== 'string') metas.push(read);
    // Moved already, by a take-over that was interrupted.
    else if (read !== MOVED) problems.push(`volumes/${name} was not taken over: ${read}`);
  }
  const unknown = metas.filter(({ uuid }) => !log.catalog.volumes.has(uuid));
  if (unknown.length > 0) log.commit(unknown.flatMap(recordsOf));
  if (log.closed !== null) throw new StorageError('POOL_DAMAGED', `${directory}: ${log.closed}`);
  for (const { name, uuid } of metas) {
    const layer = path.join(directory, 'layers', uuid);
    files.makeDirectory(layer);
    files.rename(path.join(old, name, 'data'), path.join(layer, 'data'));
  }
  files.replace(path.join(directory, 'pool.json'), formatPool({ uuid: log.pool, createdAt_ms: now_ms() }));
  for (const { name } of metas) fs.rmSync(path.join(old, name), { recursive: true, force: true });
}

const MOVED = 'moved';

/** Its meta, or what is wrong with it. */
function readVolume(directory: string, name: string): VolumeMeta | string {
  const file = path.join(directory, 'meta.json');
  if (!fs.existsSync(file)) return 'meta.json is missing';
  const { meta, problem } = parseVolume(readSmall(file));
  if (meta === null) return `meta.json is damaged: ${problem}`;
  if (meta.name !== name) return `meta.json belongs to a volume ${meta.name}`;
  const data = fs.lstatSync(path.join(directory, 'data'), { throwIfNoEntry: false });
  if (data === undefined) {
    const layer = path.join(path.dirname(path.dirname(directory)), 'layers', meta.uuid, 'data');
    return fs.existsSync(layer) ? MOVED : 'data is missing';
  }
  if (!data.isFile()) return 'data is no file';
  if (data.size < meta.size_bytes)
    return `data has ${data.size} bytes of ${meta.size_bytes}: its end is lost`;
  return meta;
}

function recordsOf({ uuid, name, size_bytes, createdAt_ms }: VolumeMeta): Change[] {
  const common = { size_bytes, createdAt_ms, checksums: false, preallocated: false };
  return [
    { do: 'layer', layer: { ...common, uuid, parent: null, inherits_bytes: 0, plain: true } },
    {
      do: 'volume',
      volume: {
        ...common,
        uuid,
        name,
        top: uuid,
        labels: {},
        quota_bytes: null,
        keyCheck: null,
        keyUuid: null,
      },
    },
  ];
}
