import assert from 'node:assert';
import { LineCutter, emitCommand, parseMessage } from '../../../control/vmm/qmp/codec.js';
import { bytesOf, cuts } from '../harness.js';
import type { Target } from '../harness.js';

const LIMIT_BYTES = 400;

const LINES = [
  '{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": ["oob"]}}',
  '{"return": {"status": "running", "running": true}, "id": 7}',
  '{"error": {"class": "GenericError", "desc": "no such device"}, "id": 8}',
  '{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": {"guest": true}}',
];

function lines(pieces: readonly Uint8Array[]): { lines: string[]; overflowed: boolean } {
  const cutter = new LineCutter(LIMIT_BYTES);
  const all: string[] = [];
  for (const piece of pieces) all.push(...cutter.push(piece));
  return { lines: all, overflowed: cutter.overflowed };
}

export const target: Target = {
  says: 'QMP lines: cut alike however they come, bounded, and any JSON is a message or invalid',
  samples: [...LINES.map(line => bytesOf(`${line}\r\n`)), bytesOf(LINES.join('\n'))],
  words: [
    '{',
    '}',
    '"return":',
    '"error":',
    '"event":',
    '"QMP":',
    'null',
    '[]',
    '\n',
    '\r\n',
    '"id":',
    '1e999',
    '\\u0000',
  ].map(bytesOf),
  run(input, random) {
    const whole = lines([input]);
    assert.deepEqual(lines(cuts(input, random)), whole);
    for (const line of whole.lines) {
      assert(!line.includes('\n'));
      const message = parseMessage(line);
      if (message.kind === 'return' || message.kind === 'error')
        assert(message.id === null || typeof message.id === 'number');
      if (message.kind === 'event') assert.equal(typeof message.event, 'string');
      if (message.kind === 'greeting') assert(message.capabilities.every(one => typeof one === 'string'));
    }
    const command = emitCommand({ execute: Buffer.from(input).toString('latin1'), id: 1 });
    assert.equal(command.indexOf('\n'), command.length - 1, 'a command is one line');
  },
};
