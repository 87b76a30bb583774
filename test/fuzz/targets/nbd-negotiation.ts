import assert from 'node:assert';
import { Negotiation } from '../../../storage/nbd/negotiation.js';
import type { Offer, OfferList } from '../../../storage/nbd/negotiation.js';
import * as wire from '../../../storage/nbd/wire.js';
import { cuts } from '../harness.js';
import type { Target } from '../harness.js';
import { FIXED, SESSIONS, option } from '../nbdSessions.js';

const DISK: Offer = {
  name: 'disk',
  size_bytes: 1 << 20,
  readOnly: false,
  minimumBlock_bytes: 4096,
  contexts: () => ['qemu:allocation-depth', '', 'qemu:dirty-bitmap:s'],
};
const OFFERS: OfferList<Offer> = {
  find: name => (name === DISK.name ? DISK : null),
  listReply: () => wire.optionReply(3, wire.NBD_REP.SERVER, wire.serverRecord('disk')),
};

interface Outcome {
  used: number;
  out: Uint8Array;
  ended: string | null;
  entered: unknown;
}

/** As connection.ts does it: what a step leaves is offered again with more behind it. */
function talk(pieces: readonly Uint8Array[], tls: 'none' | 'required' = 'none'): Outcome {
  const negotiation = new Negotiation(OFFERS, tls);
  const out: Uint8Array[] = [];
  let [rest, used] = [new Uint8Array(0), 0];
  for (const piece of pieces) {
    rest = Uint8Array.from(Buffer.concat([rest, piece]));
    const step = negotiation.step(rest, out);
    assert(step >= 0 && step <= rest.length);
    used += step;
    rest = rest.slice(step);
    if (negotiation.ended !== null || negotiation.entered !== null || negotiation.startsTls) break;
  }
  const { ended, entered } = negotiation;
  assert(ended === null || entered === null);
  return { used, out: Uint8Array.from(Buffer.concat(out)), ended, entered };
}

export const target: Target = {
  says: 'the NBD handshake: answers do not depend on how the stream is cut',
  samples: [
    ...SESSIONS,
    Uint8Array.from(Buffer.concat([FIXED, option(wire.NBD_OPT.LIST), option(wire.NBD_OPT.ABORT)])),
    Uint8Array.from(Buffer.concat([FIXED, option(5), option(99, new Uint8Array(40))])),
  ],
  run(input, random) {
    const whole = talk([input]);
    const inPieces = talk(cuts(input, random));
    assert.deepEqual(inPieces, whole);
    const plain = talk(cuts(input, random), 'required');
    assert.equal(plain.entered, null, 'nobody comes in before TLS');
    assert(!Buffer.from(plain.out).includes(DISK.name), 'or is told of an export');
  },
};
