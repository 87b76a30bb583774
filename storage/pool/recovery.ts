/**
 * A catalogue made again, from what can be read of the one that is damaged and from the notes that lie beside the layers. Pure.
 *
 * Batches are counted for ever, and a note bears the number of the batch that it is of: so of each record the newest saying
 * counts, whoever says it, and a drop counts unless the record was said again later. Nothing is made up: a layer that no volume
 * and no snapshot reaches then is an orphan, whose files are kept (repair.ts); a volume of which nothing is there is dropped.
 */
import { Catalog, type Change, type SnapshotRecord, type VolumeRecord } from './catalog.js';
import { replay, type Note } from './catalogText.js';

export interface Recovered {
  readonly catalog: Catalog;
  /** As the catalogue or else the notes have it; null: none of them says. */
  readonly pool: string | null;
  /** Number of the newest batch that anything tells of. */
  readonly last: number;
  /** What is not in it any more, or otherwise than it was, in words. */
  readonly changed: string[];
  /** Layers with a directory that nothing reaches. */
  readonly orphans: string[];
}

interface Said {
  /** null: dropped. */
  change: Change | null;
  /** Of the newest saying, and of the oldest. */
  n: number;
  first: number;
}

/** `present`: layers that have a directory. `pool`: notes of another one do not count. */
export function recover(
  text: Uint8Array,
  notes: ReadonlyMap<string, Note>,
  present: ReadonlySet<string>,
  pool: string | null,
): Recovered {
  const said = new Map<string, Said>();
  let last = 0;
  const hear = (n: number, change: Change): void => {
    const [key, kept] = change.do === 'drop' ? [`${change.kind} ${change.uuid}`, null] : keyed(change);
    const before = said.get(key);
    last = Math.max(last, n);
    if (before === undefined) said.set(key, { change: kept, n, first: n });
    else {
      before.first = Math.min(before.first, n);
      if (n >= before.n) Object.assign(before, { change: kept, n });
    }
  };
  const replayed = replay(text, (n, changes) => changes.forEach(change => hear(n, change)));
  const of = pool ?? replayed.pool ?? mostFrequent([...notes.values()].map(note => note.pool));
  for (const note of notes.values())
    if (note.pool === of) for (const change of note.changes) hear(note.n, change);
  const changes = [...said.values()]
    .sort((a, b) => a.first - b.first)
    .flatMap(({ change }) => (change === null ? [] : [change]));
  return { ...consistent(changes, present), pool: of, last };
}

/** Of what was said, that which holds together. */
function consistent(
  changes: readonly Change[],
  present: ReadonlySet<string>,
): Pick<Recovered, 'catalog' | 'changed' | 'orphans'> {
  const changed: string[] = [];
  const all = new Catalog();
  all.apply(changes);
  const catalog = new Catalog();
  catalog.apply(changes.filter(change => change.do === 'layer'));
  const names = new Map<string, VolumeRecord>();
  for (const volume of all.volumes.values()) {
    if (!all.chain(volume.top).some(({ uuid }) => present.has(uuid))) {
      changed.push(`volume ${volume.name} (${volume.uuid}): none of its layers is there`);
      continue;
    }
    let record = volume;
    if (names.has(volume.name)) {
      record = { ...volume, name: `${volume.name.slice(0, 31)}-${volume.uuid.slice(0, 8)}` };
      changed.push(`a second volume ${volume.name} becomes ${record.name}`);
    }
    names.set(record.name, record);
    catalog.apply([{ do: 'volume', volume: record }]);
  }
  const taken = new Set<string>();
  for (const snapshot of all.snapshots.values()) {
    const reason = whyNot(snapshot, catalog, taken);
    if (reason === null) catalog.apply([{ do: 'snapshot', snapshot }]);
    else changed.push(`snapshot ${snapshot.name} of volume ${snapshot.volume}: ${reason}`);
  }
  catalog.apply(catalog.unreachable().map(({ uuid }) => ({ do: 'drop', kind: 'layer', uuid })));
  return { catalog, changed, orphans: [...present].filter(uuid => !catalog.layers.has(uuid)) };
}

function whyNot(
  { volume, name, layer }: SnapshotRecord,
  catalog: Catalog,
  taken: Set<string>,
): string | null {
  if (!catalog.volumes.has(volume)) return 'its volume is not there';
  if (!catalog.layers.has(layer)) return `its layer ${layer} is in no record`;
  const key = `${volume} ${name}`;
  if (taken.has(key)) return 'there is another one of this name';
  taken.add(key);
  return null;
}

function keyed(change: Exclude<Change, { do: 'drop' }>): [string, Change] {
  if (change.do === 'layer') return [`layer ${change.layer.uuid}`, change];
  if (change.do === 'volume') return [`volume ${change.volume.uuid}`, change];
  return [`snapshot ${change.snapshot.uuid}`, change];
}

function mostFrequent(pools: readonly string[]): string | null {
  const counts = new Map<string, number>();
  for (const pool of pools) counts.set(pool, (counts.get(pool) ?? 0) + 1);
  let best: string | null = null;
  for (const [pool, count] of counts) if (best === null || count > counts.get(best)!) best = pool;
  return best;
}
