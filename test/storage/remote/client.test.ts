/** The client's pure halves, with bytes written by hand: what a server may do, and what ends the connection. */
import fc from 'fast-check';
import t from 'tap';
import { Negotiation } from '../../../storage/nbd/negotiation.js';
import * as wire from '../../../storage/nbd/wire.js';
import { ClientNegotiation, type Agreed } from '../../../storage/remote/clientNegotiation.js';
import { ClientTransmission } from '../../../storage/remote/clientTransmission.js';
import { KEPT_WRITE, KEPT_ZERO, Unflushed } from '../../../storage/remote/unflushed.js';
import { RangeLock } from '../../../storage/volume/rangeLock.js';

const { ACK, INFO, ERR_UNSUP, ERR_UNKNOWN, ERR_TLS_REQD } = wire.NBD_REP;
const OPT = wire.NBD_OPT;
const join = (...parts: Uint8Array[]): Uint8Array => Uint8Array.from(Buffer.concat(parts));
const INFOS = [
  wire.optionReply(OPT.GO, INFO, wire.infoExport(1 << 20, 1)),
  wire.optionReply(OPT.GO, INFO, wire.infoText(wire.NBD_INFO.DESCRIPTION, 'whatever')),
  wire.optionReply(OPT.GO, ACK),
];

function shake(bytes: Uint8Array, tls = false): { negotiation: ClientNegotiation; said: Buffer } {
  const negotiation = new ClientNegotiation({ exportName: 'disk', tls });
  const out: Uint8Array[] = [];
  negotiation.step(bytes, out);
  return { negotiation, said: Buffer.concat(out) };
}

void t.test('a handshake with a server that knows only the least', async t => {
  const bytes = join(
    wire.greeting(),
    wire.optionReply(OPT.EXTENDED_HEADERS, ERR_UNSUP),
    wire.optionReply(OPT.STRUCTURED_REPLY, ERR_UNSUP),
    ...INFOS,
  );
  const { agreed } = shake(bytes).negotiation;
  t.match(agreed, {
    size_bytes: 1 << 20,
    structured: false,
    extended: false,
    contextId: -1,
    minimumBlock_bytes: 512,
    maximumBlock_bytes: 32 << 20,
  });
});

void t.test('extended headers, and block status of 64 bits, with our own server', async t => {
  const server = new Negotiation({
    find: () => ({ name: 'disk', size_bytes: 2 ** 45, readOnly: false }),
    listReply: () => new Uint8Array(0),
  } as never);
  const client = new ClientNegotiation({ exportName: 'disk', tls: false });
  let toClient: Uint8Array[] = [wire.greeting()];
  for (let round = 0; round < 20 && client.agreed === null; round++) {
    const toServer: Uint8Array[] = [];
    client.step(join(...toClient), toServer);
    toClient = [];
    if (client.agreed === null) server.step(join(...toServer), toClient);
  }
  t.match(client.agreed, { extended: true, structured: true, size_bytes: 2 ** 45 });
  t.ok(client.agreed!.contextId >= 0);
});

void t.test('EXPORT_NAME where GO is not known', async t => {
  const bytes = join(
    wire.greeting(),
    wire.optionReply(OPT.EXTENDED_HEADERS, ERR_UNSUP),
    wire.optionReply(OPT.STRUCTURED_REPLY, ERR_UNSUP),
    wire.optionReply(OPT.GO, ERR_UNSUP),
    wire.exportNameReply(8192, 1, false),
  );
  const { negotiation, said } = shake(bytes);
  t.equal(negotiation.agreed?.size_bytes, 8192);
  t.ok(said.toString('latin1').endsWith('\0\0\0\x01\0\0\0\x04disk'));
});

void t.test('refusals have their reason', async t => {
  const extended = wire.optionReply(OPT.EXTENDED_HEADERS, ERR_UNSUP);
  const cases: [Uint8Array, RegExp][] = [
    [Buffer.from('HTTP/1.1 200 OK\r\n\r\n'), /no NBD server/],
    [join(wire.greeting(), wire.optionReply(OPT.EXTENDED_HEADERS, ERR_TLS_REQD)), /wants TLS/],
    [join(wire.greeting(), wire.optionReply(OPT.GO, ACK)), /not asked/],
    [join(wire.greeting(), wire.optionReply(OPT.EXTENDED_HEADERS, 99)), /type that does not belong/],
    [
      join(wire.greeting(), wire.optionReply(OPT.EXTENDED_HEADERS, ACK, new Uint8Array(20_000))),
      /20000 bytes/,
    ],
    [
      join(
        wire.greeting(),
        extended,
        wire.optionReply(OPT.STRUCTURED_REPLY, ERR_UNSUP),
        wire.optionReply(OPT.GO, ERR_UNKNOWN, Buffer.from('no \x1b[31msuch')),
      ),
      /no export of this name \("no \?\[31msuch"\)/,
    ],
    [
      join(
        wire.greeting(),
        extended,
        wire.optionReply(OPT.STRUCTURED_REPLY, ERR_UNSUP),
        wire.optionReply(OPT.GO, INFO, wire.infoBlockSize(3000, 4096, 4096)),
      ),
      /make no sense/,
    ],
  ];
  for (const [bytes, reason] of cases) t.match(shake(bytes).negotiation.refused, reason);
});

void t.test('TLS: never without, and nothing of before is believed after', async t => {
  const ack = wire.optionReply(OPT.STARTTLS, ACK);
  t.match(
    shake(join(wire.greeting(), wire.optionReply(OPT.STARTTLS, ERR_UNSUP)), true).negotiation.refused,
    /TLS/,
  );
  t.equal(shake(join(wire.greeting(), ack), true).negotiation.wantsTls, true);
  const injected = shake(join(wire.greeting(), ack, ...INFOS), true).negotiation;
  t.match(injected.refused, /plain text/);
  t.equal(injected.wantsTls, false);
});

const AGREED: Agreed = {
  size_bytes: 1 << 20,
  flags: 0xfff,
  minimumBlock_bytes: 1,
  maximumBlock_bytes: 1 << 25,
  structured: true,
  extended: false,
  contextId: 7,
};

function transmission(): { it: ClientTransmission; answers: [number, number][]; memory: Uint8Array } {
  const answers: [number, number][] = [];
  const memory = new Uint8Array(4096).fill(0xa5);
  const it = new ClientTransmission(AGREED, {
    answered: (tag, error) => void answers.push([tag, error]),
    extent: () => undefined,
  });
  it.ask(
    new DataView(new ArrayBuffer(64)),
    0,
    wire.NBD_CMD_READ,
    0,
    8192,
    1000,
    { address: 0, bytes: memory },
    96,
    5,
  );
  return { it, answers, memory };
}

function feed(it: ClientTransmission, bytes: Uint8Array): void {
  it.consume(bytes, new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), 0, bytes.length);
}

function data(offset: number, length: number, done: boolean): Uint8Array {
  const out = new Uint8Array(28 + length).fill(1);
  const v = new DataView(out.buffer);
  wire.emitChunk(v, 0, done ? 1 : 0, wire.NBD_REPLY_TYPE_OFFSET_DATA, 1, 0, 8 + length);
  wire.putOffset(v, 20, offset);
  return out;
}

void t.test('a read that comes in pieces, in any order', async t => {
  const { it, answers, memory } = transmission();
  feed(it, data(8692, 500, false));
  t.same(answers, []);
  feed(it, data(8192, 500, true));
  t.same(answers, [[5, 0]]);
  t.ok(memory.subarray(96, 1096).every(byte => byte === 1));
  t.equal(memory[95], 0xa5);
  t.equal(memory[1096], 0xa5);
});

void t.test('what a server may not do ends the connection', async t => {
  const cases: [string, Uint8Array][] = [
    ['before the range', data(8191, 500, true)],
    ['beyond the range', data(8692, 501, true)],
    ['longer than the range', data(8192, 1001, true)],
    ['too little', data(8192, 999, true)],
    ['twice', join(data(8192, 1000, true), data(8192, 1000, true))],
    ['overlapping', join(data(8192, 600, false), data(8192, 600, true))],
    ['no reply', new Uint8Array(40).fill(3)],
  ];
  for (const [what, bytes] of cases) {
    const { it, memory } = transmission();
    feed(it, bytes);
    t.type(it.broken, 'string', what);
    t.ok(
      memory.every((byte, i) => (i >= 96 && i < 1096) || byte === 0xa5),
      'nothing beside',
    );
  }
});

void t.test('pieces that overlap leave nothing of ours in the memory', async t => {
  const { it, answers, memory } = transmission();
  feed(it, join(data(8192, 500, false), data(8192, 500, true)));
  t.same(answers, [[5, 0]], 'their sum is right, so it cannot be told');
  t.notOk(memory.subarray(96, 1096).includes(0xa5));
});

void t.test('what is kept is what was appended, around the end of the ring', async () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({ length: fc.integer({ min: 1, max: 300 }), flush: fc.boolean(), zero: fc.boolean() }),
      ),
      steps => {
        const kept = new Unflushed({ address: 0, bytes: new Uint8Array(1000) }, 1000, 64);
        const disk = Buffer.alloc(400);
        const flushed = Buffer.alloc(400);
        let byte = 0;
        for (const { length, flush, zero } of steps) {
          if (flush || !kept.reserve(zero ? 0 : length)) {
            kept.flushed(kept.newest);
            disk.copy(flushed);
            continue;
          }
          byte = (byte % 255) + 1;
          const memory = { address: 0, bytes: new Uint8Array(length).fill(byte) };
          const offset = byte % 100;
          kept.append(zero ? KEPT_ZERO : KEPT_WRITE, 0, offset, length, zero ? null : memory, 0);
          disk.fill(zero ? 0 : byte, offset, offset + length);
        }
        for (let entry = kept.oldest; entry < kept.newest; entry++) {
          const [offset, length] = [kept.offset(entry), kept.length(entry)];
          if (kept.kind(entry) === KEPT_ZERO) flushed.fill(0, offset, offset + length);
          else {
            const at = kept.detail(entry);
            flushed.set(kept.memory.bytes.subarray(at, at + length), offset);
          }
        }
        return flushed.equals(disk);
      },
    ),
  );
});

void t.test('range locks: no overlap with an exclusive one, and everybody gets a turn', async () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({
          from: fc.nat(30),
          length: fc.integer({ min: 1, max: 10 }),
          exclusive: fc.boolean(),
          release: fc.nat(5),
        }),
      ),
      steps => {
        const locks = new RangeLock();
        const held = new Map<number, { from: number; to: number; exclusive: boolean }>();
        const asked = new Map<number, { from: number; to: number; exclusive: boolean }>();
        const hold = (lock: number): void => {
          const it = asked.get(lock)!;
          for (const other of held.values())
            if (other.from < it.to && it.from < other.to && (other.exclusive || it.exclusive))
              throw new Error('two at a time');
          held.set(lock, it);
        };
        const release = (): void => {
          const [lock] = held.keys();
          if (lock === undefined) return;
          held.delete(lock);
          asked.delete(lock);
          locks.release(lock);
        };
        for (const { from, length, exclusive, release: count } of steps) {
          const lock = locks.acquire(from, from + length, exclusive, { granted: hold });
          asked.set(lock, { from, to: from + length, exclusive });
          if (locks.held(lock)) hold(lock);
          for (let i = 0; i < count - 2; i++) release();
        }
        while (held.size > 0) release();
        return asked.size === 0;
      },
    ),
  );
});
