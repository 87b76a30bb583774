import fc from 'fast-check';
import t from 'tap';
import { VOLUME_NAME, formatPool, formatVolume, parsePool, parseVolume } from '../../../storage/pool/meta.js';

const volume = fc.record({
  name: fc.stringMatching(VOLUME_NAME),
  uuid: fc.uuid(),
  size_bytes: fc.integer({ min: 1, max: 2 ** 34 }).map(blocks => blocks * 4096),
  createdAt_ms: fc.nat(),
});

void t.test('volume: parse of format is what was formatted', async t => {
  fc.assert(
    fc.property(volume, meta => {
      t.match(parseVolume(formatVolume(meta)), { problem: null, meta });
    }),
  );
});

void t.test('pool: parse of format is what was formatted', async t => {
  fc.assert(
    fc.property(fc.record({ uuid: fc.uuid(), createdAt_ms: fc.nat() }), meta => {
      t.match(parsePool(formatPool(meta)), { problem: null, meta });
    }),
  );
});

void t.test('cut off anywhere, it is damaged', async t => {
  const text = formatVolume({
    name: 'v',
    uuid: '7b1f4bd3-43b5-4a3f-9d0d-1c9c8b3b4c55',
    size_bytes: 4096,
    createdAt_ms: 1,
  });
  for (let length = 0; length < text.length - 2; length++)
    t.type(parseVolume(text.slice(0, length)).problem, 'string', `${length} characters`);
});

void t.test('what is not ours to read is refused in words', async t => {
  const good = { name: 'v', uuid: '7b1f4bd3-43b5-4a3f-9d0d-1c9c8b3b4c55', size_bytes: 4096, createdAt_ms: 1 };
  const change = (changes: object): string | null =>
    parseVolume(JSON.stringify({ ...(JSON.parse(formatVolume(good)) as object), ...changes })).problem;
  t.equal(change({}), null);
  t.match(change({ format: 2 }), /format/);
  t.match(change({ kind: 'weft-pool' }), /kind/);
  t.match(change({ name: '../x' }), /name/);
  t.match(change({ name: '.hidden' }), /name/);
  t.match(change({ size_bytes: 4097 }), /size_bytes/);
  t.match(change({ size_bytes: 2 ** 50 }), /size_bytes/);
  t.match(change({ uuid: 'x' }), /uuid/);
  t.type(change({ snapshots: [] }), 'string', 'a key that we do not know may matter');
  t.match(parseVolume('').problem, /empty/);
});

void t.test('random text never throws', async () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), text => {
      parseVolume(text);
      parsePool(text);
    }),
  );
});
