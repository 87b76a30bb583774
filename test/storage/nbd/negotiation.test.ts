import fc from 'fast-check';
import t from 'tap';
import {
  Negotiation,
  OPTION_DATA_LIMIT_BYTES,
  SKIPPED_OPTION_LIMIT_BYTES,
  transmissionFlags,
  type Offer,
  type OfferList,
} from '../../../storage/nbd/negotiation.js';
import * as wire from '../../../storage/nbd/wire.js';

const { NBD_OPT, NBD_REP } = wire;
const DISK: Offer = { name: 'disk', size_bytes: 1024 * 1024, readOnly: false };
const GLASS: Offer = { name: 'glass', size_bytes: 4096, readOnly: true };
const OFFERS: OfferList<Offer> = {
  find: name => [DISK, GLASS].find(offer => offer.name === name) ?? null,
  listReply: () =>
    Buffer.concat(
      [DISK, GLASS].map(offer => wire.optionReply(3, NBD_REP.SERVER, wire.serverRecord(offer.name))),
    ),
};

function flags(value: number): Uint8Array {
  const out = new Uint8Array(4);
  new DataView(out.buffer).setUint32(0, value);
  return out;
}
function option(number: number, data: Uint8Array = new Uint8Array(0)): Uint8Array {
  const out = new Uint8Array(16 + data.length);
  const v = new DataView(out.buffer);
  out.set(wire.utf8('IHAVEOPT'));
  v.setUint32(8, number);
  v.setUint32(12, data.length);
  out.set(data, 16);
  return out;
}
const FIXED = flags(wire.NBD_FLAG_C_FIXED_NEWSTYLE | wire.NBD_FLAG_C_NO_ZEROES);
const STRUCTURED = option(NBD_OPT.STRUCTURED_REPLY);
const go = (name: string, infos: number[] = []): Uint8Array => option(NBD_OPT.GO, wire.emitGo(name, infos));
const setContext = (name: string, queries: string[]): Uint8Array =>
  option(NBD_OPT.SET_META_CONTEXT, wire.emitMetaContext(name, queries));
const listContext = (name: string, queries: string[]): Uint8Array =>
  option(NBD_OPT.LIST_META_CONTEXT, wire.emitMetaContext(name, queries));

interface OptionReply {
  option: number;
  type: number;
  data: Buffer;
}

function talk(...messages: Uint8Array[]): {
  negotiation: Negotiation<Offer>;
  replies: OptionReply[];
  used: number;
} {
  const negotiation = new Negotiation(OFFERS);
  const out: Uint8Array[] = [];
  const used = negotiation.step(Buffer.concat(messages), out);
  return { negotiation, replies: parseReplies(Buffer.concat(out)), used };
}

function parseReplies(bytes: Buffer): OptionReply[] {
  const replies: OptionReply[] = [];
  for (let at = 0; at < bytes.length;) {
    if (bytes.readBigUInt64BE(at) !== 0x0003e889045565a9n) throw new Error(`no option reply at ${at}`);
    const length = bytes.readUInt32BE(at + 16);
    replies.push({
      option: bytes.readUInt32BE(at + 8),
      type: bytes.readUInt32BE(at + 12),
      data: bytes.subarray(at + 20, at + 20 + length),
    });
    at += 20 + length;
  }
  return replies;
}
const types = (replies: OptionReply[]): number[] => replies.map(reply => reply.type);

void t.test('NBD_OPT_GO enters, with size, flags and block sizes', async t => {
  const { negotiation, replies } = talk(FIXED, go('disk'));
  t.equal(negotiation.entered?.offer, DISK);
  t.equal(negotiation.entered?.structuredReplies, false);
  t.equal(negotiation.entered?.baseAllocation, false);
  t.same(types(replies), [NBD_REP.INFO, NBD_REP.INFO, NBD_REP.ACK]);
  t.equal(replies[0]!.data.readBigUInt64BE(2), BigInt(DISK.size_bytes));
  t.equal(replies[0]!.data.readUInt16BE(10), transmissionFlags(false, false));
  t.equal(replies[1]!.data.toString('hex'), '0003' + '00000001' + '00001000' + '02000000');
});

void t.test('NBD_OPT_INFO tells the same and does not enter', async t => {
  const { negotiation, replies } = talk(
    FIXED,
    option(NBD_OPT.INFO, wire.emitGo('disk', [wire.NBD_INFO.NAME])),
  );
  t.equal(negotiation.entered, null);
  t.same(types(replies), [NBD_REP.INFO, NBD_REP.INFO, NBD_REP.INFO, NBD_REP.ACK]);
  t.equal(replies[1]!.data.toString('latin1'), '\0\x01disk');
});

void t.test('an unknown export is refused and haggling goes on', async t => {
  const { negotiation, replies } = talk(FIXED, go('nothing'), go('disk'));
  t.equal(replies[0]!.type, NBD_REP.ERR_UNKNOWN);
  t.ok(replies[0]!.data.length > 0, 'in words');
  t.equal(negotiation.entered?.offer, DISK);
});

void t.test('NBD_OPT_EXPORT_NAME: with and without zeroes; unknown ends', async t => {
  for (const [clientFlags, length] of [
    [3, 10],
    [1, 134],
    [0, 134],
  ] as const) {
    const negotiation = new Negotiation(OFFERS);
    const out: Uint8Array[] = [];
    negotiation.step(
      Buffer.concat([flags(clientFlags), option(NBD_OPT.EXPORT_NAME, wire.utf8('glass'))]),
      out,
    );
    t.equal(negotiation.entered?.offer, GLASS);
    t.equal(Buffer.concat(out).length, length);
    t.equal(Buffer.concat(out).readUInt16BE(8), transmissionFlags(true, false));
  }
  const { negotiation, replies } = talk(FIXED, option(NBD_OPT.EXPORT_NAME, wire.utf8('nothing')));
  t.equal(negotiation.ended, 'unknownExport');
  t.same(replies, []);
});

void t.test('transmission flags say what is there', async t => {
  const has = (value: number, bit: number): boolean => (value & bit) !== 0;
  t.ok(has(transmissionFlags(false, true), wire.NBD_FLAG_SEND_DF));
  t.notOk(has(transmissionFlags(false, false), wire.NBD_FLAG_SEND_DF), 'DF needs structured replies');
  for (const bit of [
    wire.NBD_FLAG_HAS_FLAGS,
    wire.NBD_FLAG_SEND_FLUSH,
    wire.NBD_FLAG_SEND_FUA,
    wire.NBD_FLAG_CAN_MULTI_CONN,
    wire.NBD_FLAG_SEND_CACHE,
  ]) {
    t.ok(has(transmissionFlags(false, false), bit));
    t.ok(has(transmissionFlags(true, false), bit));
  }
  t.ok(has(transmissionFlags(true, false), wire.NBD_FLAG_READ_ONLY));
  t.notOk(has(transmissionFlags(true, false), wire.NBD_FLAG_SEND_TRIM));
  t.ok(has(transmissionFlags(false, false), wire.NBD_FLAG_SEND_FAST_ZERO));
  t.notOk(has(transmissionFlags(false, true), wire.NBD_FLAG_SEND_RESIZE));
});

void t.test('NBD_OPT_LIST lists, and takes no data', async t => {
  const { replies } = talk(FIXED, option(NBD_OPT.LIST), option(NBD_OPT.LIST, Uint8Array.from([1])));
  t.same(types(replies), [NBD_REP.SERVER, NBD_REP.SERVER, NBD_REP.ACK, NBD_REP.ERR_INVALID]);
  t.equal(replies[0]!.data.subarray(4).toString(), 'disk');
});

void t.test('meta contexts: need structured replies, an export, and are for that export', async t => {
  t.same(types(talk(FIXED, setContext('disk', ['base:allocation'])).replies), [NBD_REP.ERR_INVALID]);
  const set = talk(FIXED, STRUCTURED, setContext('disk', ['x:y', 'base:allocation']), go('disk'));
  t.same(types(set.replies).slice(0, 3), [NBD_REP.ACK, NBD_REP.META_CONTEXT, NBD_REP.ACK]);
  t.equal(set.replies[1]!.data.toString('latin1'), '\0\0\0\x01base:allocation');
  t.equal(set.negotiation.entered?.baseAllocation, true);
  t.equal(set.negotiation.entered?.structuredReplies, true);

  const other = talk(FIXED, STRUCTURED, setContext('disk', ['base:allocation']), go('glass'));
  t.equal(other.negotiation.entered?.baseAllocation, false, 'selected for another export');
  const replaced = talk(
    FIXED,
    STRUCTURED,
    setContext('disk', ['base:allocation']),
    setContext('disk', []),
    go('disk'),
  );
  t.equal(replaced.negotiation.entered?.baseAllocation, false, 'the last query counts');
  const failed = talk(
    FIXED,
    STRUCTURED,
    setContext('disk', ['base:allocation']),
    setContext('no', ['base:allocation']),
    go('disk'),
  );
  t.equal(failed.replies[3]!.type, NBD_REP.ERR_UNKNOWN);
  t.equal(failed.negotiation.entered?.baseAllocation, false, 'a failed one clears, too');

  for (const queries of [[], ['base:'], ['base:allocation'], ['x:y', 'base:']])
    t.same(types(talk(FIXED, STRUCTURED, listContext('disk', queries)).replies).slice(1), [
      NBD_REP.META_CONTEXT,
      NBD_REP.ACK,
    ]);
  t.same(types(talk(FIXED, STRUCTURED, listContext('disk', ['qemu:dirty-bitmap:x'])).replies).slice(1), [
    NBD_REP.ACK,
  ]);
  t.same(
    types(talk(FIXED, STRUCTURED, setContext('disk', ['base:'])).replies).slice(1),
    [NBD_REP.ACK],
    'no wildcard in SET',
  );
});

void t.test('what is not supported is answered so, and haggling goes on', async t => {
  const { negotiation, replies } = talk(
    FIXED,
    option(NBD_OPT.STARTTLS),
    option(NBD_OPT.PEEK_EXPORT),
    option(0x7fff_ffff, new Uint8Array(100)),
    option(0x7fff_fffe, new Uint8Array(OPTION_DATA_LIMIT_BYTES + 1)),
    option(NBD_OPT.GO, new Uint8Array(3)),
    option(NBD_OPT.STRUCTURED_REPLY, new Uint8Array(3)),
    go('disk'),
  );
  t.same(types(replies).slice(0, 6), [
    NBD_REP.ERR_POLICY,
    NBD_REP.ERR_UNSUP,
    NBD_REP.ERR_UNSUP,
    NBD_REP.ERR_UNSUP,
    NBD_REP.ERR_INVALID,
    NBD_REP.ERR_INVALID,
  ]);
  t.equal(negotiation.entered?.offer, DISK);
  t.equal(negotiation.entered?.structuredReplies, false);
});

void t.test('extended headers: instead of structured replies, only by NBD_OPT_GO', async t => {
  const EXTENDED = option(NBD_OPT.EXTENDED_HEADERS);
  const { negotiation, replies } = talk(
    FIXED,
    option(NBD_OPT.EXTENDED_HEADERS, new Uint8Array(1)),
    EXTENDED,
    STRUCTURED,
    setContext('disk', ['base:allocation']),
    go('disk'),
  );
  t.same(types(replies).slice(0, 5), [
    NBD_REP.ERR_INVALID,
    NBD_REP.ACK,
    NBD_REP.ERR_EXT_HEADER_REQD,
    NBD_REP.META_CONTEXT,
    NBD_REP.ACK,
  ]);
  t.match(negotiation.entered, { extendedHeaders: true, structuredReplies: true, baseAllocation: true });
  t.equal(replies[5]!.data.readUInt16BE(10), transmissionFlags(false, true, true));
  const after = talk(FIXED, STRUCTURED, EXTENDED, go('disk'));
  t.equal(after.negotiation.entered?.extendedHeaders, true, 'also after structured replies');
  t.equal(after.replies[2]!.data.readUInt16BE(10), transmissionFlags(false, true), 'no context, no payload');
  t.equal(talk(FIXED, go('disk')).negotiation.entered?.extendedHeaders, false);
  const byName = talk(FIXED, EXTENDED, option(NBD_OPT.EXPORT_NAME, wire.utf8('disk')));
  t.equal(byName.negotiation.ended, 'misplacedOptions');
  t.equal(byName.negotiation.entered, null);
});

void t.test('options with too much data are passed over, and answered', async t => {
  const much = new Uint8Array(OPTION_DATA_LIMIT_BYTES + 1);
  const list = (option_: number): Buffer => Buffer.from(option(option_, much));
  const { negotiation, replies } = talk(
    FIXED,
    STRUCTURED,
    ...[NBD_OPT.LIST, NBD_OPT.INFO, NBD_OPT.GO, NBD_OPT.SET_META_CONTEXT, NBD_OPT.STRUCTURED_REPLY, 4711].map(
      list,
    ),
    go('disk'),
  );
  t.same(types(replies).slice(1, 7), [
    NBD_REP.ERR_INVALID,
    NBD_REP.ERR_TOO_BIG,
    NBD_REP.ERR_TOO_BIG,
    NBD_REP.ERR_TOO_BIG,
    NBD_REP.ERR_INVALID,
    NBD_REP.ERR_UNSUP,
  ]);
  for (const { type, data } of replies)
    if (type >= NBD_REP.ERR_UNSUP) t.ok(data.length > 10, `in words: ${data.toString()}`);
  t.equal(negotiation.entered?.offer, DISK);
  t.equal(talk(FIXED, list(NBD_OPT.EXPORT_NAME)).negotiation.ended, 'unknownExport');
  const abort = talk(FIXED, list(NBD_OPT.ABORT));
  t.same([abort.negotiation.ended, types(abort.replies)], ['aborted', [NBD_REP.ACK]]);
});

void t.test('NBD_OPT_ABORT is acknowledged and ends', async t => {
  const { negotiation, replies } = talk(FIXED, option(NBD_OPT.ABORT), go('disk'));
  t.same(types(replies), [NBD_REP.ACK]);
  t.equal(negotiation.ended, 'aborted');
  t.equal(negotiation.entered, null);
});

void t.test('breaches end the handshake', async t => {
  t.equal(talk(flags(4)).negotiation.ended, 'badClientFlags', 'unknown client flags');
  t.equal(talk(flags(0), go('disk')).negotiation.ended, 'badClientFlags', 'options need fixed newstyle');
  t.equal(talk(FIXED, wire.utf8('GET / HTTP/1.1\r\n')).negotiation.ended, 'badOptionMagic');
  t.equal(talk(FIXED, wire.utf8('GET / HT')).negotiation.ended, 'badOptionMagic', 'told from 8 bytes');
  const long = option(NBD_OPT.GO).slice();
  new DataView(long.buffer).setUint32(12, SKIPPED_OPTION_LIMIT_BYTES + 1);
  t.equal(talk(FIXED, long).negotiation.ended, 'oversizedOption', 'told from the header');
  t.equal(talk(FIXED, option(99, new Uint8Array(65_536))).negotiation.ended, null);
});

void t.test('bytes behind the last option belong to the transmission phase', async t => {
  const messages = [FIXED, STRUCTURED, go('disk')];
  const { used, negotiation } = talk(...messages, new Uint8Array(28).fill(9));
  t.equal(used, Buffer.concat(messages).length);
  t.ok(negotiation.entered);
});

void t.test('however the bytes are cut, the answers are the same', async t => {
  const messages = Buffer.concat([
    FIXED,
    STRUCTURED,
    option(NBD_OPT.LIST),
    setContext('disk', ['base:allocation']),
    option(77, new Uint8Array(300)),
    option(78, new Uint8Array(OPTION_DATA_LIMIT_BYTES + 1)),
    option(NBD_OPT.EXTENDED_HEADERS),
    go('nothing', [1, 2, 3]),
    go('disk', [1]),
  ]);
  const whole: Uint8Array[] = [];
  new Negotiation(OFFERS).step(messages, whole);
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1 }), cuts => {
      const negotiation = new Negotiation(OFFERS);
      const out: Uint8Array[] = [];
      let pending = Buffer.alloc(0);
      for (let at = 0, i = 0; at < messages.length; i++) {
        const end = at + cuts[i % cuts.length]!;
        pending = Buffer.concat([pending, messages.subarray(at, end)]);
        pending = pending.subarray(negotiation.step(pending, out));
        at = end;
      }
      t.equal(Buffer.compare(Buffer.concat(out), Buffer.concat(whole)), 0);
      t.equal(negotiation.entered?.offer, DISK);
    }),
    { numRuns: 100 },
  );
});

void t.test('random bytes never throw, and make no more answers than options', async () => {
  const chunk = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc.constantFrom(FIXED, STRUCTURED, go('disk'), option(NBD_OPT.LIST)),
    fc.tuple(fc.nat(12), fc.uint8Array({ maxLength: 60 })).map(([number, data]) => option(number, data)),
  );
  fc.assert(
    fc.property(fc.array(chunk, { maxLength: 20 }), chunks => {
      const input = Buffer.concat(chunks);
      const negotiation = new Negotiation(OFFERS);
      const out: Uint8Array[] = [];
      const used = negotiation.step(input, out);
      return used <= input.length && Buffer.concat(out).length <= 200 * (1 + input.length / 16);
    }),
    { numRuns: 2000 },
  );
});

const RICH: Offer = {
  name: 'rich',
  size_bytes: 1024 * 1024,
  readOnly: false,
  description: 'mail of 2026',
  minimumBlock_bytes: 512,
  contexts: () => ['qemu:allocation-depth', '', 'qemu:dirty-bitmap:one', 'qemu:dirty-bitmap:two'],
};
const FULL: Offer = { name: 'full', size_bytes: 4096, readOnly: false, full: true };
function talkRich(...messages: Uint8Array[]): { negotiation: Negotiation<Offer>; replies: OptionReply[] } {
  const find = (name: string): Offer | null => [RICH, FULL].find(offer => offer.name === name) ?? null;
  const negotiation = new Negotiation<Offer>({ find, listReply: () => new Uint8Array(0) });
  const out: Uint8Array[] = [];
  negotiation.step(Buffer.concat([FIXED, ...messages]), out);
  return { negotiation, replies: parseReplies(Buffer.concat(out)) };
}
const SIZES = wire.NBD_INFO.BLOCK_SIZE;

void t.test('several meta contexts, with wildcards where they are listed', async t => {
  const named = (replies: OptionReply[]): string[] =>
    replies
      .filter(reply => reply.type === NBD_REP.META_CONTEXT)
      .map(({ data }) => `${data.readUInt32BE(0)} ${data.subarray(4).toString()}`);
  const list = (...queries: string[]): string[] =>
    named(talkRich(STRUCTURED, listContext('rich', queries)).replies);
  const [base, depth, one, two] = [
    '0 base:allocation',
    '0 qemu:allocation-depth',
    '0 qemu:dirty-bitmap:one',
    '0 qemu:dirty-bitmap:two',
  ];
  t.same(list(), [base, depth, one, two]);
  t.same(list('qemu:'), [depth, one, two]);
  t.same(list('qemu:dirty-bitmap:'), [one, two]);
  t.same(list('qemu:dirty-bitmap:one'), [one]);
  t.same(list('qemu', 'dirty-bitmap:', ''), []);

  const queries = ['qemu:dirty-bitmap:two', 'base:allocation', 'qemu:', 'qemu:dirty-bitmap:two'];
  const set = talkRich(STRUCTURED, setContext('rich', queries), go('rich', [SIZES]));
  t.same(named(set.replies), ['1 base:allocation', '5 qemu:dirty-bitmap:two']);
  t.same(set.negotiation.entered?.contexts, [3]);
  t.equal(set.negotiation.entered?.baseAllocation, true);
  const alone = talkRich(STRUCTURED, setContext('rich', ['qemu:allocation-depth']), go('rich', [SIZES]));
  t.same(alone.negotiation.entered?.contexts, [0]);
  t.equal(alone.negotiation.entered?.baseAllocation, false);
});

void t.test(
  'block sizes must be asked for where they are not the usual ones; descriptions may be',
  async t => {
    const without = talkRich(go('rich'));
    t.same(types(without.replies), [NBD_REP.INFO, NBD_REP.INFO, NBD_REP.ERR_BLOCK_SIZE_REQD]);
    t.equal(without.negotiation.entered, null);
    const { negotiation, replies } = talkRich(go('rich', [SIZES, wire.NBD_INFO.DESCRIPTION]));
    t.ok(negotiation.entered);
    t.equal(replies[1]!.data.subarray(2).toString(), 'mail of 2026');
    t.equal(replies[2]!.data.readUInt32BE(2), 512);
    const before = talkRich(option(NBD_OPT.INFO, wire.emitGo('rich', [SIZES])), go('rich'));
    t.ok(before.negotiation.entered, 'asked for before');
  },
);

void t.test('an export with as many clients as it may have', async t => {
  const { negotiation, replies } = talkRich(go('full'));
  t.same(types(replies), [NBD_REP.ERR_POLICY]);
  t.equal(negotiation.ended, 'fullExport');
  t.equal(talkRich(option(NBD_OPT.EXPORT_NAME, wire.utf8('full'))).negotiation.ended, 'fullExport');
  t.equal(talkRich(option(NBD_OPT.INFO, wire.emitGo('full', []))).negotiation.ended, null);
});
