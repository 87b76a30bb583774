import fc from 'fast-check';
import t from 'tap';
import { emitCommand, LineCutter, parseMessage } from '../../../../control/vmm/qmp/codec.js';

await t.test('commands are one line of JSON each', t => {
  t.equal(emitCommand({ execute: 'cont', id: 3 }), '{"execute":"cont","id":3}\n');
  t.equal(
    emitCommand({ execute: 'query-yank', id: 4, oob: true, arguments: { a: 'x\ny' } }),
    '{"exec-oob":"query-yank","arguments":{"a":"x\\ny"},"id":4}\n',
  );
  t.end();
});

await t.test('what QEMU 7.2 says is understood', t => {
  t.same(
    parseMessage(
      '{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "capabilities": ["oob"]}}\r',
    ),
    { kind: 'greeting', capabilities: ['oob'], version: '7.2.22' },
  );
  t.same(parseMessage('{"return": {}, "id": 7}'), { kind: 'return', id: 7, value: {} });
  t.same(parseMessage('{"id": 8, "error": {"class": "GenericError", "desc": "Device \'x\' not found"}}'), {
    kind: 'error',
    id: 8,
    class: 'GenericError',
    desc: "Device 'x' not found",
  });
  t.same(
    parseMessage(
      '{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}',
    ),
    { kind: 'event', event: 'SHUTDOWN', data: { guest: true, reason: 'guest-shutdown' } },
  );
  t.same(parseMessage('{"event": "STOP"}'), { kind: 'event', event: 'STOP', data: {} });
  t.end();
});

await t.test('anything else is invalid, never an exception', t => {
  for (const line of [
    '',
    'x',
    'null',
    '[]',
    '3',
    '{}',
    '{"error": 3, "id": 1}',
    '{"QMP": {}}',
    '{"event": 3}',
  ])
    t.same(parseMessage(line), { kind: 'invalid' }, line);
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), line => {
      parseMessage(line);
    }),
  );
  t.end();
});

await t.test('an answer to a command carries its number, whatever the value', t => {
  fc.assert(
    fc.property(fc.nat(), fc.jsonValue(), (id, value) => {
      const parsed = parseMessage(JSON.stringify({ return: value, id }));
      t.same(parsed, { kind: 'return', id, value: JSON.parse(JSON.stringify(value)) });
    }),
    { numRuns: 50 },
  );
  t.end();
});

await t.test('lines are the same however they are cut into chunks', t => {
  const lines = fc.array(
    fc.string({ unit: 'grapheme' }).map(text => JSON.stringify({ text })),
    { maxLength: 8 },
  );
  fc.assert(
    fc.property(
      lines,
      fc.infiniteStream(fc.integer({ min: 1, max: 9 })),
      fc.constantFrom('\n', '\r\n'),
      (all, cuts, end) => {
        const bytes = new TextEncoder().encode(all.map(line => line + end).join(''));
        const cutter = new LineCutter();
        const found: string[] = [];
        // One buffer used again and again, as a socket may do.
        const reused = new Uint8Array(9);
        for (let at = 0; at < bytes.length;) {
          const size = Math.min(cuts.next().value ?? 1, bytes.length - at);
          reused.set(bytes.subarray(at, at + size));
          found.push(...cutter.push(reused.subarray(0, size)));
          at += size;
        }
        t.same(found, all);
        t.notOk(cutter.overflowed);
      },
    ),
    { numRuns: 60 },
  );
  t.end();
});

await t.test('a line without end is given up at the bound, and nothing is kept of it', t => {
  const cutter = new LineCutter(10);
  t.same(cutter.push(new TextEncoder().encode('0123456789\nabc')), ['0123456789'], 'ten bytes are allowed');
  t.same(cutter.push(new TextEncoder().encode('01234567')), []);
  t.ok(cutter.overflowed);
  t.same(cutter.push(new TextEncoder().encode('x\n')), [], 'nothing is taken afterwards');
  t.end();
});
