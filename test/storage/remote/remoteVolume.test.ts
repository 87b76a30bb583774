/**
 * A remote volume takes the exam against our own server, over pipes that cut at random and several connections; then what
 * only it can show: a server that goes down, one that lost what was not flushed, patience, a smallest block.
 */
import t from 'tap';
import { Later } from '../../../storage/volume/later.js';
import { MemoryVolume } from '../../../storage/volume/memory.js';
import { FaultyVolume } from '../../../storage/volume/faulty.js';
import { ERRNO, newExtentList } from '../../../storage/volume/volume.js';
import { EXAM_BYTES, MiB, exam, read, waitFor, write, type Examined } from '../volume/suite.js';
import { Pair, type PairOptions } from './pair.js';

interface RemoteExamined extends Examined {
  pair: Pair;
  below: MemoryVolume;
}

function make(options: PairOptions = {}, delays = false): RemoteExamined {
  const later = new Later();
  const below = new MemoryVolume(EXAM_BYTES, later);
  const faults = { seed: 3, again_ppm: 500_000, delay_ppm: 500_000 };
  const pair = new Pair(delays ? new FaultyVolume(below, later, faults) : below, later, EXAM_BYTES, options);
  return {
    pair,
    below,
    volume: pair.volume,
    turn: pair.turn,
    vagueExtents: true,
    grow: size_bytes => {
      below.grow(size_bytes);
      pair.volume.grow(size_bytes);
    },
    close: () => pair.volume.close(),
  };
}

function limits(seed: number): () => number {
  let x = seed;
  return () => {
    x = (Math.imul(x, 1_103_515_245) + 12_345) >>> 0;
    return x % 7 === 0 ? 1 + (x % 50) : 1 + (x % 200_000);
  };
}

exam(t, 'remote', () => make());
exam(t, 'remote over four connections that cut at random', () =>
  make({ connections: 4, limit: limits(5) }, true),
);

void t.test('several connections are used where the server allows it', async t => {
  const examined = make({ connections: 4 });
  t.teardown(() => examined.close());
  for (let i = 0; i < 200; i++) examined.turn();
  t.equal(examined.pair.remote.connectionCount, 4);
});

void t.test('knows extents once it has asked', async t => {
  const examined = make();
  t.teardown(() => examined.close());
  write(examined, 1 * MiB, new Uint8Array(65_536).fill(1));
  const list = newExtentList(16);
  examined.volume.extents(0, EXAM_BYTES, list);
  t.equal(list.flags[0], 0, 'data, as long as nothing is known');
  for (let i = 0; i < 20; i++) examined.turn();
  examined.volume.extents(0, EXAM_BYTES, list);
  t.same([...list.lengths_bytes.subarray(0, list.count)], [1 * MiB, 65_536, 7 * MiB - 65_536]);
  t.same([...list.flags.subarray(0, list.count)], [3, 0, 3]);
  write(examined, 2 * MiB, new Uint8Array(4096).fill(1));
  examined.volume.extents(2 * MiB, 4096, list);
  t.equal(list.flags[0], 0, 'what was written is no zero');
});

/** A server whose machine goes down: what was not flushed is lost, or some of it. */
class Forgetful extends MemoryVolume {
  #saved = Buffer.alloc(EXAM_BYTES);
  #now = Buffer.alloc(EXAM_BYTES);

  constructor(later: Later) {
    super(EXAM_BYTES, later);
  }
  override tryWrite(
    offset: number,
    length: number,
    memory: { address: number; bytes: Uint8Array },
    at: number,
  ): number {
    this.#now.set(memory.bytes.subarray(at, at + length), offset);
    return super.tryWrite(offset, length, memory, at);
  }
  override zero(...args: Parameters<MemoryVolume['zero']>): void {
    this.#now.fill(0, args[0], args[0] + args[1]);
    super.zero(...args);
  }
  override flush(...args: Parameters<MemoryVolume['flush']>): void {
    this.#saved = Buffer.from(this.#now);
    super.flush(...args);
  }
  /** Back to the last flush. */
  forget(): void {
    this.#now = Buffer.from(this.#saved);
    const memory = { address: 0, bytes: new Uint8Array(this.#saved) };
    super.tryWrite(0, EXAM_BYTES, memory, 0);
  }
}

void t.test('a server that restarts under load, and forgets what was not flushed, loses nothing', async t => {
  for (const seed of [1, 2, 3]) {
    const later = new Later();
    const below = new Forgetful(later);
    const pair = new Pair(below, later, EXAM_BYTES, { connections: (seed % 2) * 3 + 1, limit: limits(seed) });
    const examined: Examined = {
      volume: pair.volume,
      turn: pair.turn,
      grow: () => undefined,
      close: () => undefined,
    };
    const model = Buffer.alloc(EXAM_BYTES);
    let x = seed * 7919;
    const random = (below_: number): number => {
      x = (Math.imul(x, 1_664_525) + 1_013_904_223) >>> 0;
      return Math.floor((x / 2 ** 32) * below_);
    };
    for (let round = 0; round < 150; round++) {
      const offset = random(EXAM_BYTES - 70_000);
      const length = 1 + random(random(3) === 0 ? 70_000 : 5000);
      const kind = random(10);
      if (kind < 6) {
        const bytes = new Uint8Array(length).fill(1 + random(255));
        if (random(12) === 0) pair.kill();
        if (pair.down) setDown(pair, random(300));
        t.equal(write(examined, offset, bytes), 0);
        model.set(bytes, offset);
      } else if (kind === 6) {
        const how = { mayUnmap: true, fastOnly: false };
        t.equal(
          waitFor(examined, waiter => pair.volume.zero(offset, length, how, waiter, 7)),
          0,
        );
        model.fill(0, offset, offset + length);
      } else if (kind === 7) {
        t.equal(
          waitFor(examined, waiter => pair.volume.flush(waiter, 7)),
          0,
        );
      } else {
        if (random(3) === 0) {
          pair.kill();
          below.forget();
          setDown(pair, random(300));
        }
        t.equal(
          Buffer.compare(read(examined, offset, length), model.subarray(offset, offset + length)),
          0,
          `seed ${seed} round ${round}`,
        );
      }
    }
    t.equal(
      waitFor(examined, waiter => pair.volume.flush(waiter, 7)),
      0,
    );
    below.forget();
    const after = { address: 0, bytes: new Uint8Array(EXAM_BYTES) };
    below.tryRead(0, EXAM_BYTES, after, 0);
    t.equal(Buffer.compare(after.bytes, model), 0, 'what was flushed is there');
    t.ok(
      pair.remote.lossCount > 0 && pair.remote.replayCount > 0,
      `${pair.remote.lossCount} losses, ${pair.remote.replayCount} done again`,
    );
    t.equal(pair.volume.state, 'ok');
    pair.volume.close();
  }
});

/** Back after so many turns. */
function setDown(pair: Pair, turns: number): void {
  for (let i = 0; i < turns; i++) pair.turn();
  pair.down = false;
}

void t.test('more than may be kept is flushed by itself', async t => {
  const examined = make();
  t.teardown(() => examined.close());
  for (let i = 0; i < 30; i++) write(examined, (i % 7) * MiB, new Uint8Array(1 * MiB).fill(i));
  t.ok(examined.below.flushCount >= 2, `${examined.below.flushCount} flushes`);
});

void t.test('patience: waits, then EIO, then well again', async t => {
  const examined = make({ patience_ms: 2000 });
  const { pair } = examined;
  t.teardown(() => examined.close());
  t.equal(write(examined, 0, new Uint8Array(4096).fill(1)), 0);
  pair.kill();
  t.equal(write(examined, 4096, new Uint8Array(4096).fill(2)), -ERRNO.EIO);
  t.ok(pair.now_ms >= 2000, 'it waited');
  t.equal(pair.volume.state, 'degraded');
  t.match(pair.volume.reason, /NBD server pair/);
  const before_ms = pair.now_ms;
  t.equal(
    waitFor(examined, waiter => pair.volume.flush(waiter, 7)),
    -ERRNO.EIO,
  );
  t.ok(pair.now_ms < before_ms + 10, 'without waiting again');
  pair.down = false;
  for (let i = 0; i < 6000; i++) pair.turn();
  t.equal(pair.volume.state, 'ok');
  t.equal(
    waitFor(examined, waiter => pair.volume.flush(waiter, 7)),
    0,
  );
  t.equal(read(examined, 0, 1)[0], 1);
  t.same(pair.states, ['degraded', 'degraded', 'ok'].slice(-pair.states.length));
});

void t.test('a server that is silent is a server that is away', async t => {
  const examined = make({ patience_ms: 2000 });
  const { pair } = examined;
  t.teardown(() => examined.close());
  write(examined, 0, new Uint8Array(4096).fill(1));
  for (const { pipe } of pair.sessions) pipe.stopped = true;
  pair.down = true;
  t.equal(write(examined, 4096, new Uint8Array(4096).fill(2)), -ERRNO.EIO);
  t.equal(pair.volume.state, 'degraded');
});

void t.test('another export than was expected is not used', async t => {
  const later = new Later();
  const pair = new Pair(new MemoryVolume(EXAM_BYTES / 2, later), later, EXAM_BYTES);
  for (let i = 0; i < 100; i++) pair.turn();
  t.equal(pair.volume.state, 'degraded');
  t.match(pair.volume.reason, /has 4194304 bytes, 8388608 are expected/);
  pair.volume.close();
});

void t.test('a read-only export takes no writes', async t => {
  const examined = make({ readOnly: true });
  t.teardown(() => examined.close());
  t.equal(write(examined, 0, new Uint8Array(512)), -ERRNO.EPERM);
  t.equal(read(examined, 0, 512)[0], 0);
});
