import assert from 'node:assert';
import { Refused } from '../../../host/vhost/session.js';
import { Session } from '../../../dataplane/ports/vhost/session.js';
import type { Kernel } from '../../../host/vhost/session.js';
import {
  HEADER_LENGTH,
  REQUEST,
  emitHeader,
  emitMemTable,
  emitU64,
  emitVringAddress,
  emitVringState,
  headerProblem,
  parseHeader,
} from '../../../host/vhost/wire.js';
import type { Target } from '../harness.js';

const REGION_BYTES = 64 * 1024;
const USER = 0x7f00_0000_0000;

function message(request: number, payload: (view: DataView) => number): Uint8Array {
  const bytes = new Uint8Array(512);
  const size = payload(new DataView(bytes.buffer, HEADER_LENGTH));
  emitHeader(new DataView(bytes.buffer), 0, { request, flags: 9, size });
  return bytes.slice(0, HEADER_LENGTH + size);
}

const u64 = (request: number, value: bigint) => message(request, view => emitU64(view, 0, value));
const state = (request: number, index: number, num: number) =>
  message(request, view => emitVringState(view, 0, { index, num }));
const region = (i: number) => ({
  guestAddress: i * 2 * REGION_BYTES,
  size_bytes: REGION_BYTES,
  userAddress: USER + i * REGION_BYTES,
  mmapOffset_bytes: 0,
});
const address = (index: number) =>
  message(REQUEST.SET_VRING_ADDR, view =>
    emitVringAddress(view, 0, {
      index,
      flags: 0,
      descriptors: USER + index * 0x4000,
      available: USER + index * 0x4000 + 0x1000,
      used: USER + index * 0x4000 + 0x2000,
    }),
  );

const ring = (index: number): Uint8Array[] => [
  state(REQUEST.SET_VRING_NUM, index, 64),
  state(REQUEST.SET_VRING_BASE, index, 3),
  address(index),
  u64(REQUEST.SET_VRING_KICK, BigInt(index)),
  u64(REQUEST.SET_VRING_CALL, BigInt(index)),
  state(REQUEST.SET_VRING_ENABLE, index, 1),
];
const DIALOGUE = [
  message(REQUEST.GET_FEATURES, () => 0),
  u64(REQUEST.SET_PROTOCOL_FEATURES, 9n),
  u64(REQUEST.SET_FEATURES, (1n << 32n) | (1n << 30n) | (1n << 29n)),
  message(REQUEST.SET_MEM_TABLE, view => emitMemTable(view, 0, [region(0), region(1)])),
  ...ring(0),
  ...ring(1),
  state(REQUEST.GET_VRING_BASE, 0, 0),
  u64(REQUEST.NET_SET_MTU, 1500n),
  ...ring(0),
];

export const target: Target = {
  says: 'vhost-user messages in any order with any content: answered or refused, and every fd is given back once',
  samples: [Uint8Array.from(Buffer.concat(DIALOGUE)), Uint8Array.from(Buffer.concat(ring(1)))],
  words: DIALOGUE,
  run(input, random) {
    const open = new Set<number>();
    let nextFd = 10;
    let mapped = 0;
    const kernel: Kernel = {
      close: fd => assert.ok(open.delete(fd), `fd ${fd} is closed, which is not open`),
      map: (fd, offset_bytes, length_bytes) => {
        assert.ok(open.has(fd));
        if (offset_bytes + length_bytes > 4 * REGION_BYTES) return 'it is too short';
        mapped++;
        const buffer = new ArrayBuffer(length_bytes);
        const views = {
          bytes: new Uint8Array(buffer),
          view: new DataView(buffer),
          i32: new Int32Array(buffer),
        };
        return { length_bytes, windows: [{ address: 0, ...views }], unmap: () => void mapped-- };
      },
      acceptEventFd: fd => open.has(fd) && random.below(20) > 0,
    };
    const session = new Session(2, kernel, (one, isComing) => {
      assert.ok(open.has(one.kickFd));
      one.kickToken = isComing ? 1 : -1;
    });
    const view = new DataView(input.buffer, input.byteOffset, input.length);
    const header = { request: 0, flags: 0, size: 0 };
    for (let at = 0; at + HEADER_LENGTH <= input.length;) {
      parseHeader(view, at, header);
      const end = at + HEADER_LENGTH + header.size;
      if (headerProblem(header) !== undefined || end > input.length) break;
      const count =
        header.request === REQUEST.SET_MEM_TABLE ? random.pick([2, 2, 2, 1]) : random.pick([1, 1, 1, 0, 2]);
      const fds = Array.from({ length: count }, () => nextFd++);
      for (const fd of fds) open.add(fd);
      try {
        session.handle(header, view, at + HEADER_LENGTH, end, fds);
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        session.reset();
      }
      for (const one of session.rings) if (one.isRunning) one.look();
      at = end;
    }
    session.reset();
    assert.deepEqual([...open], [], 'no fd is left');
    assert.equal(mapped, 0, 'no memory is left');
  },
};
