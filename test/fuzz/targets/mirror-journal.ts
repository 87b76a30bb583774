import assert from 'node:assert';
import {
  COPY_BYTES,
  JOURNAL_BYTES,
  emitCopy,
  parseCopy,
  parseJournal,
  type JournalCopy,
} from '../../../storage/volume/mirrorJournal.js';
import type { Target } from '../harness.js';

const MiB = 1024 * 1024;
/** Of each copy, so much is fed: its header and its first marks. */
const FED_BYTES = 160;
const MARKS_AT = 4096;

function fed(copy: Partial<JournalCopy>): Uint8Array {
  const bytes = new Uint8Array(COPY_BYTES);
  const marks = new Uint8Array(COPY_BYTES - MARKS_AT).fill(0x55, 0, 4);
  const whole = {
    sequence: 3,
    size_bytes: 64 * MiB,
    region_bytes: 4 * MiB,
    good: 'both' as const,
    partner: '',
  };
  emitCopy(bytes, { ...whole, marks, ...copy });
  return bytes.slice(0, FED_BYTES);
}

/** Bit by bit, and not as the code under test has it. */
function crc32(bytes: Uint8Array): number {
  let sum = -1;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ (0xedb88320 & -(sum & 1));
  }
  return ~sum >>> 0;
}

/** With its sum made right, or left as it is. */
function copyOf(input: Uint8Array, isRight: boolean): Uint8Array {
  const bytes = new Uint8Array(COPY_BYTES);
  bytes.set(input.subarray(0, FED_BYTES));
  bytes.set(input.subarray(FED_BYTES - 16, FED_BYTES), MARKS_AT);
  if (!isRight) return bytes;
  const view = new DataView(bytes.buffer);
  view.setUint32(4, 0);
  view.setUint32(4, crc32(bytes), true);
  return bytes;
}

export const target: Target = {
  says: "a mirror's journal: what is taken is in bounds and comes back as it is, what is not is new or damaged",
  samples: [
    Buffer.concat([fed({}), fed({ sequence: 4, good: 'second' })]),
    Buffer.concat([fed({ partner: '0b0c7e2e-8f7a-4c6e-9a3b-1d2e3f405162' }), new Uint8Array(FED_BYTES)]),
    Buffer.concat([fed({ size_bytes: 2 ** 46, region_bytes: 512 * MiB, partner: 'ü'.repeat(64) })]),
  ],
  run(input, random) {
    const file = new Uint8Array(JOURNAL_BYTES);
    for (const i of [0, 1]) {
      const part = input.subarray(i * FED_BYTES, (i + 1) * FED_BYTES);
      file.set(copyOf(part, part.length > 0 && random.below(4) > 0), i * COPY_BYTES);
    }
    const found = parseJournal(file);
    if (found === 'new' || found === 'damaged') return;
    assert(found.region_bytes >= 4096 && found.size_bytes / found.region_bytes <= 131_072);
    assert(['both', 'first', 'second'].includes(found.good));
    const again = new Uint8Array(COPY_BYTES);
    // Text that was no UTF-8, and numbers beyond 2^53, come back as what they were taken for.
    if (Buffer.byteLength(found.partner) > 128 || found.sequence > Number.MAX_SAFE_INTEGER) return;
    if (found.region_bytes > Number.MAX_SAFE_INTEGER || found.size_bytes > Number.MAX_SAFE_INTEGER) return;
    emitCopy(again, found);
    assert.deepEqual(parseCopy(again), found);
  },
};
