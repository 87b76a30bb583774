/** The small pure things of the model: nearest words, derived addresses, ranges, the JSON Schema. */
import t from 'tap';
import fc from 'fast-check';
import { configurationSchema } from '../../../control/model/jsonSchema.js';
import { derivedMac } from '../../../control/model/mac.js';
import { differences, sameMeaning, vlanRanges } from '../../../control/model/meaning.js';
import { editDistance, nearest, someOf } from '../../../control/model/nearest.js';
import { readSpec } from '../../../control/model/resource.js';
import { parseDuration_ms, parseSize } from '../../../control/model/spec.js';

await t.test('edit distance is a distance', async t => {
  t.equal(editDistance('vlna', 'vlan'), 1, 'neighbours swapped');
  t.equal(editDistance('', 'abc'), 3);
  const word = fc.string({ maxLength: 12 });
  fc.assert(
    fc.property(word, word, (a, b) => {
      const distance = editDistance(a, b);
      return (
        distance === editDistance(b, a) &&
        (distance === 0) === (a === b) &&
        distance >= Math.abs(a.length - b.length) &&
        distance <= Math.max(a.length, b.length)
      );
    }),
  );
});

await t.test('nearest', async t => {
  t.equal(nearest('memroy', ['cpus', 'memory']), 'memory');
  t.equal(nearest('Memory', ['cpus', 'memory']), 'memory');
  t.equal(nearest('colour', ['cpus', 'memory']), undefined);
  t.equal(nearest('x'.repeat(1000), ['cpus']), undefined);
  t.equal(someOf(['a', 'b', 'c'], 2), 'a, b and 1 more');
});

await t.test('a derived address is local, of one card, and always the same', async t => {
  t.equal(derivedMac('alice', 0), derivedMac('alice', 0));
  t.not(derivedMac('alice', 0), derivedMac('alice', 1));
  t.not(derivedMac('alice', 0), derivedMac('bob', 0));
  // Written down, since a release that derives another one gives every guest a new card.
  t.equal(derivedMac('carol', 0), 'f2:6d:5a:f8:1f:8c');
  fc.assert(
    fc.property(fc.string(), fc.nat(16), (name, index) => {
      const mac = derivedMac(name, index);
      const first = Number.parseInt(mac.slice(0, 2), 16);
      return /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(mac) && (first & 3) === 2;
    }),
  );
});

await t.test('ranges of VLANs mean the set of VLANs', async () => {
  const vlan = fc.integer({ min: 1, max: 40 });
  const range = fc.oneof(
    vlan,
    fc.tuple(vlan, vlan).map(([a, b]) => `${Math.min(a, b)}-${Math.max(a, b)}`),
  );
  const members = (ranges: readonly (readonly [number, number])[]): Set<number> =>
    new Set(ranges.flatMap(([first, last]) => Array.from({ length: last - first + 1 }, (_, i) => first + i)));
  fc.assert(
    fc.property(fc.array(range, { maxLength: 8 }), written => {
      const ranges = vlanRanges(written);
      const wanted = new Set<number>();
      for (const one of written) {
        const [first = 0, last = first] = String(one).split('-').map(Number);
        for (let id = first; id <= last; id++) wanted.add(id);
      }
      const got = members(ranges);
      const apart = ranges.every((one, i) => i === 0 || one[0] > ranges[i - 1]![1] + 1);
      return apart && got.size === wanted.size && [...got].every(id => wanted.has(id));
    }),
  );
});

await t.test('sizes and durations', async t => {
  t.equal(parseSize('1.5GiB'), 1.5 * 2 ** 30);
  t.equal(parseSize('10MB'), undefined);
  t.equal(parseDuration_ms('1.5m'), 90_000);
  t.equal(parseDuration_ms('1d'), undefined);
});

await t.test('differences are empty exactly for equal meaning', async () => {
  const machine = fc
    .record({
      image: fc.constant('k'),
      cpus: fc.constantFrom(1, 2),
      memory: fc.constantFrom('1GiB', '1024MiB', '2GiB'),
      stopTimeout: fc.constantFrom('60s', '1m', '5s'),
      nics: fc.array(
        fc.record(
          { switch: fc.constantFrom('a', 'b'), vlan: fc.constantFrom(1, 2) },
          { requiredKeys: ['switch'] },
        ),
        { maxLength: 2 },
      ),
    })
    .map(spec => readSpec('machine', spec));
  fc.assert(
    fc.property(machine, machine, (a, b) => {
      return (differences('machine', 'm', a, b).length === 0) === sameMeaning('machine', 'm', a, b);
    }),
  );
});

await t.test('the JSON Schema is one that editors take', async t => {
  const schema = configurationSchema();
  t.match(schema, { $schema: 'https://json-schema.org/draft/2020-12/schema' });
  const text = JSON.stringify(schema);
  for (const word of ['switch', 'machine', 'readOnly', 'stopTimeout', 'a tap interface of this host'])
    t.ok(text.includes(word), word);
  t.notOk(/"required":\[[^\]]*"cpus"/.test(text), 'what has a default need not be written');
});
