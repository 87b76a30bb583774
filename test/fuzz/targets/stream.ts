import assert from 'node:assert';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { Epoll } from '../../../host/epoll.js';
import { mapAnonymous } from '../../../host/memory.js';
import * as raw from '../../../host/raw.js';
import { listenUnix } from '../../../host/unix.js';
import { Arena, arenaLength } from '../../../dataplane/engine/arena.js';
import { C } from '../../../dataplane/engine/counters.js';
import { AT, FRAME_WORDS, LENGTH } from '../../../dataplane/engine/frames.js';
import { Link } from '../../../dataplane/engine/link.js';
import { Loop } from '../../../dataplane/engine/loop.js';
import { BufferPool } from '../../../dataplane/engine/pool.js';
import { Gather } from '../../../dataplane/ports/gather.js';
import { StreamPort } from '../../../dataplane/ports/stream.js';
import { FRAME_MAX_BYTES, FRAME_MIN_BYTES } from '../../../dataplane/wire/ethernet.js';
import { cuts } from '../harness.js';
import type { Target } from '../harness.js';

const SLOTS = 8;
const TURNS_MAX = 10_000;

function framed(lengths: readonly number[]): Uint8Array {
  return Uint8Array.from(
    Buffer.concat(
      lengths.map((length, index) => {
        const bytes = Buffer.alloc(4 + length, index + 1);
        bytes.writeUInt32BE(length);
        return bytes;
      }),
    ),
  );
}

interface Engine {
  loop: Loop;
  pool: BufferPool;
  gather: Gather;
  clock: { now_ms: number };
}

let engine: Engine | undefined;

/** Made at the first iteration: whoever only lists the targets needs none. */
function theEngine(): Engine {
  if (engine !== undefined) return engine;
  const arena = new Arena(mapAnonymous(arenaLength(SLOTS)), SLOTS);
  const pool = new BufferPool(arena);
  const clock = { now_ms: 0 };
  engine = { loop: new Loop(pool, new Epoll(8), () => clock.now_ms), pool, gather: new Gather(arena), clock };
  return engine;
}

/** The slow, obvious reading of the stream: frames, and whether a length in it cannot be. */
function expected(input: Uint8Array): { frames: Uint8Array[]; isBroken: boolean } {
  const view = new DataView(input.buffer, input.byteOffset, input.length);
  const frames: Uint8Array[] = [];
  for (let at = 0; at + 4 <= input.length;) {
    const length = view.getUint32(at);
    if (length < FRAME_MIN_BYTES || length > FRAME_MAX_BYTES) return { frames, isBroken: true };
    if (at + 4 + length > input.length) break;
    frames.push(input.slice(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return { frames, isBroken: false };
}

const out = mapAnonymous(65_536);

export const target: Target = {
  says: "a guest's stream of frames, by a real socket: just the frames in it arrive, and no buffer stays behind",
  samples: [
    framed([60, 14, 1500, 61]),
    framed([9000, 14, 14, 14]),
    framed([65_500]),
    framed(Array.from({ length: 100 }, (_, index) => 14 + index)),
  ],
  run(input, random) {
    const { loop, pool, gather, clock } = theEngine();
    const directory = fs.mkdtempSync(`${tmpdir()}/weft-fuzz-`);
    const path = `${directory}/s`;
    const listener = listenUnix(path);
    const got: Uint8Array[] = [];
    const link = new Link(
      loop,
      'guest',
      {
        input(_link, frames, first, end) {
          for (let frame = first; frame < end; frame++) {
            const word = frame * FRAME_WORDS;
            const at = frames.words[word + AT]!;
            got.push(pool.arena.bytes.slice(at, at + frames.words[word + LENGTH]!));
          }
        },
      },
      0,
    );
    const port = new StreamPort(link, { path, role: 'connect' }, gather);
    link.port = port;
    let peer = -1;
    try {
      port.open();
      peer = raw.accept(listener);
      assert(peer >= 0 && link.state === 'up');
      const { frames, isBroken } = expected(input);
      for (const piece of cuts(input, random)) {
        out.bytes.set(piece);
        for (let done = 0, turn = 0; done < piece.length; turn++) {
          assert(turn < TURNS_MAX, 'nobody reads');
          const n = raw.send(peer, out.address + done, piece.length - done, raw.MSG_NOSIGNAL);
          if (n < 0 && !link.isUp) break;
          if (n > 0) done += n;
          loop.turn(0);
        }
        if (!link.isUp) break;
      }
      for (let turn = 0; turn < 30; turn++) loop.turn(0);
      assert.equal(got.length, frames.length);
      for (const [index, frame] of frames.entries()) assert(Buffer.from(frame).equals(got[index]!));
      assert.equal(link.counters[C.dropBadLength], isBroken ? 1 : 0);
      assert.equal(link.isUp, !isBroken);
    } finally {
      port.close();
      loop.forget(link);
      if (peer >= 0) raw.close(peer);
      raw.close(listener);
      fs.rmSync(directory, { recursive: true });
    }
    clock.now_ms += 1000;
    loop.turn(0);
    assert.equal(pool.usedCount, 0, 'a slot stays behind');
  },
};
