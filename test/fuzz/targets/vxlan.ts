import assert from 'node:assert';
import { localPort, openUdp, inetAddressBytes } from '../../../host/inet.js';
import { Epoll } from '../../../host/epoll.js';
import { mapAnonymous } from '../../../host/memory.js';
import { MessageBatch } from '../../../host/messages.js';
import * as raw from '../../../host/raw.js';
import { Arena, arenaLength } from '../../../dataplane/engine/arena.js';
import { C } from '../../../dataplane/engine/counters.js';
import { AT, FRAME_WORDS, LENGTH } from '../../../dataplane/engine/frames.js';
import { Link } from '../../../dataplane/engine/link.js';
import { Loop } from '../../../dataplane/engine/loop.js';
import { BufferPool } from '../../../dataplane/engine/pool.js';
import { VxlanPort } from '../../../dataplane/ports/vxlan.js';
import { flowHash } from '../../../dataplane/wire/flowHash.js';
import { unfinishedChecksum } from '../../../dataplane/wire/unfinished.js';
import type { Target } from '../harness.js';

const SLOTS = 64;
const VNI = 7;
const HEADER_BYTES = 8;
const DATAGRAM_MAX_BYTES = 60_000;

interface Tunnel {
  loop: Loop;
  pool: BufferPool;
  link: Link;
  got: Uint8Array[];
  peer: number;
  batch: MessageBatch;
}

let tunnel: Tunnel | undefined;
const memory = mapAnonymous(65_536);

/** Made at the first iteration: whoever only lists the targets needs none. */
function theTunnel(): Tunnel {
  if (tunnel !== undefined) return tunnel;
  const pool = new BufferPool(new Arena(mapAnonymous(arenaLength(SLOTS)), SLOTS));
  const loop = new Loop(pool, new Epoll(8), () => 0);
  const got: Uint8Array[] = [];
  const link = new Link(
    loop,
    'tunnel',
    {
      input(_link, frames, first, end) {
        for (let frame = first; frame < end; frame++) {
          const at = frames.words[frame * FRAME_WORDS + AT]!;
          got.push(pool.arena.bytes.slice(at, at + frames.words[frame * FRAME_WORDS + LENGTH]!));
        }
      },
    },
    0,
  );
  const peer = openUdp('127.0.0.1', 0, { dontFragment: false });
  const free = openUdp('127.0.0.1', 0, { dontFragment: false });
  const port = localPort(free);
  raw.close(free);
  link.port = new VxlanPort(link, {
    vni: VNI,
    local: '127.0.0.1',
    port,
    remotes: [{ address: '127.0.0.1', port: localPort(peer) }],
  });
  link.port.open();
  const batch = new MessageBatch({ count: 1, pieces: 1, name_bytes: 16 });
  batch.bytes.set(inetAddressBytes('127.0.0.1', port), batch.nameAt(0));
  tunnel = { loop, pool, link, got, peer, batch };
  return tunnel;
}

const header = (flags: number, vni: number): number[] => [
  flags,
  0,
  0,
  0,
  vni >> 16,
  (vni >> 8) & 255,
  vni & 255,
  0,
];
const ARP = [...Array<number>(6).fill(255), 2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1];
const IPV4 = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0];

export const target: Target = {
  says: 'datagrams at the UDP port of a VXLAN segment, by a real socket: just the frames of its VNI arrive, whole',
  samples: [
    Uint8Array.from([...header(8, VNI), ...ARP]),
    Uint8Array.from([...header(8, VNI), ...IPV4, ...Array<number>(40).fill(1)]),
    Uint8Array.from([...header(8, VNI), ...IPV4.slice(0, 12), 0x81, 0, 0, 5, ...IPV4.slice(12), 9, 9]),
    Uint8Array.from([...header(0xff, VNI), ...ARP, ...Array<number>(1400).fill(3)]),
    Uint8Array.from([...header(8, VNI + 1), ...ARP]),
    Uint8Array.from([...header(0, VNI), ...ARP]),
  ],
  run(whole) {
    const input = whole.subarray(0, DATAGRAM_MAX_BYTES);
    const { loop, pool, link, got, peer, batch } = theTunnel();
    got.length = 0;
    const before = link.counters[C.dropTunnelHeader]!;
    memory.bytes.set(input);
    batch.setPiece(0, 0, memory.address, input.length);
    batch.arm(0, 1, 16, 0);
    assert.equal(raw.sendmsg(peer, batch.address, 0), input.length);
    for (let turn = 0; turn < 3; turn++) loop.turn(0);
    const isOurs =
      input.length >= HEADER_BYTES + 14 &&
      (input[0]! & 8) !== 0 &&
      ((input[4]! << 16) | (input[5]! << 8) | input[6]!) === VNI;
    assert.equal(got.length, isOurs ? 1 : 0);
    if (isOurs) assert(Buffer.from(input.subarray(HEADER_BYTES)).equals(got[0]!));
    // An empty datagram holds nothing that could be wrong.
    else assert.equal(link.counters[C.dropTunnelHeader]! - before, input.length === 0 ? 0 : 1);
    assert.equal(pool.usedCount, 0, 'a slot stays behind');
    if (input.length < 14) return;
    const view = new DataView(memory.view.buffer, 0, input.length);
    const left = unfinishedChecksum(view, 0, input.length);
    assert(left === 0 || (left & 0xffff) + (left >>> 16) + 2 <= input.length);
    assert(flowHash(view, 0, input.length) >= 0);
  },
};
