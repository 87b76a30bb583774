import assert from 'node:assert';
import { Budget, ChunkPool } from '../../../storage/nbd/chunks.js';
import type { Chunk } from '../../../storage/nbd/chunks.js';
import { Connection } from '../../../storage/nbd/connection.js';
import type { ServedOffer } from '../../../storage/nbd/connection.js';
import { EXPORT_COUNTERS, SERVER_COUNTERS, newCounters } from '../../../storage/nbd/counters.js';
import type { Channel } from '../../../storage/nbd/output.js';
import * as wire from '../../../storage/nbd/wire.js';
import { FaultyVolume } from '../../../storage/volume/faulty.js';
import { Later } from '../../../storage/volume/later.js';
import { MemoryVolume } from '../../../storage/volume/memory.js';
import { newExtentList } from '../../../storage/volume/volume.js';
import type { BlockMeta, ContextExtentList } from '../../../storage/volume/volume.js';
import { cuts } from '../harness.js';
import type { Target } from '../harness.js';
import { checkReplies } from '../nbdReplies.js';
import { LONG_SESSIONS, SESSIONS } from '../nbdSessions.js';
import type { Random } from '../random.js';

const EAGAIN = -11;
const EPIPE = -32;
const TURNS_MAX = 200_000;
const BUDGET_BYTES = 1 << 20;

/** Addresses that nobody dereferences: 1 MiB apart, so that each tells its memory. */
class FakeMemory {
  readonly #maps: Uint8Array[] = [];

  readonly allocate = (length_bytes: number): Chunk & { unmap(): void } => {
    const bytes = new Uint8Array(length_bytes);
    this.#maps.push(bytes);
    const address = this.#maps.length * 2 ** 20;
    return { address, bytes, view: new DataView(bytes.buffer), length_bytes, unmap: () => {} };
  };

  at(address: number, length_bytes: number): Uint8Array {
    const bytes = this.#maps[Math.floor(address / 2 ** 20) - 1];
    const offset = address % 2 ** 20;
    assert(
      bytes !== undefined && length_bytes > 0 && offset + length_bytes <= bytes.length,
      'outside of memory',
    );
    return bytes.subarray(offset, offset + length_bytes);
  }
}

/** Knows how many chunks are out. */
class CountedPool extends ChunkPool {
  out = 0;
  override takeLarge(): Chunk {
    this.out++;
    return super.takeLarge();
  }
  override takeSmall(): Chunk {
    this.out++;
    return super.takeSmall();
  }
  override give(chunk: Chunk): void {
    this.out--;
    super.give(chunk);
  }
}

/** With contexts, so that a block status has several chunks. */
class TellingVolume extends FaultyVolume {
  readonly #meta: BlockMeta = {
    contexts: () => ['qemu:allocation-depth', '', 'qemu:dirty-bitmap:s'],
    contextExtents: (context: number, offset: number, length: number, into: ContextExtentList) => {
      const result = this.extents(offset, length, this.#extents);
      into.count = Math.min(into.values.length, this.#extents.count);
      for (let i = 0; i < into.count; i++) {
        into.lengths_bytes[i] = this.#extents.lengths_bytes[i]!;
        into.values[i] = this.#extents.flags[i]! * context;
      }
      return result;
    },
  };
  #extents = newExtentList(512);

  override get meta(): BlockMeta {
    return this.#meta;
  }
}

/** The client's side of the socket: gives piece by piece, takes by moods, and goes away in the end. */
class FakeChannel implements Channel {
  readonly sent: Uint8Array[] = [];
  hangsUp = false;
  readonly #memory: FakeMemory;
  readonly #pieces: Uint8Array[];
  readonly #random: Random;
  #next = 0;

  constructor(memory: FakeMemory, pieces: Uint8Array[], random: Random) {
    this.#memory = memory;
    this.#pieces = pieces;
    this.#random = random;
  }

  recv(address: number, length_bytes: number): number {
    if (this.#random.below(8) === 0) return EAGAIN;
    const piece = this.#pieces[this.#next];
    if (piece === undefined) return 0;
    const length = Math.min(piece.length, length_bytes);
    this.#memory.at(address, length_bytes).set(piece.subarray(0, length));
    if (length < piece.length) this.#pieces[this.#next] = piece.subarray(length);
    else this.#next++;
    return length;
  }

  send(address: number, length_bytes: number): number {
    const bytes = this.#memory.at(address, length_bytes);
    if (this.hangsUp) return EPIPE;
    const mood = this.#random.below(8);
    if (mood === 0) return EAGAIN;
    const length = mood === 1 ? 1 + this.#random.below(length_bytes) : length_bytes;
    this.sent.push(bytes.slice(0, length));
    return length;
  }
}

export const target: Target = {
  says: 'a whole NBD connection on a slow and faulty volume: it ends, gives all memory and budget back, and says nothing but replies',
  samples: [...SESSIONS, ...LONG_SESSIONS],
  run(input, random) {
    const later = new Later();
    const memoryVolume = new MemoryVolume(1 << 20, later, random.pick([1 << 20, 16_384]));
    const volume = new TellingVolume(memoryVolume, later, {
      seed: random.u32(),
      again_ppm: random.pick([0, 500_000]),
      delay_ppm: random.pick([0, 300_000]),
      error_ppm: random.pick([0, 0, 100_000]),
      flushError_ppm: random.pick([0, 0, 100_000]),
    });
    const offer: ServedOffer = {
      name: 'disk',
      size_bytes: volume.size_bytes,
      readOnly: random.below(8) === 0,
      minimumBlock_bytes: random.pick([1, 1, 512, 16_384]),
      contexts: () => volume.meta.contexts(),
      volume,
      counters: newCounters(EXPORT_COUNTERS),
    };
    const offers = {
      find: (name: string) => (name === 'disk' ? offer : null),
      listReply: () => wire.optionReply(3, wire.NBD_REP.SERVER, wire.serverRecord('disk')),
    };
    const memory = new FakeMemory();
    const pool = new CountedPool(memory.allocate);
    const budget = new Budget(BUDGET_BYTES);
    const channel = new FakeChannel(memory, cuts(input, random), random);
    const serverCounters = newCounters(SERVER_COUNTERS);
    let touched = true;
    const touch = () => {
      touched = true;
    };
    const connection = new Connection({ channel, offers, pool, budget, serverCounters, touch });
    // Told whether other clients wait; a reader that does not ask is fine, too.
    const readable: (alone: boolean) => void = connection.readable.bind(connection);
    const hangsUpAt = random.below(4) === 0 ? random.below(60) : -1;

    for (let turn = 0; !connection.closed; turn++) {
      assert(turn < TURNS_MAX, 'the connection never ends');
      if (turn === hangsUpAt) channel.hangsUp = true;
      if (connection.wantsOutput) connection.writable();
      if (connection.wantsInput) readable(random.below(2) === 0);
      later.turn();
      budget.turn();
      if (touched) {
        touched = false;
        connection.settle();
      }
    }
    // What was with the volume still ends, and gives its memory back then.
    for (let turn = 0; later.pending > 0; turn++) {
      assert(turn < TURNS_MAX);
      later.turn();
    }
    assert.equal(pool.out, 0, 'chunks that nobody gave back');
    assert.equal(budget.left_bytes, BUDGET_BYTES, 'budget that nobody gave back');
    for (const counters of [offer.counters, serverCounters])
      assert(counters.every(count => Number.isSafeInteger(count) && count >= 0));
    assert.equal(offer.counters[EXPORT_COUNTERS.indexOf('connections')], 0);
    checkReplies(Buffer.concat(channel.sent));
  },
};
