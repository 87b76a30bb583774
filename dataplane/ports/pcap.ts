/**
 * A recorder as a port: writes every frame that the switch sends to it into a pcapng file, receives nothing.
 * A file that exists is replaced. Blocks are laid out in a slot of the pool and written once per turn, to the
 * page cache; a disk that is full or broken makes the port's state an error, and the file is begun anew later.
 */
import { EINTR, errnoName } from '../../host/errno.js';
import { O_CREAT, O_TRUNC, O_WRONLY, openFile } from '../../host/file.js';
import * as raw from '../../host/raw.js';
import { SLOT_BYTES } from '../engine/arena.js';
import { C } from '../engine/counters.js';
import { FRAME_WORDS, LENGTH } from '../engine/frames.js';
import type { FrameTable, Queue } from '../engine/frames.js';
import type { Link } from '../engine/link.js';
import type { Port } from '../engine/port.js';
import { Timer } from '../engine/timers.js';
import * as pcapng from '../wire/pcapng.js';
import * as vlan from '../wire/vlan.js';
import { Backoff } from './backoff.js';
import { copyEdited } from './copies.js';
import { countAllDropped, countSent } from './sent.js';

const SNAP_LENGTH = 0x4_0000;

export class PcapPort implements Port {
  readonly kind = 'pcap';
  readonly #link: Link;
  readonly #path: string;
  readonly #wallClock_us: () => number;
  readonly #retry: Timer;
  readonly #backoff = new Backoff(1000, 30_000);
  #fd = -1;

  constructor(link: Link, path: string, wallClock_us: () => number) {
    this.#link = link;
    this.#path = path;
    this.#wallClock_us = wallClock_us;
    this.#retry = new Timer(() => this.open());
  }

  open(): void {
    const { pool } = this.#link.loop;
    try {
      this.#fd = openFile(this.#path, O_WRONLY | O_CREAT | O_TRUNC, 0o600);
    } catch (error) {
      this.#fail(`cannot record to ${this.#path}: ${error instanceof Error ? error.message : String(error)}`);
      return;
    }
    const slot = pool.take();
    if (slot < 0) {
      this.#fail(`cannot record to ${this.#path}: no buffer free`);
      return;
    }
    const at = pool.arena.slotAt(slot);
    const { view } = pool.arena;
    let end = at + pcapng.emitSectionHeader(view, at);
    end += pcapng.emitInterfaceDescription(view, end, Buffer.from(this.#link.name), SNAP_LENGTH);
    const isWritten = this.#write(at, end - at);
    pool.release(slot);
    if (!isWritten) return;
    this.#backoff.reset();
    this.#link.setState('up', null);
  }

  close(): void {
    this.#link.loop.timers.cancel(this.#retry);
    if (this.#fd >= 0) raw.close(this.#fd);
    this.#fd = -1;
  }

  #fail(reason: string): void {
    this.close();
    this.#link.setState('error', reason);
    this.#link.loop.timers.arm(this.#retry, this.#link.loop.now_ms + this.#backoff.next_ms());
  }

  receive(): boolean {
    return false;
  }

  transmit(frames: FrameTable, queue: Queue): void {
    const { pool } = this.#link.loop;
    const row = this.#link.counters;
    const slot = this.#fd < 0 ? -1 : pool.take();
    if (slot < 0) {
      countAllDropped(row, queue, this.#fd < 0 ? C.dropNotUp : C.dropNoBuffer);
      return;
    }
    const { view } = pool.arena;
    const time_us = this.#wallClock_us();
    const slotAt = pool.arena.slotAt(slot);
    let end = slotAt;
    for (let i = 0; i < queue.count; i++) {
      const frame = queue.frame(i);
      const edit = queue.edit(i);
      const length_bytes = frames.words[frame * FRAME_WORDS + LENGTH]! + vlan.growth(edit);
      if (end + pcapng.enhancedPacketLength(length_bytes) > slotAt + SLOT_BYTES) {
        if (!this.#write(slotAt, end - slotAt)) break;
        end = slotAt;
      }
      copyEdited(pool, frames.words, frame * FRAME_WORDS, edit, end + pcapng.ENHANCED_PACKET_DATA);
      end += pcapng.emitEnhancedPacket(
        view,
        end,
        0,
        time_us,
        length_bytes,
        length_bytes,
        pcapng.DIRECTION_OUT,
      );
      countSent(row, view, frames, frame, edit);
    }
    if (this.#fd >= 0) this.#write(slotAt, end - slotAt);
    pool.release(slot);
  }

  #write(at: number, length_bytes: number): boolean {
    let from = at;
    const end = at + length_bytes;
    while (from < end) {
      const n = raw.write(this.#fd, this.#link.loop.pool.arena.address + from, end - from);
      if (n === -EINTR) continue;
      if (n <= 0) {
        this.#link.counters[C.ifOutErrors]!++;
        this.#fail(`recording to ${this.#path}: ${errnoName(-n)}`);
        return false;
      }
      from += n;
      this.#link.counters[C.writeCalls]!++;
    }
    return true;
  }
}
