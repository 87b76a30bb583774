import assert from 'node:assert';
import { SseParser } from '../../../cli/sse.js';
import { SseReader } from '../../../control/supervise/sse.js';
import { bytesOf, cuts } from '../harness.js';
import type { Target } from '../harness.js';

const STREAMS = [
  'data: {"type":"port"}\n\n: heartbeat\n\ndata: a\ndata: b\n\n',
  'id: 7\r\nevent: condition\r\ndata: one\r\ndata: two\r\n\r\n',
  'event:x\rdata:y\r\rretry: 10\r\r',
];

export const target: Target = {
  says: 'Server-Sent Events, both readers: the same events however the stream is cut',
  samples: STREAMS.map(bytesOf),
  words: ['\n', '\r', '\r\n', '\n\n', 'data:', 'event:', 'id:', ':', 'data\n', '\ufeff', '\0'].map(bytesOf),
  run(input, random) {
    const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('latin1');
    const pieces = cuts(input, random).map(text);
    for (const make of [() => new SseParser(), () => new SseReader()]) {
      const [atOnce, inPieces] = [make(), make()];
      assert.deepEqual(
        pieces.flatMap((piece): unknown[] => inPieces.push(piece)),
        atOnce.push(text(input)),
      );
    }
  },
};
