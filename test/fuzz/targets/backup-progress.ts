import assert from 'node:assert';
import { parseProgress, progressLine } from '../../../storage/jobs/progress.js';
import { bytesOf } from '../harness.js';
import type { Target } from '../harness.js';

const uuid = '0b0c7e2e-8f7a-4c6e-9a3b-1d2e3f405162';
const sum = '0123456789abcdef'.repeat(4);
const head = progressLine({
  format: 'weft-backup-progress-1',
  volumeUuid: uuid,
  snapshot: { name: 's', uuid },
  base: null,
  createdAt_ms: 1,
  size_bytes: 8192,
  encrypted: false,
  content: sum,
});

export const target: Target = {
  says: 'what is left of a backup that was cut short: what is taken was written whole, up to where the next line goes',
  samples: [head, head + progressLine([0, 4096, sum]), head + progressLine([0, 4096, sum]) + '[4096,40'].map(
    bytesOf,
  ),
  words: ['\n', '[', ']', '[0,4096,"', 'null', '{}', '-1', '1e400', '"../x"', '__proto__'].map(bytesOf),
  run(input) {
    const text = Buffer.from(input).toString();
    const progress = parseProgress(text);
    if (progress === null) return;
    const lines = text.split('\n');
    const taken = lines.slice(0, 1 + progress.pieces.length);
    assert.equal(progress.end_bytes, taken.join('\n').length + 1);
    assert(taken.length < lines.length, 'each has its end');
    for (const [offset, length, piece] of progress.pieces)
      assert(offset >= 0 && length > 0 && /^[0-9a-f]{64}$/.test(piece));
  },
};
