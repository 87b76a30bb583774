/** The catalogue's text: what is written is read, a torn end is dropped, damage in the middle is told, and nothing throws. */
import fc from 'fast-check';
import t from 'tap';
import { Catalog, type Change, type VolumeRecord } from '../../../storage/pool/catalog.js';
import { batchLine, headLine, replay } from '../../../storage/pool/catalogText.js';
import { layer, snapshot, topped, uuid, volume } from './catalogSample.js';

const POOL = '00000000-0000-4000-8000-000000000000';

const BATCHES: Change[][] = [
  topped(layer(1, null), volume(10, 'a', 1)),
  topped(layer(2, 1), volume(10, 'a', 2)),
  [{ do: 'snapshot', snapshot: snapshot(20, 's', 1) }],
  [{ do: 'volume', volume: volume(10, 'b', 2) }],
  [{ do: 'drop', kind: 'snapshot', uuid: uuid(20) }],
];

const LINES = [headLine(POOL), ...BATCHES.map((changes, i) => batchLine(i + 1, changes))];
const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

void t.test('what was written is read', async t => {
  const { catalog, pool, next, damage, length_bytes } = replay(bytesOf(LINES.join('')));
  t.same({ pool, next, damage }, { pool: POOL, next: 6, damage: [] });
  t.equal(length_bytes, LINES.join('').length);
  t.equal(catalog.volumeNamed('a'), undefined, 'renamed');
  t.match(catalog.volumeNamed('b'), { top: uuid(2) });
  t.same(
    catalog.chain(uuid(2)).map(one => one.uuid),
    [uuid(2), uuid(1)],
  );
  t.same(catalog.snapshotsOf(uuid(10)), []);
  t.same(catalog.unreachable(), []);
  t.equal(catalog.faults().size, 0);
  const again = replay(bytesOf(headLine(POOL) + batchLine(1, catalog.changes())));
  t.same(again.catalog.changes(), catalog.changes(), 'and the short way says the same');
});

void t.test('cut anywhere: the batches before the cut, and no damage', async t => {
  const whole = LINES.join('');
  let lines = 0;
  for (let cut = 0; cut <= whole.length; cut++) {
    if (cut > 0 && whole[cut - 1] === '\n') lines++;
    const { damage, length_bytes, batchCount } = replay(bytesOf(whole.slice(0, cut)));
    if (
      damage.length > 0 ||
      length_bytes !== LINES.slice(0, lines).join('').length ||
      batchCount !== Math.max(0, lines - 1)
    )
      return t.fail(`cut at ${cut}: ${damage.join()} ${length_bytes} ${batchCount}`);
  }
  t.pass();
});

void t.test('a line that is damaged, missing, or not ours, is told', async t => {
  const without = LINES.toSpliced(2, 1).join('');
  t.match(replay(bytesOf(without)).damage, [/batches 2 to 2 are missing/]);
  const flipped = LINES.join('').replace('"name":"s"', '"name":"t"');
  const { damage, catalog } = replay(bytesOf(flipped));
  t.match(damage, [/line 4 is damaged/]);
  t.match(catalog.volumeNamed('b'), { top: uuid(2) }, 'what comes after counts');
  t.match(replay(bytesOf(headLine(POOL).replace(POOL, uuid(5)) + LINES.slice(1).join(''))).damage, [
    /line 1/,
  ]);
});

void t.test('chains that contradict themselves are faults of their volumes, and end', async t => {
  const { catalog } = replay(bytesOf(headLine(POOL)));
  catalog.apply([
    { do: 'layer', layer: layer(1, 2) },
    { do: 'layer', layer: layer(2, 1) },
    { do: 'layer', layer: layer(3, 99) },
    { do: 'volume', volume: volume(10, 'circle', 1) },
    { do: 'volume', volume: volume(11, 'gone', 3) },
    { do: 'volume', volume: volume(12, 'none', 98) },
    { do: 'layer', layer: layer(4, null) },
    { do: 'volume', volume: volume(13, 'one', 4) },
    { do: 'volume', volume: volume(14, 'other', 4) },
  ]);
  t.same([...catalog.faults().keys()].sort(), ['circle', 'gone', 'none', 'other']);
});

void t.test('whatever bytes: it does not throw, and counts no more than there is', async t => {
  const mutated = fc
    .tuple(fc.nat(LINES.join('').length), fc.uint8Array({ maxLength: 8 }))
    .map(([at, bytes]) => {
      const whole = bytesOf(LINES.join(''));
      whole.set(bytes.subarray(0, whole.length - at), at);
      return whole;
    });
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), mutated), bytes => {
      const { length_bytes } = replay(bytes);
      return length_bytes <= bytes.length;
    }),
    { numRuns: 2000 },
  );
  t.pass();
});

/** As view says it, the slow way: all of everything. */
function slowView(catalog: Catalog, volume: VolumeRecord): unknown {
  const reach = (one: VolumeRecord): Set<string> =>
    new Set(
      [one.top, ...catalog.snapshotsOf(one.uuid).map(snapshot => snapshot.layer)].flatMap(root =>
        catalog.chain(root).map(layer => layer.uuid),
      ),
    );
  const volumes = [...catalog.volumes.values()];
  const older = volumes.slice(
    0,
    volumes.findIndex(one => one.uuid === volume.uuid),
  );
  const taken = new Set(older.flatMap(one => [...reach(one)]));
  const below = (one: VolumeRecord): string[] => {
    for (const { uuid: at } of catalog.chain(one.top)) {
      const found = [...catalog.snapshots.values()].filter(
        snapshot =>
          snapshot.layer === at && snapshot.volume !== one.uuid && catalog.volumes.has(snapshot.volume),
      );
      if (found.length > 0) return found.map(snapshot => snapshot.uuid);
    }
    return [];
  };
  const parent = catalog.snapshots.get(below(volume)[0] ?? '');
  return {
    own: [...reach(volume)].filter(at => !taken.has(at)).sort(),
    clones: catalog
      .snapshotsOf(volume.uuid)
      .map(({ uuid: at }) => volumes.filter(one => below(one).includes(at)).map(one => one.name)),
    parent:
      parent === undefined
        ? null
        : { volume: catalog.volumes.get(parent.volume)!.name, snapshot: parent.name },
    depth: catalog.chain(volume.top).length,
  };
}

void t.test('what is told of a volume is what the slow way tells, whatever was done', async t => {
  const step = fc.tuple(fc.nat(7), fc.nat(30), fc.nat(30));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), steps => {
      const catalog = new Catalog();
      let n = 100;
      const pick = <T>(from: Iterable<T>, i: number): T | undefined =>
        [...from][i % Math.max(1, [...from].length)];
      for (const [what, i, j] of steps) {
        const some = pick(catalog.volumes.values(), i);
        const at = pick(catalog.snapshots.values(), j);
        const top: Change = { do: 'layer', layer: { ...layer(++n, null), parent: null } };
        const on = (parent: string): Change => ({ do: 'layer', layer: { ...layer(n, null), parent } });
        if (some === undefined || what === 0)
          catalog.apply([top, { do: 'volume', volume: volume(++n, `v${n}`, n - 1) }]);
        else if (what === 1) {
          const taken = {
            uuid: uuid(++n),
            volume: some.uuid,
            name: `s${n}`,
            layer: some.top,
            size_bytes: 8192,
            createdAt_ms: 1,
            labels: {},
          };
          const above: Change = { do: 'layer', layer: { ...layer(++n, null), parent: some.top } };
          catalog.apply([
            above,
            { do: 'volume', volume: { ...some, top: uuid(n) } },
            { do: 'snapshot', snapshot: taken },
          ]);
        } else if (what === 2 && at !== undefined)
          catalog.apply([on(at.layer), { do: 'volume', volume: volume(++n, `c${n}`, n - 1) }]);
        else if (what === 3 && at !== undefined) {
          const owner = catalog.volumes.get(at.volume);
          if (owner !== undefined)
            catalog.apply([on(at.layer), { do: 'volume', volume: { ...owner, top: uuid(n) } }]);
        } else if (what === 4 && at !== undefined)
          catalog.apply([{ do: 'drop', kind: 'snapshot', uuid: at.uuid }]);
        else if (what === 5)
          catalog.apply([
            ...catalog
              .snapshotsOf(some.uuid)
              .map((one): Change => ({ do: 'drop', kind: 'snapshot', uuid: one.uuid })),
            { do: 'drop', kind: 'volume', uuid: some.uuid },
          ]);
        else if (what === 6) {
          // As a merge: what stood on the parent of a layer stands on what is below it.
          const upper = pick(catalog.layers.values(), j);
          const lower = catalog.layers.get(upper?.parent ?? '');
          if (upper !== undefined && lower !== undefined)
            catalog.apply([{ do: 'layer', layer: { ...upper, parent: lower.parent } }]);
        } else
          catalog.apply(
            catalog
              .unreachable()
              .map(({ uuid: gone }): Change => ({ do: 'drop', kind: 'layer', uuid: gone })),
          );
        for (const one of catalog.volumes.values()) {
          const { own, snapshots, parent, depth } = catalog.view(one);
          const told = { own: [...own].sort(), clones: snapshots.map(({ clones }) => clones), parent, depth };
          if (JSON.stringify(told) !== JSON.stringify(slowView(catalog, one)))
            throw new Error(
              `${one.name}: ${JSON.stringify(told)} is not ${JSON.stringify(slowView(catalog, one))}`,
            );
        }
        const reached = new Set(
          [
            ...[...catalog.volumes.values()].map(one => one.top),
            ...[...catalog.snapshots.values()].map(one => one.layer),
          ].flatMap(root => catalog.chain(root).map(one => one.uuid)),
        );
        const loose = catalog
          .unreachable()
          .map(one => one.uuid)
          .sort();
        const wanted = [...catalog.layers.keys()].filter(one => !reached.has(one)).sort();
        if (loose.join() !== wanted.join())
          throw new Error(`unreachable: ${loose.join()} is not ${wanted.join()}`);
      }
    }),
    { numRuns: 200 },
  );
  t.pass();
});
