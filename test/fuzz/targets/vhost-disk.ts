import assert from 'node:assert';
import { mapAnonymous } from '../../../host/memory.js';
import type { Mapping } from '../../../host/memory.js';
import type { Kernel } from '../../../host/vhost/session.js';
import {
  REQUEST,
  emitInflight,
  emitMemTable,
  emitU64,
  emitVringAddress,
  emitVringState,
} from '../../../host/vhost/wire.js';
import { Budget, ChunkPool } from '../../../storage/nbd/chunks.js';
import { EXPORT_COUNTERS } from '../../../storage/nbd/counters.js';
import { Device } from '../../../storage/vhost/device.js';
import { inflightLength_bytes } from '../../../storage/vhost/inflight.js';
import { DiskSession } from '../../../storage/vhost/session.js';
import { T } from '../../../storage/vhost/virtioBlk.js';
import { FaultyVolume } from '../../../storage/volume/faulty.js';
import { Later } from '../../../storage/volume/later.js';
import { MemoryVolume } from '../../../storage/volume/memory.js';
import type { Target } from '../harness.js';

/*
 * canary | region 0: one ring, headers, an indirect table: what the input says | canary | region 1: data | canary | notes | canary
 */
const CANARY_BYTES = 8192;
const REGION_BYTES = 64 * 1024;
const NUM = 16;
const AVAIL_AT = NUM * 16;
const USED_AT = 512;
const HEADERS_AT = 1024;
const TABLE_AT = 2048;
const INPUT_BYTES = 3072;
const GUEST_0 = 0x10_0000;
/** Right behind region 0: buffers may lie across. */
const GUEST_1 = GUEST_0 + REGION_BYTES;
const USER = 0x7000_0000;
const NOTES_BYTES = Math.ceil(inflightLength_bytes(1, NUM) / 4096) * 4096;
const MEMORY_BYTES = 4 * CANARY_BYTES + 2 * REGION_BYTES + NOTES_BYTES;
const AT_0 = CANARY_BYTES;
const AT_1 = AT_0 + REGION_BYTES + CANARY_BYTES;
const AT_NOTES = AT_1 + REGION_BYTES + CANARY_BYTES;
const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;
const SIZE = 1 << 20;

type Descriptor = [address: number, length: number, flags: number, next: number];

function sample(
  descriptors: Descriptor[],
  table: Descriptor[],
  types: number[],
  heads: number[],
): Uint8Array {
  const bytes = new Uint8Array(INPUT_BYTES);
  const view = new DataView(bytes.buffer);
  const lay = (at: number, all: Descriptor[]): void =>
    all.forEach(([address, length, flags, next], i) => {
      view.setBigUint64(at + i * 16, BigInt(address), true);
      view.setUint32(at + i * 16 + 8, length, true);
      view.setUint16(at + i * 16 + 12, flags, true);
      view.setUint16(at + i * 16 + 14, next, true);
    });
  lay(0, descriptors);
  view.setUint16(AVAIL_AT + 2, heads.length, true);
  heads.forEach((head, i) => view.setUint16(AVAIL_AT + 4 + i * 2, head, true));
  types.forEach((type, i) => {
    view.setUint32(HEADERS_AT + i * 16, type, true);
    view.setUint32(HEADERS_AT + i * 16 + 8, i * 8, true);
  });
  lay(TABLE_AT, table);
  return bytes;
}

const header = (i: number): Descriptor => [GUEST_0 + HEADERS_AT + i * 16, 16, NEXT, 0];
const request = (at: number, i: number, length: number, isWritten: boolean): Descriptor[] => {
  const [address, n, flags] = header(i);
  return [
    [address, n, flags, at + 1],
    [GUEST_1 + i * 4096, length, NEXT | (isWritten ? WRITE : 0), at + 2],
    [GUEST_1 + REGION_BYTES - 1 - i, 1, WRITE, 0],
  ];
};
const five = [
  ...request(0, 0, 4096, true),
  ...request(3, 1, 8192, false),
  ...request(6, 2, 32, false),
  ...request(9, 3, 20, true),
  ...request(12, 4, 16, false),
];
const TYPES = [T.IN, T.OUT, T.WRITE_ZEROES, T.GET_ID, T.DISCARD, T.FLUSH];
const inTable: Descriptor[] = [[GUEST_0 + TABLE_AT, 48, INDIRECT, 0]];
const across: Descriptor[] = [
  [GUEST_0 + HEADERS_AT, 7, NEXT, 1],
  [GUEST_0 + HEADERS_AT + 7, 9, NEXT, 2],
  [GUEST_1 - 200, 1025, WRITE, 0],
];

let memory: Mapping | undefined;
let pool: ChunkPool | undefined;

export const target: Target = {
  says: 'a disk’s ring with any content: nothing outside of the guest’s memory is written, all is given back once, or the ring stops',
  samples: [
    sample(five, [], TYPES, [0, 3, 6, 9, 12]),
    sample(inTable, request(0, 0, 4096, true), TYPES, [0]),
    sample(across, [], [T.IN], [0]),
  ],
  run(input, random) {
    memory ??= mapAnonymous(MEMORY_BYTES);
    pool ??= new ChunkPool(length_bytes => mapAnonymous(length_bytes));
    const { bytes, address } = memory;
    bytes.fill(0x5a);
    bytes.fill(0, AT_0, AT_0 + REGION_BYTES);
    bytes.fill(0, AT_NOTES, AT_NOTES + NOTES_BYTES);
    bytes.set(input.subarray(0, REGION_BYTES), AT_0);
    // Notes of somebody else's, now and then.
    if (random.below(4) === 0) bytes.set(random.bytes(inflightLength_bytes(1, NUM)), AT_NOTES);
    const all = memory;
    const part = (at: number, length_bytes: number) => ({
      length_bytes,
      windows: [
        {
          address: address + at,
          bytes: all.bytes.subarray(at, at + length_bytes),
          view: new DataView(all.bytes.buffer, all.bytes.byteOffset + at, length_bytes),
          i32: all.i32.subarray(at >>> 2, (at + length_bytes) >>> 2),
        },
      ],
      unmap: () => undefined,
    });
    const places: Record<number, number> = { 10: AT_0, 11: AT_1, 12: AT_NOTES };
    const kernel: Kernel = {
      close: () => undefined,
      map: (fd, _offset, length_bytes) => part(places[fd]!, length_bytes),
      acceptEventFd: () => true,
    };
    const later = new Later();
    const volume = new FaultyVolume(new MemoryVolume(SIZE, later), later, {
      seed: random.below(2 ** 31) + 1,
      again_ppm: random.pick([0, 500_000]),
      delay_ppm: 300_000,
      delayTurns: 3,
    });
    const budget = new Budget();
    const before = budget.left_bytes;
    const device = new Device({
      volume,
      readOnly: random.below(5) === 0,
      block_bytes: 512,
      queues: 1,
      serial: 'x',
      counters: new Float64Array(EXPORT_COUNTERS.length),
      pool,
      budget,
      later,
      now_ms: () => 0,
      touch: () => undefined,
      onFault: () => undefined,
    });
    const session = new DiskSession(device, kernel, () => undefined);
    device.attach(session);
    const message = (id: number, fill: (view: DataView) => number, fds: number[] = []): void => {
      const view = new DataView(new ArrayBuffer(300));
      const size = fill(view);
      session.handle({ request: id, flags: 1, size }, view, 0, size, fds);
    };
    message(REQUEST.SET_PROTOCOL_FEATURES, view => emitU64(view, 0, (1n << 12n) | 1n));
    const notes = { mmapSize_bytes: NOTES_BYTES, mmapOffset_bytes: 0, queues: 1, queueSize: NUM };
    message(REQUEST.SET_INFLIGHT_FD, view => emitInflight(view, 0, notes, 24), [12]);
    const features = (1n << 32n) | (1n << 30n) | (1n << 28n) | (1n << 9n);
    message(REQUEST.SET_FEATURES, view =>
      emitU64(view, 0, random.below(2) === 0 ? features : features | (1n << 29n)),
    );
    const regions = [0, 1].map(i => ({
      guestAddress: [GUEST_0, GUEST_1][i]!,
      size_bytes: REGION_BYTES,
      userAddress: USER + i * REGION_BYTES,
      mmapOffset_bytes: 0,
    }));
    message(REQUEST.SET_MEM_TABLE, view => emitMemTable(view, 0, regions), [10, 11]);
    message(REQUEST.SET_VRING_NUM, view => emitVringState(view, 0, { index: 0, num: NUM }));
    message(REQUEST.SET_VRING_ADDR, view =>
      emitVringAddress(view, 0, {
        index: 0,
        flags: 0,
        descriptors: USER,
        available: USER + AVAIL_AT,
        used: USER + USED_AT,
      }),
    );
    message(REQUEST.SET_VRING_KICK, view => emitU64(view, 0, 0x100n));
    message(REQUEST.SET_VRING_ENABLE, view => emitVringState(view, 0, { index: 0, num: 1 }));
    device.ringsChanged();
    const ring = session.rings[0]!;
    const meddles = random.below(3) === 0;
    for (let i = 0; i < 40; i++) {
      device.settle();
      later.turn();
      budget.turn();
      // A guest that writes into its rings while they are read.
      if (meddles) bytes[AT_0 + random.below(INPUT_BYTES)] = random.below(256);
      assert.ok(device.inFlightCount <= 128);
    }
    if (random.below(2) === 0) {
      device.detach();
      session.reset();
    }
    for (let i = 0; i < 4000 && !device.quiet; i++) {
      device.settle();
      later.turn();
      budget.turn();
      if (ring.isRunning && !meddles && i > 3000) break;
    }
    assert.ok(device.quiet, 'everything is answered');
    assert.equal(budget.left_bytes, before, 'and nothing is held');
    device.close();
    const canary = (at: number): void =>
      assert.ok(
        bytes.subarray(at, at + CANARY_BYTES).every(byte => byte === 0x5a),
        'written outside of the memory',
      );
    canary(0);
    canary(AT_0 + REGION_BYTES);
    canary(AT_1 + REGION_BYTES);
    canary(AT_NOTES + NOTES_BYTES);
  },
};
