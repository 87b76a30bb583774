import assert from 'node:assert';
import { VOLUME_NAME, formatPool, formatVolume, parsePool, parseVolume } from '../../../storage/pool/meta.js';
import { bytesOf } from '../harness.js';
import type { Target } from '../harness.js';

const uuid = '0b0c7e2e-8f7a-4c6e-9a3b-1d2e3f405162';

export const target: Target = {
  says: "a pool's small files: what is taken is whole, what is not has its reason in words",
  samples: [
    formatPool({ uuid, createdAt_ms: 1 }),
    formatVolume({ name: 'disk', uuid, size_bytes: 4096, createdAt_ms: 1 }),
  ].map(bytesOf),
  words: ['null', '[]', '{}', '1e400', '-1', '"../x"', '4097', '__proto__', '}', '"'].map(bytesOf),
  run(input) {
    const text = Buffer.from(input).toString();
    const pool = parsePool(text);
    if (pool.problem === null) assert.deepEqual(parsePool(formatPool(pool.meta)).meta, pool.meta);
    else assert(pool.problem.length > 0);
    const volume = parseVolume(text);
    if (volume.problem === null) {
      assert(VOLUME_NAME.test(volume.meta.name) && !volume.meta.name.includes('/'));
      assert(volume.meta.size_bytes >= 4096 && volume.meta.size_bytes % 4096 === 0);
    } else assert(volume.problem.length > 0);
  },
};
