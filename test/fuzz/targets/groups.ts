import assert from 'node:assert';
import { Membership } from '../../../dataplane/snooping/membership.js';
import * as igmp from '../../../dataplane/wire/igmp.js';
import * as mld from '../../../dataplane/wire/mld.js';
import type { Target } from '../harness.js';

const MAC = Uint8Array.of(2, 0, 0x5e, 0, 0, 9);
const words = { mac: MAC, group: null, maxResponse_ms: 1000, robustness: 2, interval_s: 125 };
/** Behind the Ethernet and IP headers: 14 + 24, and 14 + 40 + 8. */
const query4 = igmp.queryFrame({ ...words, source: Uint8Array.of(10, 0, 0, 1) }).slice(38);
const query6 = mld.queryFrame({ ...words, source: new Uint8Array(16).fill(1) }).slice(62);
const report3 = Uint8Array.of(0x22, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 1, 239, 1, 2, 3, 10, 0, 0, 1);
const LIMIT = 8;

export const target: Target = {
  says: 'IGMP and MLD messages, sums put right: nothing is read past the end, and what is kept is bounded',
  samples: [
    query4,
    query6,
    report3,
    Uint8Array.of(0x16, 0, 0, 0, 239, 1, 2, 3),
    Uint8Array.of(0x17, 0, 0, 0, 239, 1, 2, 3),
  ],
  words: [Uint8Array.of(239), Uint8Array.of(0xff, 0x0e), Uint8Array.of(0x22), Uint8Array.of(143)],
  run(input) {
    const membership = new Membership(
      {
        robustness: 2,
        limit: LIMIT,
        querier: { address: new Uint8Array(4), interval_s: 125, response_s: 10 },
      },
      () => ({ router: 'auto', fastLeave: false, limit: 4 }),
      () => {},
    );
    for (let port = 0; port < 3; port++) {
      // The message at the very end of its memory: reading on throws. Before it, the addresses that MLD sums.
      const bytes = new Uint8Array(40 + input.length);
      bytes.set(input, 40);
      const view = new DataView(bytes.buffer);
      for (const parse of [
        () => igmp.parse(view, 40, bytes.length),
        () => mld.parse(view, 0, 40, bytes.length),
      ]) {
        fixSum(view, parse);
        const heard = parse();
        if (heard === undefined || heard === 'malformed') continue;
        membership.hear(heard, 1, port, new Uint8Array(4).fill(port), port * 1000);
        membership.tick(port * 1000 + 1500);
      }
    }
    assert.ok([...membership.list()].length <= LIMIT);
  },
};

/** Whatever 16-bit sum makes the message whole, so that what is behind it is looked at. */
function fixSum(view: DataView, parse: () => unknown): void {
  if (view.byteLength < 44 || parse() !== 'malformed') return;
  let sum = 0;
  view.setUint16(42, 0);
  for (let at = 40; at < view.byteLength; at += 2)
    sum += at + 1 < view.byteLength ? view.getUint16(at) : view.getUint8(at) << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  view.setUint16(42, ~sum & 0xffff);
}
