import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import { C, makeRow } from '../../../dataplane/engine/counters.js';
import { FrameTable } from '../../../dataplane/engine/frames.js';
import { SLOT_ROOM_BYTES } from '../../../dataplane/engine/arena.js';
import type { Committer, Gather } from '../../../dataplane/ports/gather.js';
import * as virtioNet from '../../../dataplane/wire/virtioNet.js';
import * as vlan from '../../../dataplane/wire/vlan.js';
import { makeRig } from '../engine/rig.js';
import { holds } from '../wire/codec.js';
import { gsoFrame, slowSegments, transportChecksumIsRight } from '../wire/superFrame.js';

/** Keeps what is committed as the bytes that would be sent, and checks the bookkeeping. */
class Sent implements Committer {
  bytes: number[] = [];
  commits = 0;
  frames = 0;
  commit(gather: Gather): void {
    this.commits++;
    this.frames += gather.frames;
    let total = 0;
    for (let i = 0; i < gather.pieces; i++) {
      const at = gather.pieceAt[i]!;
      this.bytes.push(...gather.arena.bytes.subarray(at, at + gather.pieceLength[i]!));
      total += gather.pieceLength[i]!;
    }
    assert.equal(total, gather.bytes);
    assert.equal(gather.frameEnd[gather.frames - 1], gather.bytes);
  }
}

/** Undoes the framing. */
function unframe(bytes: number[]): Uint8Array[] {
  const frames: Uint8Array[] = [];
  const view = new DataView(Uint8Array.from(bytes).buffer);
  for (let at = 0; at < bytes.length;) {
    const length = view.getUint32(at);
    frames.push(Uint8Array.from(bytes.slice(at + 4, at + 4 + length)));
    at += 4 + length;
  }
  return frames;
}

const editOf = fc.constantFrom(
  vlan.EDIT_NONE,
  vlan.EDIT_REMOVE,
  vlan.EDIT_ADD | 0x2064,
  vlan.EDIT_REPLACE | 7,
);

function edited(bytes: Uint8Array, edit: number): Uint8Array {
  const room = new Uint8Array(4 + bytes.length);
  room.set(bytes, 4);
  return room.slice(vlan.editInPlace(new DataView(room.buffer), 4, edit));
}

void t.test('plain frames, edited or not, come out framed and the buffer stays as it was', async t => {
  const one = fc.tuple(fc.uint8Array({ minLength: 18, maxLength: 100 }), editOf);
  holds(
    t,
    fc.property(fc.array(one, { minLength: 1, maxLength: 20 }), frames => {
      const { pool, gather, arena } = makeRig();
      const table = new FrameTable(pool);
      const sent = new Sent();
      gather.begin(sent, 4, 512);
      for (const [i, [bytes, edit]] of frames.entries()) {
        const slot = pool.take();
        const at = arena.slotAt(slot) + SLOT_ROOM_BYTES;
        arena.bytes.set(bytes, at);
        table.push(slot, at, bytes.length, 0, 0, 0, SLOT_ROOM_BYTES);
        gather.add(table, i, edit, makeRow());
        assert.deepEqual(arena.bytes.slice(at, at + bytes.length), bytes);
      }
      gather.finish();
      assert.deepEqual(
        unframe(sent.bytes),
        frames.map(([bytes, edit]) => edited(bytes, edit)),
      );
    }),
  );
});

void t.test('frames that came in together leave as one piece', async t => {
  const { pool, gather, arena } = makeRig();
  const table = new FrameTable(pool);
  const slot = pool.take();
  const at = arena.slotAt(slot);
  for (let i = 0; i < 10; i++) {
    arena.view.setUint32(at + i * 64, 60);
    pool.retain(slot);
    table.push(slot, at + i * 64 + 4, 60, 0, 0, 0, 4);
  }
  let pieces = 0;
  gather.begin({ commit: g => (pieces = g.pieces) }, 4, 512);
  for (let i = 0; i < 10; i++) gather.add(table, i, vlan.EDIT_NONE, makeRow());
  gather.finish();
  t.equal(pieces, 1);
});

void t.test('super-frames are cut for a port that cannot carry them, with their tags', async t => {
  holds(
    t,
    fc.property(gsoFrame, fc.constantFrom(vlan.EDIT_NONE, vlan.EDIT_ADD | 0x2064), (frame, edit) => {
      const { pool, gather, arena } = makeRig(4);
      const table = new FrameTable(pool);
      const slot = pool.take();
      const at = arena.slotAt(slot) + SLOT_ROOM_BYTES;
      arena.bytes.set(frame.bytes, at);
      const { header } = frame;
      table.push(
        slot,
        at,
        frame.bytes.length,
        virtioNet.word0(header),
        virtioNet.word1(header),
        virtioNet.word2(header),
        SLOT_ROOM_BYTES,
      );
      const sent = new Sent();
      const row = makeRow();
      gather.begin(sent, 4, 512);
      gather.add(table, 0, edit, row);
      gather.finish();
      const wanted = slowSegments(frame);
      assert.deepEqual(
        unframe(sent.bytes),
        wanted.map(segment => edited(segment, edit)),
      );
      assert.equal(row[C.gsoSegmentedFrames], 1);
      assert.equal(row[C.gsoSegments], wanted.length);
      assert.deepEqual(arena.bytes.slice(at, at + frame.bytes.length), frame.bytes);
    }),
    { numRuns: 60 },
  );
});

void t.test('a checksum left to do is done once, for all', async t => {
  const frame = fc.sample(gsoFrame, { numRuns: 1, seed: 3 })[0]!;
  const { pool, gather, arena } = makeRig(4);
  const table = new FrameTable(pool);
  const slot = pool.take();
  const at = arena.slotAt(slot) + SLOT_ROOM_BYTES;
  arena.bytes.set(frame.bytes, at);
  const header = { ...frame.header, gsoType: 0, gsoSize: 0 };
  table.push(
    slot,
    at,
    frame.bytes.length,
    virtioNet.word0(header),
    virtioNet.word1(header),
    virtioNet.word2(header),
    SLOT_ROOM_BYTES,
  );
  const row = makeRow();
  for (let port = 0; port < 2; port++) {
    const sent = new Sent();
    gather.begin(sent, 4, 512);
    gather.add(table, 0, vlan.EDIT_NONE, row);
    gather.finish();
    t.ok(transportChecksumIsRight(unframe(sent.bytes)[0]!, frame));
  }
  t.equal(row[C.checksumsCompleted], 1, 'the second port finds it done');
  t.same(Array.from(table.words.slice(3, 6)), [0, 0, 0]);
});

void t.test('what makes no sense is dropped and counted', async t => {
  const { pool, gather } = makeRig(4);
  const table = new FrameTable(pool);
  const slot = pool.take();
  const at = pool.arena.slotAt(slot) + SLOT_ROOM_BYTES;
  const bad = { flags: 1, gsoType: 1, hdrLen: 0, gsoSize: 100, csumStart: 34, csumOffset: 16 };
  table.push(slot, at, 60, virtioNet.word0(bad), virtioNet.word1(bad), 16, SLOT_ROOM_BYTES);
  pool.retain(slot);
  table.push(slot, at, 60, 1, virtioNet.word1({ ...bad, csumStart: 60000 }), 16, SLOT_ROOM_BYTES);
  const sent = new Sent();
  const row = makeRow();
  gather.begin(sent, 4, 512);
  gather.add(table, 0, vlan.EDIT_NONE, row);
  gather.add(table, 1, vlan.EDIT_NONE, row);
  gather.finish();
  t.equal(row[C.dropOffload], 2);
  t.equal(sent.commits, 0);
});

void t.test('more than iovecs or scratch hold is committed in between', async t => {
  const { pool, gather, arena } = makeRig(4);
  const table = new FrameTable(pool);
  const slot = pool.take();
  const at = arena.slotAt(slot) + SLOT_ROOM_BYTES;
  table.push(slot, at, 60, 0, 0, 0, SLOT_ROOM_BYTES);
  const sent = new Sent();
  gather.begin(sent, 0, 512);
  for (let i = 0; i < 3000; i++) gather.add(table, 0, vlan.EDIT_ADD | 1, makeRow());
  gather.finish();
  t.equal(sent.frames, 3000);
  t.ok(sent.commits >= 6);
  t.equal(sent.bytes.length, 3000 * 64);
});
