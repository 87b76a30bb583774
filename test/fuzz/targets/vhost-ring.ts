import assert from 'node:assert';
import { mapAnonymous } from '../../../host/memory.js';
import type { Mapping } from '../../../host/memory.js';
import { Arena, arenaLength } from '../../../dataplane/engine/arena.js';
import { makeRow } from '../../../dataplane/engine/counters.js';
import { AT, FRAME_WORDS, FrameTable, LENGTH, ROOM, SLOT } from '../../../dataplane/engine/frames.js';
import { BufferPool } from '../../../dataplane/engine/pool.js';
import { GuestMemory } from '../../../host/vhost/memory.js';
import { Offloads } from '../../../dataplane/ports/vhost/offloads.js';
import { RingReader } from '../../../dataplane/ports/vhost/reader.js';
import { Ring } from '../../../host/vhost/ring.js';
import { RingWriter } from '../../../dataplane/ports/vhost/writer.js';
import { FRAME_MAX_BYTES, FRAME_MIN_BYTES } from '../../../dataplane/wire/ethernet.js';
import type { Target } from '../harness.js';

/*
 * canary | region 0: two rings, then what the input says | canary | region 1: buffers | canary
 *
 * The input is the rings' memory: for each ring descriptors, available, used; then indirect tables.
 */
const SLOTS = 8;
const CANARY_BYTES = 8192;
const REGION_BYTES = 64 * 1024;
const NUM = 16;
const RING_BYTES = 512;
const TABLE_AT = 2 * RING_BYTES;
const GUEST_0 = 0x10_0000;
/** Right behind region 0 in the guest: buffers may lie across. */
const GUEST_1 = GUEST_0 + REGION_BYTES;
const BUFFERS = GUEST_1 + 0x1000;
const USER = 0x7000_0000;
const MEMORY_BYTES = 3 * CANARY_BYTES + 2 * REGION_BYTES;

const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;

type Descriptor = [address: number, length: number, flags: number, next: number];

/** Of ring 0 (to the guest) and 1 (from it): descriptors and heads; then an indirect table. */
function sample(to: Descriptor[], from: Descriptor[], table: Descriptor[], heads: number[]): Uint8Array {
  const bytes = new Uint8Array(TABLE_AT + 16 * 16);
  const view = new DataView(bytes.buffer);
  const lay = (at: number, all: Descriptor[]): void =>
    all.forEach(([address, length, flags, next], i) => {
      view.setBigUint64(at + i * 16, BigInt(address), true);
      view.setUint32(at + i * 16 + 8, length, true);
      view.setUint16(at + i * 16 + 12, flags, true);
      view.setUint16(at + i * 16 + 14, next, true);
    });
  for (const [ring, all] of [to, from].entries()) {
    lay(ring * RING_BYTES, all);
    const avail = ring * RING_BYTES + NUM * 16;
    view.setUint16(avail + 2, heads.length, true);
    heads.forEach((head, i) => view.setUint16(avail + 4 + i * 2, head, true));
  }
  lay(TABLE_AT, table);
  return bytes;
}

const plain = (flags: number): Descriptor[] =>
  Array.from({ length: NUM }, (_, i) => [BUFFERS + i * 2048, flags === 0 ? 76 + i * 40 : 2048, flags, 0]);
const linked = (flags: number): Descriptor[] =>
  Array.from({ length: NUM }, (_, i) => [
    BUFFERS + i * 1000,
    12 + i * 50,
    flags | (i % 3 === 2 ? 0 : NEXT),
    (i + 1) % NUM,
  ]);
const across = (flags: number): Descriptor[] => [
  [GUEST_1 - 100, 300, flags, 0],
  [GUEST_1 - 5, 1000, flags | NEXT, 2],
  [BUFFERS, 2000, flags, 0],
  [GUEST_0 + TABLE_AT, 48, INDIRECT, 0],
];
const ALL = Array.from({ length: NUM }, (_, i) => i);

let memory: Mapping | undefined;
let pool: BufferPool | undefined;

export const target: Target = {
  says: 'rings that a guest filled with anything: nothing outside of its memory is touched, no slot is lost',
  samples: [
    sample(plain(WRITE), plain(0), [], ALL),
    sample(linked(WRITE), linked(0), [], [0, 3, 6, 9]),
    sample(
      across(WRITE),
      across(0),
      [
        [BUFFERS, 12, NEXT, 1],
        [BUFFERS + 64, 600, 0, 0],
      ],
      [0, 1, 3],
    ),
    sample(plain(0), plain(WRITE), [], ALL),
  ],
  run(input, random) {
    memory ??= mapAnonymous(MEMORY_BYTES);
    if (pool === undefined) {
      pool = new BufferPool(new Arena(mapAnonymous(arenaLength(SLOTS)), SLOTS));
      // All frames that are sent, of any length, lie here.
      pool.arena.bytes.fill(0x5a);
    }
    memory.bytes.fill(0xc5);
    const region = (at: number, number: number) => ({
      length_bytes: REGION_BYTES,
      windows: [
        {
          address: memory!.address + at,
          bytes: memory!.bytes.subarray(at, at + REGION_BYTES),
          view: new DataView(memory!.bytes.buffer, memory!.bytes.byteOffset + at, REGION_BYTES),
          i32: new Int32Array(memory!.bytes.buffer, memory!.bytes.byteOffset + at, REGION_BYTES / 4),
        },
      ],
      number,
      unmap: () => {},
    });
    const at0 = CANARY_BYTES;
    const at1 = 2 * CANARY_BYTES + REGION_BYTES;
    memory.bytes.fill(0, at0, at0 + REGION_BYTES);
    memory.bytes.fill(0, at1, at1 + REGION_BYTES);
    memory.bytes.set(input.subarray(0, REGION_BYTES), at0);

    const guest = new GuestMemory();
    guest.set(
      [
        { guestAddress: GUEST_0, size_bytes: REGION_BYTES, userAddress: USER, mmapOffset_bytes: 0 },
        { guestAddress: GUEST_1, size_bytes: REGION_BYTES, userAddress: USER + 2 ** 30, mmapOffset_bytes: 0 },
      ],
      [region(at0, 0), region(at1, 1)],
    );
    const offloads = new Offloads();
    offloads.set(BigInt(random.u32()) | (BigInt(random.below(2)) << 32n));
    const rings = [new Ring(0), new Ring(1)];
    for (const ring of rings) {
      const at = USER + ring.index * RING_BYTES;
      ring.num = NUM;
      ring.descriptorsAddress = at;
      ring.availableAddress = at + NUM * 16;
      ring.usedAddress = at + NUM * 16 + 6 + NUM * 2 + 2;
      ring.hasEventIndex = offloads.hasEventIndex;
      ring.isEnabled = true;
      ring.start(guest);
      assert.ok(ring.isRunning);
    }
    const [to, from] = rings as [Ring, Ring];
    const frames = new FrameTable(pool);
    const row = makeRow();
    const reader = new RingReader(pool, guest, offloads);
    for (let i = 0; i < 3 && from.isRunning; i++) {
      reader.read(from, frames, 64, row);
      from.publish();
      from.listen();
    }
    reader.finish();
    for (let frame = 0; frame < frames.count; frame++) {
      const w = frame * FRAME_WORDS;
      const length = frames.words[w + LENGTH]!;
      assert.ok(length >= FRAME_MIN_BYTES && length <= FRAME_MAX_BYTES);
      const slotAt = pool.arena.slotAt(frames.words[w + SLOT]!);
      assert.ok(frames.words[w + AT]! - frames.words[w + ROOM]! >= slotAt);
      assert.ok(frames.words[w + AT]! + length <= pool.arena.slotAt(frames.words[w + SLOT]! + 1));
    }
    frames.releaseAll();
    const writer = new RingWriter(pool.arena, guest, offloads);
    const sizes = [14, 60, 1514, 9000, 65_000];
    for (let i = 0; i < 20 && to.isRunning; i++) {
      const at = pool.arena.slotAt(random.below(SLOTS));
      writer.put(to, at, random.pick(sizes), at + 100, random.pick([0, 10, 1000]), random.u32() | 0, 0, 0);
      to.publish();
    }
    assert.equal(pool.usedCount, 0, 'all slots are back');
    for (const [start, end] of [
      [0, at0],
      [at0 + REGION_BYTES, at1],
      [at1 + REGION_BYTES, MEMORY_BYTES],
    ] as const)
      for (let at = start; at < end; at++) assert.equal(memory.bytes[at], 0xc5, `outside, at ${at}`);
  },
};
