import assert from 'node:assert';
import * as wire from '../../../storage/nbd/wire.js';
import { ClientListing, INFO_LIMIT, NAMES_LIMIT } from '../../../storage/remote/clientListing.js';
import { cuts } from '../harness.js';
import type { Target } from '../harness.js';

const { LIST, INFO } = wire.NBD_OPT;
const { ACK, SERVER, ERR_UNSUP, ERR_UNKNOWN } = wire.NBD_REP;

function session(...replies: Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat([wire.greeting(), ...replies]));
}

const two = [
  wire.optionReply(LIST, SERVER, wire.serverRecord('a', 'the first')),
  wire.optionReply(LIST, SERVER, wire.serverRecord('b')),
  wire.optionReply(LIST, ACK),
];

/** What came of it, in words: must not depend on how the stream is cut. */
function talk(pieces: readonly Uint8Array[]): string {
  const listing = new ClientListing({ tls: false });
  let rest = new Uint8Array(0);
  let asked = 0;
  for (const piece of pieces) {
    rest = Uint8Array.from(Buffer.concat([rest, piece]));
    const out: Uint8Array[] = [];
    const used = listing.step(rest, out);
    asked += out.length;
    assert(used >= 0 && used <= rest.length);
    assert(asked <= INFO_LIMIT + 3, 'asks without end');
    rest = rest.slice(used);
    if (listing.refused !== null) return listing.refused;
    if (listing.agreed !== null) break;
    assert(rest.length < 20_000, 'waits for ever');
  }
  assert((listing.agreed?.exports.length ?? 0) <= NAMES_LIMIT);
  return JSON.stringify(listing.agreed);
}

export const target: Target = {
  says: 'an NBD server that is asked what it offers: cannot make the client hold memory, or ask without end',
  samples: [
    session(
      ...two,
      wire.optionReply(INFO, wire.NBD_REP.INFO, wire.infoExport(1 << 20, 0xfff)),
      wire.optionReply(INFO, ACK),
      wire.optionReply(INFO, ERR_UNKNOWN, wire.utf8('gone')),
    ),
    session(...two, wire.optionReply(INFO, ERR_UNSUP)),
    session(wire.optionReply(LIST, wire.NBD_REP.ERR_POLICY)),
  ],
  run(input, random) {
    const whole = talk([input]);
    const inPieces = talk(cuts(input, random));
    assert.equal(inPieces, whole);
  },
};
