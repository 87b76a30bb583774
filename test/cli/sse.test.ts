import assert from 'node:assert/strict';
import t from 'tap';
import fc from 'fast-check';
import { SseParser } from '../../cli/sse.js';

function parseAll(pieces: readonly string[]) {
  const parser = new SseParser();
  return pieces.flatMap(piece => parser.push(piece));
}

await t.test('events, comments, several lines of data, all three line ends', async t => {
  const text =
    ': hello\n\nid: 7\nevent: weft\ndata: {"a":1}\n\ndata: one\r\ndata: two\r\n\r\ndata:x\rdata\r\r';
  t.same(parseAll([text]), [
    { id: '7', event: 'weft', data: '{"a":1}' },
    { id: '7', event: 'message', data: 'one\ntwo' },
    { id: '7', event: 'message', data: 'x\n' },
  ]);
});

await t.test('an event without its blank line is not an event yet', async t => {
  t.same(parseAll(['data: a\n']), []);
  t.same(parseAll(['data: a\n', '\n']), [{ id: null, event: 'message', data: 'a' }]);
});

await t.test('where the stream is cut makes no difference', async () => {
  const line = fc.stringMatching(/^[ -~]{0,20}$/);
  const ends = fc.constantFrom('\n', '\r\n', '\r');
  fc.assert(
    fc.property(
      fc.array(fc.record({ lines: fc.array(line, { minLength: 1, maxLength: 3 }), end: ends }), {
        maxLength: 5,
      }),
      fc.array(fc.nat(400)),
      (events, cuts) => {
        const text = events
          .map(({ lines, end }) => lines.map(one => `data: ${one}${end}`).join('') + end)
          .join('');
        const places = [...new Set(cuts.filter(cut => cut < text.length))].toSorted((a, b) => a - b);
        const pieces = [0, ...places].map((from, i) => text.slice(from, places[i] ?? text.length));
        assert.deepEqual(
          parseAll(pieces).map(({ data }) => data),
          events.map(({ lines }) => lines.join('\n')),
        );
      },
    ),
  );
});

await t.test('an event without end is cut off, not kept', async t => {
  const parser = new SseParser();
  const piece = 'x'.repeat(1024 * 1024);
  t.throws(() => {
    for (let i = 0; i < 10; i++) parser.push(piece);
  }, RangeError);
});
