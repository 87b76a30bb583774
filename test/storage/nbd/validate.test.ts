import fc from 'fast-check';
import t from 'tap';
import { MAXIMUM_PAYLOAD_BYTES } from '../../../storage/nbd/limits.js';
import { nbdError, validate, type Agreed } from '../../../storage/nbd/validate.js';
import * as wire from '../../../storage/nbd/wire.js';

const SIZE = 1024 * 1024;
const AGREED = { readOnly: false, structuredReplies: true, baseAllocation: true };
const PLAIN = { readOnly: false, structuredReplies: false, baseAllocation: false };
const READ_ONLY = { ...AGREED, readOnly: true };
const EXTENDED = { ...AGREED, extendedHeaders: true };
const BLOCKS = { ...AGREED, minimumBlock_bytes: 4096 };
const { NBD_CMD_FLAG_FUA: FUA, NBD_CMD_FLAG_DF: DF, NBD_CMD_FLAG_NO_HOLE: NO_HOLE } = wire;
const { NBD_CMD_FLAG_REQ_ONE: REQ_ONE, NBD_CMD_FLAG_FAST_ZERO: FAST_ZERO } = wire;
const { NBD_CMD_FLAG_PAYLOAD_LEN: PAYLOAD_LEN } = wire;
const { NBD_EINVAL: EINVAL, NBD_ENOSPC: ENOSPC, NBD_EPERM: EPERM, NBD_EOVERFLOW: EOVERFLOW } = wire;

function errorOf(type: number, flags: number, offset: number, length: number, agreed: Agreed): number {
  return validate(type, flags, offset, length, SIZE, agreed)?.error ?? 0;
}

/** [what, type, flags, offset, length, agreed, wanted] */
const CASES: [string, number, number, number, number, Agreed, number][] = [
  ['read', wire.NBD_CMD_READ, 0, 0, 4096, AGREED, 0],
  ['read to the end', wire.NBD_CMD_READ, 0, SIZE - 1, 1, AGREED, 0],
  ['read of nothing at the end', wire.NBD_CMD_READ, 0, SIZE, 0, AGREED, 0],
  ['read beyond the end', wire.NBD_CMD_READ, 0, SIZE - 1, 2, AGREED, EINVAL],
  ['read at 2^64', wire.NBD_CMD_READ, 0, Infinity, 1, AGREED, EINVAL],
  ['read with DF', wire.NBD_CMD_READ, DF, 0, 1, AGREED, 0],
  ['read with DF, not agreed', wire.NBD_CMD_READ, DF, 0, 1, PLAIN, EINVAL],
  ['read with FUA, which is harmless', wire.NBD_CMD_READ, FUA, 0, 1, AGREED, 0],
  ['read with an unknown flag', wire.NBD_CMD_READ, 1 << 9, 0, 1, AGREED, EINVAL],
  ['read with a flag of another command', wire.NBD_CMD_READ, NO_HOLE, 0, 1, AGREED, EINVAL],
  ['read of too much', wire.NBD_CMD_READ, 0, 0, MAXIMUM_PAYLOAD_BYTES + 1, AGREED, EOVERFLOW],
  ['read of too much, DF', wire.NBD_CMD_READ, DF, 0, MAXIMUM_PAYLOAD_BYTES + 1, AGREED, EOVERFLOW],
  ['read of too much, simple', wire.NBD_CMD_READ, 0, 0, MAXIMUM_PAYLOAD_BYTES + 1, PLAIN, EINVAL],
  ['write of too much', wire.NBD_CMD_WRITE, 0, 0, MAXIMUM_PAYLOAD_BYTES + 1, AGREED, EINVAL],
  ['write', wire.NBD_CMD_WRITE, FUA, 0, 4096, AGREED, 0],
  ['write beyond the end', wire.NBD_CMD_WRITE, 0, SIZE - 1, 2, AGREED, ENOSPC],
  ['write behind the end', wire.NBD_CMD_WRITE, 0, SIZE + 1, 0, AGREED, ENOSPC],
  ['write with DF', wire.NBD_CMD_WRITE, DF, 0, 1, AGREED, EINVAL],
  ['write, read-only', wire.NBD_CMD_WRITE, 0, 0, 1, READ_ONLY, EPERM],
  ['trim', wire.NBD_CMD_TRIM, FUA, 0, SIZE, AGREED, 0],
  ['trim beyond the end', wire.NBD_CMD_TRIM, 0, 1, SIZE, AGREED, EINVAL],
  ['trim, read-only', wire.NBD_CMD_TRIM, 0, 0, 1, READ_ONLY, EPERM],
  ['zeroes', wire.NBD_CMD_WRITE_ZEROES, NO_HOLE | FAST_ZERO | FUA, 0, SIZE, AGREED, 0],
  ['zeroes beyond the end', wire.NBD_CMD_WRITE_ZEROES, 0, SIZE, 1, AGREED, ENOSPC],
  ['zeroes with REQ_ONE', wire.NBD_CMD_WRITE_ZEROES, REQ_ONE, 0, 1, AGREED, EINVAL],
  ['zeroes, read-only', wire.NBD_CMD_WRITE_ZEROES, 0, 0, 1, READ_ONLY, EPERM],
  ['flush', wire.NBD_CMD_FLUSH, 0, 0, 0, AGREED, 0],
  ['flush, read-only', wire.NBD_CMD_FLUSH, 0, 0, 0, READ_ONLY, 0],
  ['flush of a range', wire.NBD_CMD_FLUSH, 0, 0, 1, AGREED, EINVAL],
  ['flush somewhere', wire.NBD_CMD_FLUSH, 0, 1, 0, AGREED, EINVAL],
  ['cache', wire.NBD_CMD_CACHE, 0, 0, SIZE, AGREED, 0],
  ['cache beyond the end', wire.NBD_CMD_CACHE, 0, SIZE, 1, AGREED, EINVAL],
  ['block status', wire.NBD_CMD_BLOCK_STATUS, REQ_ONE, 0, SIZE, AGREED, 0],
  ['block status, no context', wire.NBD_CMD_BLOCK_STATUS, 0, 0, SIZE, PLAIN, EINVAL],
  ['block status of nothing', wire.NBD_CMD_BLOCK_STATUS, 0, 0, 0, AGREED, EINVAL],
  ['block status beyond the end', wire.NBD_CMD_BLOCK_STATUS, 0, 0, SIZE + 1, AGREED, EINVAL],
  ['resize', wire.NBD_CMD_RESIZE, 0, 0, SIZE, AGREED, EINVAL],
  ['an unknown command', 999, 0, 0, 0, AGREED, EINVAL],
  ['PAYLOAD_LEN without extended headers', wire.NBD_CMD_WRITE, PAYLOAD_LEN, 0, 1, AGREED, EINVAL],
  ['a write without PAYLOAD_LEN', wire.NBD_CMD_WRITE, 0, 0, 1, EXTENDED, EINVAL],
  ['a write with PAYLOAD_LEN', wire.NBD_CMD_WRITE, PAYLOAD_LEN, 0, 1, EXTENDED, 0],
  ['block status with PAYLOAD_LEN', wire.NBD_CMD_BLOCK_STATUS, PAYLOAD_LEN, 0, 1, EXTENDED, 0],
  ['trim with PAYLOAD_LEN', wire.NBD_CMD_TRIM, PAYLOAD_LEN, 0, 1, EXTENDED, EINVAL],
  ['trim of 2^64', wire.NBD_CMD_TRIM, 0, 0, Infinity, EXTENDED, EINVAL],
  ['zeroes of 2^64', wire.NBD_CMD_WRITE_ZEROES, 0, 0, Infinity, EXTENDED, ENOSPC],
  ['read of blocks', wire.NBD_CMD_READ, 0, 4096, 8192, BLOCKS, 0],
  ['read of half a block', wire.NBD_CMD_READ, 0, 4096, 2048, BLOCKS, EINVAL],
  ['write at half a block', wire.NBD_CMD_WRITE, 0, 2048, 4096, BLOCKS, EINVAL],
  ['trim at half a block', wire.NBD_CMD_TRIM, 0, 2048, 4096, BLOCKS, EINVAL],
  ['flush', wire.NBD_CMD_FLUSH, 0, 0, 0, BLOCKS, 0],
];

for (const [what, type, flags, offset, length, agreed, wanted] of CASES)
  void t.test(what, async t => t.equal(errorOf(type, flags, offset, length, agreed), wanted));

void t.test('what passes lies within the volume, whatever was asked', async () => {
  const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
  const u16 = fc.integer({ min: 0, max: 0xffff });
  const offset = fc.oneof(fc.nat(2 * SIZE), fc.maxSafeNat(), fc.constant(Infinity));
  fc.assert(
    fc.property(
      fc.nat(10),
      u16,
      offset,
      fc.oneof(u32, fc.nat(2 * SIZE)),
      fc.boolean(),
      (type, flags, at, length, ro) => {
        const agreed = { ...AGREED, readOnly: ro };
        const refusal = validate(type, flags, at, length, SIZE, agreed);
        if (refusal !== null) {
          const words = refusal.words(type, at, length, SIZE, agreed);
          const known: number[] = [EINVAL, ENOSPC, EPERM, EOVERFLOW];
          return known.includes(refusal.error) && words.length > 10 && words.length < 200;
        }
        return type === wire.NBD_CMD_FLUSH || at + length <= SIZE;
      },
    ),
    { numRuns: 2000 },
  );
});

void t.test('errno of a volume becomes an error that NBD knows', async t => {
  const known = [
    wire.NBD_EPERM,
    wire.NBD_EIO,
    wire.NBD_ENOMEM,
    wire.NBD_EINVAL,
    wire.NBD_ENOSPC,
    wire.NBD_EOVERFLOW,
  ];
  const all: number[] = [...known, wire.NBD_ENOTSUP, wire.NBD_ESHUTDOWN];
  for (let errno = 1; errno < 200; errno++) t.ok(all.includes(nbdError(-errno)), `errno ${errno}`);
  t.equal(nbdError(0), 0);
  t.equal(nbdError(-28), wire.NBD_ENOSPC);
  t.equal(nbdError(-122), wire.NBD_ENOSPC, 'EDQUOT');
  t.equal(nbdError(-27), wire.NBD_ENOSPC, 'EFBIG');
  t.equal(nbdError(-30), wire.NBD_EPERM, 'EROFS');
  t.equal(nbdError(-117), wire.NBD_EIO, 'EUCLEAN');
  t.equal(nbdError(-95), wire.NBD_EINVAL, 'EOPNOTSUPP, of what was not asked to be fast');
  t.equal(nbdError(-95, true), wire.NBD_ENOTSUP);
});
