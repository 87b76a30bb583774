/** Whether what a server sent is option replies and then replies, as far as it came: what the nbd targets ask of the output. */
import assert from 'node:assert';
import * as wire from '../../storage/nbd/wire.js';

const OPTION_REPLY_MAGIC = 0x0003e889_045565a9n;
const GREETING_BYTES = 18;
const MAXIMUM_BYTES = 32 * 1024 * 1024;

/** `sent` may end anywhere. */
export function checkReplies(sent: Buffer): void {
  let at = GREETING_BYTES;
  let form: 'simple' | 'structured' | 'extended' = 'simple';
  let entered = false;
  while (!entered && sent.length - at >= 20) {
    if (sent.readBigUInt64BE(at) !== OPTION_REPLY_MAGIC) {
      // The answer to NBD_OPT_EXPORT_NAME.
      at += 10;
      if (sent.length - at >= 124 && sent.subarray(at, at + 124).every(byte => byte === 0)) at += 124;
      break;
    }
    const option = sent.readUInt32BE(at + 8);
    const type = sent.readUInt32BE(at + 12);
    const length = sent.readUInt32BE(at + 16);
    assert(length <= 70_000, 'an option reply that is too long');
    if (type >= wire.NBD_REP.ERR_UNSUP && sent.length - at >= 20 + length)
      assert(wire.textOf(sent.subarray(at + 20, at + 20 + length)), 'an error in words');
    if (type === wire.NBD_REP.ACK) {
      entered = option === wire.NBD_OPT.GO;
      if (option === wire.NBD_OPT.EXTENDED_HEADERS) form = 'extended';
      if (option === wire.NBD_OPT.STRUCTURED_REPLY) {
        assert(form !== 'extended', 'structured replies after extended headers');
        form = 'structured';
      }
    }
    at += 20 + length;
  }
  // What lengths simple replies have only the requests tell.
  if (form === 'simple') return;
  while (sent.length - at >= wire.EXTENDED_CHUNK_HEADER_BYTES)
    at += replyLength(sent, at, form === 'extended');
}

function replyLength(sent: Buffer, at: number, extended: boolean): number {
  const magic = sent.readUInt32BE(at);
  if (magic === wire.NBD_SIMPLE_REPLY_MAGIC && !extended) return wire.SIMPLE_REPLY_BYTES;
  assert.equal(magic, extended ? wire.NBD_EXTENDED_REPLY_MAGIC : wire.NBD_STRUCTURED_REPLY_MAGIC);
  const header = extended ? wire.EXTENDED_CHUNK_HEADER_BYTES : wire.CHUNK_HEADER_BYTES;
  const length = extended ? Number(sent.readBigUInt64BE(at + 24)) : sent.readUInt32BE(at + 16);
  assert(length <= MAXIMUM_BYTES + 8);
  const isWhole = sent.length - at >= header + length;
  const detail = at + header;
  switch (sent.readUInt16BE(at + 6)) {
    case wire.NBD_REPLY_TYPE_NONE:
      assert(length === 0 && sent.readUInt16BE(at + 4) === wire.NBD_REPLY_FLAG_DONE);
      break;
    case wire.NBD_REPLY_TYPE_OFFSET_DATA:
      assert(length > 8);
      break;
    case wire.NBD_REPLY_TYPE_OFFSET_HOLE:
      assert(length === 12 && (!isWhole || sent.readUInt32BE(detail + 8) > 0));
      break;
    case wire.NBD_REPLY_TYPE_BLOCK_STATUS:
      assert(!extended && length >= 12 && (length - 4) % 8 === 0);
      break;
    case wire.NBD_REPLY_TYPE_BLOCK_STATUS_EXT:
      assert(extended && length >= 24 && (!isWhole || sent.readUInt32BE(detail + 4) * 16 + 8 === length));
      break;
    case wire.NBD_REPLY_TYPE_ERROR:
    case wire.NBD_REPLY_TYPE_ERROR_OFFSET: {
      if (!isWhole) break;
      const behind = sent.readUInt16BE(at + 6) === wire.NBD_REPLY_TYPE_ERROR_OFFSET ? 8 : 0;
      const text = sent.readUInt16BE(detail + 4);
      assert(text > 0 && 6 + text + behind === length && sent.readUInt32BE(detail) > 0);
      assert(wire.textOf(sent.subarray(detail + 6, detail + 6 + text)), 'an error in words');
      break;
    }
    default:
      assert.fail('a chunk of no known type');
  }
  return header + length;
}
