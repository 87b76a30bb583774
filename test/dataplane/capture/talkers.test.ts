/** Top talkers: exact while it is quiet, an honest estimate when it is not, and gone when it is over. */
import t from 'tap';
import { Talkers } from '../../../dataplane/capture/talkers.js';
import { FrameTable } from '../../../dataplane/engine/frames.js';
import { makeRig, memoryLink } from '../engine/rig.js';

const bytes = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex.replaceAll(/\s/g, ''), 'hex'));
const HEAD = '02000000000b 02000000000a';
const UDP = bytes(`${HEAD} 0800 4500001c 00000000 4011 0000 0a00000a 0a00000b 03e8 0035 0008 0000`);
const ARP = bytes(`${HEAD} 0806 0001 0800 06 04 0001 02000000000a 0a00000a 000000000000 0a00000b`);

function makeWatch() {
  const rig = makeRig();
  const [link] = memoryLink(rig.loop, 'a', { input: () => {} });
  const { arena } = rig.pool;
  const at = arena.slotAt(rig.pool.take());
  const talkers = new Talkers([link], arena.view, 0, Math.random);
  const arrive = (frame: Uint8Array, length_bytes: number, count: number): void => {
    arena.bytes.set(frame, at);
    for (let left = count; left > 0; left -= 64) {
      const frames = new FrameTable(rig.pool);
      for (let i = 0; i < Math.min(64, left); i++) frames.push(0, at, length_bytes, 0, 0, 0, 64);
      link.observer?.received(link, frames, 0, frames.count);
    }
  };
  return { link, talkers, arrive };
}

await t.test('a quiet switch is told of exactly', async t => {
  const { link, talkers, arrive } = makeWatch();
  arrive(UDP, 100, 3);
  arrive(ARP, ARP.length, 5);
  const told = talkers.finish(2000, 10);
  t.equal(link.observer, undefined, 'nobody watches any more');
  t.same([told.frames, told.bytes, told.seconds, told.untold], [8, 300 + 5 * ARP.length, 2, 0]);
  t.match(told.talkers, [
    {
      source: '10.0.0.10',
      sourcePort: 1000,
      destination: '10.0.0.11',
      destinationPort: 53,
      protocol: 17,
      frames: 3,
      bytes: 300,
    },
    {
      sourceMac: '02:00:00:00:00:0a',
      destinationMac: '02:00:00:00:00:0b',
      etherType: 0x0806,
      source: null,
      frames: 5,
    },
  ]);
});

await t.test('a busy one is estimated, and the order is right', async t => {
  const { talkers, arrive } = makeWatch();
  for (let i = 0; i < 400; i++) {
    arrive(UDP, 1000, 64 * 3);
    arrive(ARP, 1000, 64);
  }
  const { talkers: told, frames } = talkers.finish(100, 10);
  t.equal(frames, 400 * 64 * 4);
  t.equal(told[0]!.protocol, 17);
  const share = told[0]!.bytes / (told[0]!.bytes + told[1]!.bytes);
  t.ok(share > 0.65 && share < 0.85, `three quarters, told as ${share.toFixed(2)}`);
});
