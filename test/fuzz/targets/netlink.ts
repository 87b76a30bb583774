import assert from 'node:assert';
import * as nl from '../../../host/netlinkCodec.js';
import type { Target } from '../harness.js';

const link = new nl.MessageWriter(nl.RTM_NEWLINK, nl.NLM_F_MULTI, 1)
  .ifinfomsg(3, 0x11043, 0)
  .string(nl.IFLA_IFNAME, 'eth0')
  .u32(nl.IFLA_MTU, 1500)
  .u32(nl.IFLA_MASTER, 9)
  .attribute(nl.IFLA_ADDRESS, Uint8Array.of(2, 0, 0, 0, 0, 0xab))
  .attribute(nl.IFLA_STATS64, new Uint8Array(8 * 24))
  .nest(nl.IFLA_LINKINFO, info => info.string(nl.IFLA_INFO_KIND, 'veth'))
  .finish();
const address = new nl.MessageWriter(nl.RTM_NEWADDR, nl.NLM_F_MULTI, 1)
  .ifaddrmsg(2, 24, 3)
  .attribute(nl.IFA_LOCAL, Uint8Array.of(192, 0, 2, 1))
  .attribute(nl.IFA_ADDRESS, Uint8Array.of(192, 0, 2, 1))
  .finish();
const done = new nl.MessageWriter(nl.NLMSG_DONE, nl.NLM_F_MULTI, 1).finish();
// Error -EEXIST, the capped header of the request, and an extended acknowledgement in words.
const refusal = new nl.MessageWriter(nl.NLMSG_ERROR, 0x300, 1)
  .attribute(0, new Uint8Array(12))
  .attribute(0, new Uint8Array(0))
  .string(1, 'exists')
  .finish();
new DataView(refusal.buffer).setInt32(16, -17, true);

/** Every byte told must lie in what was received. */
function inside(part: Uint8Array, whole: Uint8Array): void {
  assert(part.buffer === whole.buffer);
  assert(part.byteOffset >= whole.byteOffset);
  assert(part.byteOffset + part.length <= whole.byteOffset + whole.length);
}

export const target: Target = {
  says: 'rtnetlink datagrams: no exception, nothing read outside, errors are errnos',
  samples: [link, address, done, refusal, Uint8Array.from(Buffer.concat([link, link, address, done]))],
  run(input) {
    const { messages } = nl.readMessages(input);
    for (const { body, flags } of messages) {
      inside(body, input);
      for (const value of nl.readAttributes(body)?.values() ?? []) inside(value, body);
      const link = nl.readLink(body);
      assert(link === undefined || (Number.isInteger(link.index) && link.mtu_bytes >= 0));
      nl.readAddress(body);
      const error = nl.readError(body, flags);
      assert(error === undefined || error.errno >= 0);
    }
  },
};
