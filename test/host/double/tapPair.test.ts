import t from 'tap';
import { tapPair } from '../../../host/double/tapPair.js';
import { EAGAIN } from '../../../host/errno.js';
import { mapAnonymous } from '../../../host/memory.js';
import * as raw from '../../../host/raw.js';

const memory = mapAnonymous(65_536);

await t.test('frames keep their bounds', async t => {
  const { tap, wire, close } = tapPair({ ifname: 'fake0', vnetHdr: true, offloads: { checksum: true } });
  t.match(tap, { ifname: 'fake0', vnetHdrSize: 12, offloads: { checksum: true, tso: false } });
  t.equal(raw.read(tap.fd, memory.address, 2000), -EAGAIN);
  t.equal(raw.write(wire, memory.address, 60), 60);
  t.equal(raw.write(wire, memory.address, 1514), 1514);
  t.equal(raw.read(tap.fd, memory.address, 2000), 60);
  t.equal(raw.read(tap.fd, memory.address, 100), 100, 'the rest of a frame is lost');
  t.equal(raw.read(tap.fd, memory.address, 2000), -EAGAIN);
  t.equal(raw.write(tap.fd, memory.address, 65_000), 65_000);
  t.equal(raw.read(wire, memory.address, 65_536), 65_000);
  close();
});

await t.test('without header there are no offloads', async t => {
  const { tap, close } = tapPair({
    ifname: 'fake0',
    vnetHdr: false,
    offloads: { checksum: true, tso: true },
  });
  t.equal(tap.vnetHdrSize, 0);
  t.same(tap.offloads, { checksum: false, tso: false, uso: false });
  close();
});
