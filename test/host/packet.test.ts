import t from 'tap';
import { EPOLLIN, Epoll } from '../../host/epoll.js';
import { mapAnonymous } from '../../host/memory.js';
import { addVeth, setLink } from '../../host/netlink.js';
import { createNetns, inNetns } from '../../host/netns.js';
import * as packet from '../../host/packet.js';
import * as raw from '../../host/raw.js';

const skip = process.getuid?.() === 0 ? false : 'packet sockets need root';

await t.test('frames pass a veth', { skip }, async t => {
  const namespace = createNetns();
  const [out, into] = inNetns(namespace, () => {
    addVeth('hostv0', 'hostv1');
    for (const name of ['hostv0', 'hostv1']) setLink(name, { up: true });
    return [
      packet.openPacketSocket({ ifname: 'hostv0', receive: false, qdiscBypass: true }),
      packet.openPacketSocket({ ifname: 'hostv1', receive: true, nonBlocking: true }),
    ] as const;
  });
  const memory = mapAnonymous(4096);
  // To everyone, with an EtherType for experiments (IEEE 802a), so that the kernel's chatter is told apart.
  memory.bytes.fill(0xff, 0, 6);
  memory.view.setUint16(12, 0x88b5);
  const epoll = new Epoll(1);
  epoll.add(into, EPOLLIN, 0);
  t.equal(raw.send(out, memory.address, 60, 0), 60);
  let length = -1;
  while (length !== 60 && epoll.wait(5000) > 0) {
    const n = raw.recv(into, memory.address + 2048, 2048, 0);
    if (memory.view.getUint16(2048 + 12) === 0x88b5) length = n;
  }
  t.equal(length, 60);
  t.throws(() => inNetns(namespace, () => packet.openPacketSocket({ ifname: 'hostnone', receive: true })), {
    code: 'ENODEV',
  });
  epoll.close();
  for (const fd of [out, into, namespace]) raw.close(fd);
});
