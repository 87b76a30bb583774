import assert from 'node:assert';
import type { Change } from '../../../storage/pool/catalog.js';
import { batchLine, headLine, line, parseNote, replay } from '../../../storage/pool/catalogText.js';
import { recover } from '../../../storage/pool/recovery.js';
import { layer, snapshot, topped, uuid, volume } from '../../storage/pool/catalogSample.js';
import { bytesOf } from '../harness.js';
import type { Target } from '../harness.js';

const HEAD = headLine(uuid(0));
const BATCHES: Change[][] = [
  topped(layer(1, null), volume(10, 'a', 1)),
  topped(layer(2, 1), volume(10, 'a', 2)),
  [{ do: 'snapshot', snapshot: snapshot(20, 's', 1) }],
  topped(layer(3, 1), volume(11, 'b', 3)),
  [{ do: 'volume', volume: volume(10, 'c', 2) }],
  [{ do: 'drop', kind: 'snapshot', uuid: uuid(20) }],
];
const NOTE = headLine(uuid(0), 3) + batchLine(4, topped(layer(3, 1), volume(11, 'b', 3)));

/** The sum of each line made right, so that what is behind it is reached. */
function summed(input: Uint8Array): string {
  const lines = Buffer.from(input).toString().split('\n');
  return lines.map(text => (text === '' ? '' : rightly(text))).join('');
}

function rightly(text: string): string {
  try {
    return line(JSON.parse(text.slice(9)));
  } catch {
    return `${text}\n`;
  }
}

export const target: Target = {
  says: "a pool's catalogue: of whatever text, what counts says the same again; what is made of it holds together",
  samples: [HEAD + BATCHES.map((changes, i) => batchLine(i + 1, changes)).join(''), NOTE].map(bytesOf),
  words: [
    '"do":"drop"',
    '"kind":"layer"',
    '"kind":"volume"',
    'null',
    '"n":1',
    '"n":99',
    uuid(1),
    uuid(2),
    uuid(3),
    '\n',
  ].map(bytesOf),
  run(input) {
    for (const text of [Buffer.from(input), Buffer.from(summed(input))]) {
      const { catalog, length_bytes, next, damage, newer } = replay(text);
      assert(length_bytes <= text.length && next >= 0);
      assert(damage.every(one => one.length > 0) && newer !== '');
      const again = replay(bytesOf(headLine(uuid(0), 6) + batchLine(7, catalog.changes())));
      assert.deepEqual(again.damage, []);
      assert.deepEqual(again.catalog.changes(), catalog.changes());
      for (const one of catalog.volumes.values()) assert(catalog.view(one).depth <= catalog.layers.size);
      for (const one of catalog.unreachable()) assert(catalog.volumeAt(one.uuid) === undefined);
      catalog.faults();
      const note = parseNote(text, uuid(3));
      const notes = new Map(note === null ? [] : [[uuid(3), note]]);
      const present = new Set([uuid(1), uuid(2), uuid(3)]);
      const found = recover(text, notes, present, null);
      // Nothing that is there is forgotten: it has a record, or is an orphan.
      for (const one of present) assert(found.catalog.layers.has(one) !== found.orphans.includes(one));
      const names = [...found.catalog.volumes.values()].map(({ name }) => name);
      assert.equal(new Set(names).size, names.length);
      assert.deepEqual(found.catalog.unreachable(), []);
    }
  },
};
