import assert from 'node:assert';
import * as wire from '../../../storage/nbd/wire.js';
import { ClientNegotiation } from '../../../storage/remote/clientNegotiation.js';
import { ClientTransmission } from '../../../storage/remote/clientTransmission.js';
import { cuts } from '../harness.js';
import type { Target } from '../harness.js';

const READ_BYTES = 600;
/** Memory around what a read asked for: nothing may be written there. */
const AROUND = 64;

const join = (...parts: Uint8Array[]): Uint8Array => Uint8Array.from(Buffer.concat(parts));

function handshake(extended: boolean): Uint8Array {
  const { ACK, INFO, META_CONTEXT, ERR_UNSUP } = wire.NBD_REP;
  const replies = [wire.greeting()];
  if (extended) replies.push(wire.optionReply(wire.NBD_OPT.EXTENDED_HEADERS, ACK));
  else {
    replies.push(wire.optionReply(wire.NBD_OPT.EXTENDED_HEADERS, ERR_UNSUP));
    replies.push(wire.optionReply(wire.NBD_OPT.STRUCTURED_REPLY, ACK));
  }
  const context = wire.metaContextRecord(1, wire.META_CONTEXT_BASE_ALLOCATION);
  replies.push(wire.optionReply(wire.NBD_OPT.SET_META_CONTEXT, META_CONTEXT, context));
  replies.push(wire.optionReply(wire.NBD_OPT.SET_META_CONTEXT, ACK));
  replies.push(wire.optionReply(wire.NBD_OPT.GO, INFO, wire.infoExport(1 << 20, 0xfff)));
  replies.push(wire.optionReply(wire.NBD_OPT.GO, INFO, wire.infoBlockSize(1, 4096, 1 << 25)));
  replies.push(wire.optionReply(wire.NBD_OPT.GO, ACK));
  return join(...replies);
}

/** A chunk to the nth request, as the server of `handshake` sends it. */
function chunk(
  extended: boolean,
  slot: number,
  flags: number,
  type: number,
  payload: Uint8Array,
): Uint8Array {
  const header = new Uint8Array(extended ? 32 : 20);
  const v = new DataView(header.buffer);
  v.setUint32(0, extended ? 0x6e8a278c : wire.NBD_STRUCTURED_REPLY_MAGIC);
  v.setUint16(4, flags);
  v.setUint16(6, type);
  v.setUint32(8, 1);
  v.setUint32(12, slot);
  v.setUint32(extended ? 28 : 16, payload.length);
  return join(header, payload);
}

function words(...values: number[]): Uint8Array {
  const out = new Uint8Array(values.length * 4);
  values.forEach((value, i) => new DataView(out.buffer).setUint32(i * 4, value));
  return out;
}

function session(extended: boolean): Uint8Array {
  const status = extended
    ? chunk(true, 1, 1, 6, words(1, 2, 0, 4096, 0, 3, 0, 8192, 0, 0))
    : chunk(false, 1, 1, 5, words(1, 4096, 3, 8192, 0));
  const message = join(words(5), Uint8Array.of(0, 3), Uint8Array.from(Buffer.from('oh!')));
  return join(
    handshake(extended),
    chunk(extended, 0, 0, 1, join(words(0, 8192), new Uint8Array(300).fill(1))),
    chunk(extended, 0, 1, 2, words(0, 8492, 300)),
    status,
    chunk(extended, 2, 1, 0, new Uint8Array(0)),
    chunk(extended, 3, 1, 0x8001, message),
  );
}

/** What came of it, in words: must not depend on how the stream is cut. */
function talk(pieces: readonly Uint8Array[]): string {
  const said: string[] = [];
  const negotiation = new ClientNegotiation({ exportName: 'disk', tls: false });
  const memory = { address: 0, bytes: new Uint8Array(READ_BYTES + 2 * AROUND).fill(0xa5) };
  let transmission: ClientTransmission | null = null;
  const answered = new Set<number>();
  const answers = {
    answered: (tag: number, error: number) => {
      assert(!answered.has(tag), 'answered twice');
      answered.add(tag);
      said.push(`${tag}: ${error}`);
    },
    extent: (tag: number, length: number, flags: number) => {
      assert(length > 0 && Number.isSafeInteger(length) && !answered.has(tag));
      said.push(`${tag}: ${length} ${flags}`);
    },
  };
  let rest = new Uint8Array(0);
  for (const piece of pieces) {
    rest = Uint8Array.from(Buffer.concat([rest, piece]));
    if (transmission === null) {
      const out: Uint8Array[] = [];
      const used = negotiation.step(rest, out);
      assert(used >= 0 && used <= rest.length && out.length <= 8);
      rest = rest.slice(used);
      if (negotiation.refused !== null) return negotiation.refused;
      if (negotiation.agreed === null) {
        assert(rest.length < 20_000, 'waits for ever');
        continue;
      }
      assert(Number.isSafeInteger(negotiation.agreed.size_bytes));
      transmission = new ClientTransmission(negotiation.agreed, answers);
      const view = new DataView(new ArrayBuffer(64));
      transmission.ask(view, 0, wire.NBD_CMD_READ, 0, 8192, READ_BYTES, memory, AROUND, 100);
      transmission.ask(view, 0, wire.NBD_CMD_BLOCK_STATUS, 0, 0, 12_288, null, 0, 101);
      transmission.ask(view, 0, wire.NBD_CMD_WRITE, 0, 0, 512, null, 0, 102);
      transmission.ask(view, 0, wire.NBD_CMD_FLUSH, 0, 0, 0, null, 0, 103);
    }
    const view = new DataView(rest.buffer, rest.byteOffset, rest.byteLength);
    rest = rest.slice(transmission.consume(rest, view, 0, rest.length));
    if (transmission.broken !== null) break;
    assert(rest.length <= 32, `${rest.length} bytes are neither taken nor refused`);
  }
  const around = memory.bytes.filter((_, i) => i < AROUND || i >= AROUND + READ_BYTES);
  assert(
    around.every(byte => byte === 0xa5),
    'written beside what was asked for',
  );
  if (answered.has(100) && said.includes('100: 0'))
    said.push(Buffer.from(memory.bytes.subarray(AROUND, AROUND + READ_BYTES)).toString('hex'));
  return `${said.join(', ')} ${transmission?.broken ?? ''}`;
}

export const target: Target = {
  says: 'an NBD server that means harm: it writes nowhere, answers nothing twice, and cannot make the client hold memory',
  samples: [session(false), session(true), handshake(false)],
  run(input, random) {
    const whole = talk([input]);
    const inPieces = talk(cuts(input, random));
    assert.equal(inPieces, whole);
  },
};
