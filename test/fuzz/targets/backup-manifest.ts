import assert from 'node:assert';
import * as crypto from 'node:crypto';
import { formatManifest, parseManifest, sealManifest } from '../../../storage/jobs/manifest.js';
import type { Target } from '../harness.js';
import { bytesOf } from '../harness.js';

const sha256 = (text: string): string => crypto.createHash('sha256').update(text).digest('hex');
const uuid = '0b0c7e2e-8f7a-4c6e-9a3b-1d2e3f405162';
const sample = formatManifest(
  sealManifest(
    {
      format: 'weft-backup-1',
      uuid,
      volume: 'disk',
      name: 'one',
      size_bytes: 65_536,
      sequence: 2,
      snapshot: { name: 'one', uuid },
      base: { name: 'zero', snapshotUuid: uuid, manifestSha256: 'b'.repeat(64) },
      createdAt_ms: 5,
      piece_bytes: 8192,
      data_bytes: 4096,
      zero_bytes: 8192,
      extents: [
        [0, 4096, 'a'.repeat(64)],
        [8192, 8192],
      ],
    },
    sha256,
  ),
);

/** With a sum that fits, so that what is behind that check is reached too. */
function resealed(text: string): string {
  try {
    const { sha256: _old, ...body } = JSON.parse(text) as { sha256: string };
    return JSON.stringify({ ...body, sha256: sha256(JSON.stringify(body)) });
  } catch {
    return text;
  }
}

export const target: Target = {
  says: "a backup's manifest: what is taken is whole and in bounds, what is not has its reason in words",
  samples: [bytesOf(sample)],
  words: ['null', '[]', '{}', '1e400', '-1', '"../x"', '4097', '__proto__', '}', '"', '0,', '4096'].map(
    bytesOf,
  ),
  run(input) {
    const text = Buffer.from(input).toString();
    for (const one of [text, resealed(text)]) {
      const { manifest, problem } = parseManifest(one, sha256);
      if (manifest === null) {
        assert(problem.length > 0);
        continue;
      }
      assert.deepEqual(parseManifest(formatManifest(manifest), sha256).manifest, manifest);
      assert(!manifest.name.includes('/') && !manifest.volume.includes('/'));
      let end = 0;
      for (const [offset_bytes, length_bytes] of manifest.extents) {
        assert(offset_bytes >= end && offset_bytes % 4096 === 0 && length_bytes % 4096 === 0);
        end = offset_bytes + length_bytes;
      }
      assert(end <= manifest.size_bytes);
    }
  },
};
