import t from 'tap';
import { EAGAIN, HostError } from '../../host/errno.js';
import { mapAnonymous } from '../../host/memory.js';
import { openPacketSocket } from '../../host/packet.js';
import { close, recv, send } from '../../host/raw.js';

const skip = process.getuid?.() === 0 ? false : 'needs root';

/** Of type IEEE 802 local experimental 2, so that no stack cares. */
const FRAME_BYTES = 60;
const TYPE = 0x88b6;

await t.test('a frame sent on lo is received on lo, by who asked for frames only', { skip }, async t => {
  const sender = openPacketSocket({ ifname: 'lo', receive: false, nonBlocking: true, qdiscBypass: true });
  const receiver = openPacketSocket({ ifname: 'lo', receive: true, nonBlocking: true });
  const memory = mapAnonymous(2 * 2048);
  t.teardown(() => {
    close(sender);
    close(receiver);
    memory.unmap();
  });
  memory.view.setUint16(12, TYPE, false);
  for (let i = 14; i < FRAME_BYTES; i++) memory.bytes[i] = i;
  t.equal(send(sender, memory.address, FRAME_BYTES, 0), FRAME_BYTES);

  // Others may be talking on lo.
  let received = 0;
  do received = recv(receiver, memory.address + 2048, 2048, 0);
  while (received > 0 && memory.view.getUint16(2048 + 12, false) !== TYPE);
  t.equal(received, FRAME_BYTES);
  t.same(memory.bytes.slice(2048, 2048 + FRAME_BYTES), memory.bytes.slice(0, FRAME_BYTES));
  t.equal(recv(sender, memory.address, 2048, 0), -EAGAIN);
});

await t.test('an interface that is not there is named', { skip }, async t => {
  t.throws(() => openPacketSocket({ ifname: 'no-such-if0', receive: true }), HostError);
  t.throws(() => openPacketSocket({ ifname: 'no-such-if0', receive: true }), /no-such-if0.*ENODEV/);
});
