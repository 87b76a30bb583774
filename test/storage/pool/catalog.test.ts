/** The catalogue's text: what is written is read, a torn end is dropped, damage in the middle is told, and nothing throws. */
import fc from 'fast-check';
import t from 'tap';
import type { Change, LayerRecord, VolumeRecord } from '../../../storage/pool/catalog.js';
import { batchLine, headLine, replay } from '../../../storage/pool/catalogText.js';

const POOL = '00000000-0000-4000-8000-000000000000';
const uuid = (n: number): string => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`;

const layer = (n: number, parent: number | null): LayerRecord => ({
  uuid: uuid(n),
  parent: parent === null ? null : uuid(parent),
  size_bytes: 8192,
  inherits_bytes: 8192,
  plain: false,
  checksums: true,
  preallocated: false,
  createdAt_ms: n,
});

const volume = (n: number, name: string, top: number): VolumeRecord => ({
  uuid: uuid(n),
  name,
  top: uuid(top),
  size_bytes: 8192,
  createdAt_ms: n,
  checksums: true,
  preallocated: false,
  labels: {},
  quota_bytes: null,
  keyCheck: null,
  keyUuid: null,
});

const BATCHES: Change[][] = [
  [
    { do: 'layer', layer: layer(1, null) },
    { do: 'volume', volume: volume(10, 'a', 1) },
  ],
  [
    { do: 'layer', layer: layer(2, 1) },
    { do: 'volume', volume: volume(10, 'a', 2) },
  ],
  [
    {
      do: 'snapshot',
      snapshot: {
        uuid: uuid(20),
        volume: uuid(10),
        name: 's',
        layer: uuid(1),
        size_bytes: 8192,
        createdAt_ms: 3,
        labels: {},
      },
    },
  ],
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
