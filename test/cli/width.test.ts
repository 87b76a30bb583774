import assert from 'node:assert/strict';
import t from 'tap';
import fc from 'fast-check';
import { displayWidth, harmless, padEnd, truncate } from '../../cli/width.js';
import { formatFields, formatTable } from '../../cli/table.js';

await t.test('columns of a terminal', async t => {
  t.equal(displayWidth('alice'), 5);
  t.equal(displayWidth('日本'), 4);
  t.equal(displayWidth('e\u0301'), 1);
  t.equal(displayWidth('👩‍👩‍👧'), 2);
  t.equal(displayWidth('ü'), 1);
});

await t.test('padding and cutting agree with the width', async () => {
  fc.assert(
    fc.property(
      fc.string({ unit: 'grapheme', maxLength: 30 }),
      fc.integer({ min: 1, max: 40 }),
      (text, columns) => {
        assert.ok(displayWidth(truncate(text, columns)) <= columns);
        assert.ok(displayWidth(padEnd(text, columns)) >= columns);
        if (displayWidth(text) <= columns) assert.equal(truncate(text, columns), text);
      },
    ),
  );
});

await t.test('control characters of others do not reach the terminal', async t => {
  t.equal(harmless('a\u001b[31mb\u0007'), 'a\\x1b[31mb\\x07');
  t.equal(formatTable(['A'], [['x\u001b[2J']])[1], 'x\\x1b[2J');
});

await t.test('a table: columns as wide as their widest cell, no blanks at the end', async t => {
  const lines = formatTable(
    ['NAME', 'WHAT', 'MESSAGE'],
    [
      ['日本', 'x', ''],
      ['a', 'longer', 'two\nlines'],
    ],
  );
  t.same(lines, ['NAME  WHAT    MESSAGE', '日本  x', 'a     longer  two']);
});

await t.test('colour does not count as columns', async t => {
  const paint = (text: string) => `\u001b[31m${text}\u001b[0m`;
  const [, row] = formatTable(['A', 'B'], [[{ text: 'x', paint }, 'y']]);
  t.equal(row, '\u001b[31mx\u001b[0m  y');
});

await t.test('fields in one column', async t => {
  t.same(
    formatFields([
      ['Kind', 'machine'],
      ['Last error', ''],
    ]),
    ['Kind:        machine', 'Last error:'],
  );
});
