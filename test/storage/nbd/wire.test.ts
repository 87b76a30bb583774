import fc from 'fast-check';
import t from 'tap';
import * as wire from '../../../storage/nbd/wire.js';

const u16 = fc.integer({ min: 0, max: 0xffff });
const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const i32 = fc.integer({ min: -0x8000_0000, max: 0x7fff_ffff });
const name = fc.string({ unit: 'grapheme', maxLength: 200 }).filter(text => !text.includes('\0'));

/** A view into the middle of memory full of 0xa5, so that bytes left out or beyond show. */
function canvas(length: number): { view: DataView; bytes: Uint8Array; at: number } {
  const bytes = new Uint8Array(length + 16).fill(0xa5);
  return { view: new DataView(bytes.buffer), bytes, at: 8 };
}

void t.test('request: what is emitted is what the accessors read', async () => {
  const record = fc.record({
    flags: u16,
    type: u16,
    cookieHigh: i32,
    cookieLow: i32,
    offset: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    length: u32,
  });
  fc.assert(
    fc.property(record, r => {
      const { view, bytes, at } = canvas(wire.REQUEST_BYTES);
      if (wire.emitRequest(view, at, r) !== wire.REQUEST_BYTES) return false;
      const { request } = wire;
      const offset = request.offset(view, at);
      return (
        request.magic(view, at) === wire.NBD_REQUEST_MAGIC &&
        request.flags(view, at) === r.flags &&
        request.type(view, at) === r.type &&
        request.cookieHigh(view, at) === r.cookieHigh &&
        request.cookieLow(view, at) === r.cookieLow &&
        request.length(view, at) === r.length &&
        (r.offset < 2n ** 53n ? BigInt(offset) === r.offset : offset === Infinity) &&
        bytes.subarray(0, 8).every(byte => byte === 0xa5) &&
        bytes.subarray(at + wire.REQUEST_BYTES).every(byte => byte === 0xa5)
      );
    }),
  );
});

void t.test('request: the bytes are those of the specification', async t => {
  const { view, bytes, at } = canvas(wire.REQUEST_BYTES);
  wire.emitRequest(view, at, {
    flags: wire.NBD_CMD_FLAG_FUA,
    type: wire.NBD_CMD_WRITE,
    cookieHigh: 0x01020304,
    cookieLow: 0x05060708,
    offset: 0x1122334455667788n,
    length: 4096,
  });
  t.equal(
    Buffer.from(bytes.subarray(at, at + wire.REQUEST_BYTES)).toString('hex'),
    '25609513' + '0001' + '0001' + '0102030405060708' + '1122334455667788' + '00001000',
  );
});

void t.test('replies: the bytes are those of the specification', async t => {
  const { view, bytes, at } = canvas(64);
  const hex = (length: number): string => Buffer.from(bytes.subarray(at, at + length)).toString('hex');
  wire.emitSimpleReply(view, at, wire.NBD_ENOSPC, 0x01020304, 0x05060708);
  t.equal(hex(wire.SIMPLE_REPLY_BYTES), '67446698' + '0000001c' + '0102030405060708');
  wire.emitChunk(view, at, wire.NBD_REPLY_FLAG_DONE, wire.NBD_REPLY_TYPE_OFFSET_DATA, 0x01020304, -1, 520);
  wire.putOffset(view, at + wire.CHUNK_HEADER_BYTES, 2 ** 46 + 513);
  t.equal(
    hex(wire.CHUNK_HEADER_BYTES + wire.DATA_DETAIL_BYTES),
    '668e33ef' + '0001' + '0001' + '01020304ffffffff' + '00000208' + '0000400000000201',
  );
  const { NBD_REPLY_TYPE_NONE: NONE, NBD_REPLY_FLAG_DONE: DONE } = wire;
  wire.emitExtendedChunk(view, at, DONE, NONE, 0x01020304, -1, -2, 0x11223344, 2 ** 33 + 1);
  t.equal(
    hex(wire.EXTENDED_CHUNK_HEADER_BYTES),
    '6e8a278c' + '0001' + '0000' + '01020304ffffffff' + 'fffffffe11223344' + '0000000200000001',
  );
  t.equal(
    Buffer.from(wire.greeting()).toString('hex'),
    Buffer.from('NBDMAGICIHAVEOPT').toString('hex') + '0003',
  );
  t.equal(
    Buffer.from(wire.optionReply(wire.NBD_OPT.GO, wire.NBD_REP.ERR_UNKNOWN, wire.utf8('no'))).toString('hex'),
    '0003e889045565a9' + '00000007' + '80000006' + '00000002' + '6e6f',
  );
  t.equal(
    Buffer.from(wire.exportNameReply(2 ** 40, 0x0101, false)).toString('hex'),
    '0000010000000000' + '0101',
  );
  t.equal(wire.exportNameReply(1, 1, true).length, 134);
  t.equal(
    Buffer.from(wire.infoBlockSize(1, 4096, 2 ** 25)).toString('hex'),
    '0003' + '00000001' + '00001000' + '02000000',
  );
  t.equal(
    Buffer.from(wire.infoExport(2 ** 40, 0x05ed)).toString('hex'),
    '0000' + '0000010000000000' + '05ed',
  );
});

void t.test('putOffset: any offset below 2^53', async () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), value => {
      const view = new DataView(new ArrayBuffer(8));
      wire.putOffset(view, 0, value);
      return view.getBigUint64(0) === BigInt(value);
    }),
  );
});

void t.test('NBD_OPT_GO: parse of emit is what was emitted', async t => {
  fc.assert(
    fc.property(name, fc.array(u16, { maxLength: 20 }), (exportName, infos) => {
      t.same(wire.parseGo(wire.emitGo(exportName, infos)), { name: exportName, infos });
    }),
  );
});

void t.test('meta context: parse of emit is what was emitted', async t => {
  fc.assert(
    fc.property(name, fc.array(name, { maxLength: 20 }), (exportName, queries) => {
      t.same(wire.parseMetaContext(wire.emitMetaContext(exportName, queries)), { name: exportName, queries });
    }),
  );
});

void t.test('option data: cut off, too long or random bytes are null or good, never thrown', async t => {
  fc.assert(
    fc.property(name, fc.array(name, { maxLength: 3 }), fc.nat(), (exportName, queries, cut) => {
      for (const [data, parse] of [
        [wire.emitGo(exportName, [3]), wire.parseGo],
        [wire.emitMetaContext(exportName, queries), wire.parseMetaContext],
      ] as const) {
        const shorter = data.subarray(0, cut % data.length);
        if (parse(shorter) !== null) return false;
        const longer = new Uint8Array(data.length + 1);
        longer.set(data);
        if (parse(longer) !== null) return false;
      }
      return true;
    }),
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), data => {
      const go = wire.parseGo(data);
      const meta = wire.parseMetaContext(data);
      if (go !== null) t.same(Buffer.compare(wire.emitGo(go.name, go.infos), data), 0);
      if (meta !== null) t.same(Buffer.compare(wire.emitMetaContext(meta.name, meta.queries), data), 0);
    }),
  );
  // A count that promises more than there is must not be believed.
  t.equal(wire.parseMetaContext(Uint8Array.from([0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff])), null);
  t.equal(wire.parseGo(Uint8Array.from([0xff, 0xff, 0xff, 0xff, 0, 0])), null);
});

void t.test('textOf: strings of the protocol only', async t => {
  t.equal(wire.textOf(wire.utf8('grün')), 'grün');
  t.equal(wire.textOf(new Uint8Array(0)), '');
  t.equal(wire.textOf(Uint8Array.from([0x61, 0x00])), null, 'NUL');
  t.equal(wire.textOf(Uint8Array.from([0xff, 0xfe])), null, 'no UTF-8');
  t.equal(wire.textOf(new Uint8Array(4097).fill(0x61)), null, 'too long');
  t.equal(wire.textOf(new Uint8Array(4096).fill(0x61))?.length, 4096);
});
