/**
 * A volume that is an export of another NBD server.
 *
 *   away --a link is up--> replaying --all done again--> up --any link down, or silent for too long--> away
 *
 * All links end when one does, so that what is asked at any time is asked of one incarnation of the server. Then:
 *
 * - Requests in flight are sent again on the new connection: all are idempotent. What cannot be excluded: a server that still
 *   works on a request of a connection that is long dead (behind a network that was cut, not a server that ended) does it
 *   after a newer write to the same place was done again and answered. NBD has no fence against that; no client has.
 * - Writes that were acknowledged but not flushed may be lost by a server that went down. They are kept (unflushed.ts) and
 *   done again before anything else, so a client of ours sees a pause and no loss. The price is one copy of what is written
 *   and a flush of our own whenever half of KEPT_BYTES is used. The other way, to answer EIO to the next flush, would
 *   make each restart of a server a remount of each file system above. A server without NBD_CMD_FLUSH promises
 *   nothing, and gets nothing kept.
 * - Whoever else writes to the export meanwhile is overwritten: one writer is assumed, as for any disk.
 *
 * Requests wait `patience_ms` for a server that is away, or that owes answers and is silent; then they and all that come
 * answer EIO until it is back (what is kept stays kept). 0: for ever. A flush that the server answers with an error, or
 * kept writes that it refuses, make the volume `failed` for good, as everywhere (volume.ts).
 *
 * Requests smaller than the server's smallest block come through aligned.ts, never here. Extents: extentCache.ts.
 */
import type { Chunk } from '../nbd/chunks.js';
import * as wire from '../nbd/wire.js';
import { AskedVolume, CACHE, changes, FLUSH, TRIM, WRITE, ZERO, type AskedKind } from '../volume/asked.js';
import type { Later } from '../volume/later.js';
import { ERRNO, type ExtentList, type Memory } from '../volume/volume.js';
import { EXTENT_DATA, pushExtent, type VolumeState, type Waiter, type ZeroHow } from '../volume/volume.js';
import type { Agreed } from './clientNegotiation.js';
import { ExtentCache } from './extentCache.js';
import { LINK_CHUNK_BYTES, Link, type Dial, type LinkOwner } from './link.js';
import { REPLAY, Requests, STATUS, type Part } from './requests.js';
import { KEPT_WRITE, KEPT_ZERO, Unflushed } from './unflushed.js';

export interface RemoteVolumeParts {
  readonly exportName: string;
  readonly size_bytes: number;
  /** At most; more than one only where the server says that they see each other's writes. */
  readonly connections: number;
  readonly patience_ms: number;
  readonly tls: boolean;
  /** For people: where the server is. */
  readonly where: string;
  readonly dial: Dial;
  /** No connection is dialled any more. */
  readonly closed: () => void;
  readonly allocate: (length_bytes: number) => Chunk & { unmap(): void };
  readonly later: Later;
  readonly now_ms: () => number;
  /** `settle` is to be called before the turn ends. */
  readonly touch: (volume: RemoteVolume) => void;
  readonly onState: (volume: RemoteVolume) => void;
}

/** What a server may have to be told again: bytes, and requests. */
const KEPT_BYTES = 16 * 1024 * 1024;
const KEPT_ENTRIES = 8192;
const HANDSHAKE_LIMIT_MS = 10_000;
const RETRY_FIRST_MS = 250;
const RETRY_LIMIT_MS = 5000;
const STATUS_LENGTH_BYTES = 1024 * 1024 * 1024;
/** Until a server has told: the largest that one may have. */
const UNKNOWN_BLOCK_BYTES = 65_536;
const REPLAY_BATCH = 64;
/** Requests of a turn that go on one connection, so by one send, before the next takes its share. */
const BATCH = 16;
/** A server that is away is waited for so long when the volume is closed. */
const SHUT_LIMIT_MS = 5000;

export class RemoteVolume extends AskedVolume implements LinkOwner {
  size_bytes: number;
  state: VolumeState = 'ok';
  reason: string | null = null;
  /** Connections lost, and writes done again. */
  lossCount = 0;
  replayCount = 0;
  #parts: RemoteVolumeParts;
  #phase: 'away' | 'replaying' | 'up' | 'closed' = 'away';
  #agreed: Agreed | null = null;
  #links: Link[] = [];
  #requests: Requests;
  #kept: Unflushed | null = null;
  #cache = new ExtentCache();
  #chunks: (Chunk & { unmap(): void })[] = [];
  #spare: Chunk[] = [];
  #zeroes: Chunk | null = null;
  #touched = false;
  #awaySince_ms: number;
  #expired = false;
  #failed = false;
  #retryAt_ms = 0;
  #retry_ms = RETRY_FIRST_MS;
  #dialledAt_ms = 0;
  #flushWaiting: { waiter: Waiter; token: number }[] = [];
  #flushRunning: { waiter: Waiter; token: number }[] = [];
  #flushing = false;
  #statusFrom = -1;
  #shutBy_ms = Infinity;
  #replayNext = 0;
  #replayBatch = 0;
  #replayOpen = 0;

  constructor(parts: RemoteVolumeParts) {
    super();
    this.#parts = parts;
    this.size_bytes = parts.size_bytes;
    this.#awaySince_ms = parts.now_ms();
    this.#requests = new Requests(() => this.#zeroMemory());
    // The first dial is made there, when whoever made this knows it and can be told.
    this.#touch();
  }

  get busy(): boolean {
    return this.#requests.busy || this.#flushWaiting.length > 0 || this.#flushRunning.length > 0;
  }

  get minimumBlock_bytes(): number {
    return this.#agreed?.minimumBlock_bytes ?? UNKNOWN_BLOCK_BYTES;
  }

  get serverSize_bytes(): number | null {
    return this.#agreed?.size_bytes ?? null;
  }

  get connectionCount(): number {
    return this.#links.filter(link => link.state === 'up').length;
  }

  /** The export is so long by now. */
  grow(size_bytes: number): void {
    if (size_bytes <= this.size_bytes) return;
    this.size_bytes = size_bytes;
    // Most servers tell a size to a connection once.
    if (this.#agreed !== null && this.#agreed.size_bytes < size_bytes) this.#lost(null);
  }

  tryRead(): number {
    return -ERRNO.EAGAIN;
  }
  tryWrite(): number {
    return -ERRNO.EAGAIN;
  }

  protected ask(
    kind: AskedKind,
    offset: number,
    length: number,
    memory: Memory | null,
    at: number,
    how: ZeroHow | null,
    waiter: Waiter,
    token: number,
  ): void {
    const changing = changes(kind);
    if (this.#expired || this.#phase === 'closed' || (this.#failed && (changing || kind === FLUSH)))
      return this.#parts.later.answer(waiter, token, -ERRNO.EIO);
    if (changing) this.#cache.forget(offset, length);
    if (kind === FLUSH) this.#flushWaiting.push({ waiter, token });
    else this.#requests.add(kind, offset, length, memory, at, flagsOf(how), waiter, token);
    this.#touch();
  }

  extents(offset: number, length: number, into: ExtentList): number {
    if (this.#phase !== 'up' || this.#agreed!.contextId < 0) {
      into.count = 0;
      pushExtent(into, length, EXTENT_DATA);
    } else if (this.#cache.fill(offset, length, this.#parts.now_ms(), into) && this.#statusFrom < 0) {
      this.#statusFrom = offset;
      this.#touch();
    }
    return 0;
  }

  /** A few times a second. */
  tick(now_ms: number): void {
    if (this.#phase === 'closed') return;
    if (now_ms > this.#shutBy_ms) return this.close();
    const { patience_ms } = this.#parts;
    for (const link of this.#links) {
      const owes_ms = link.inFlight > 0 ? now_ms - link.waitingSince_ms : 0;
      if (patience_ms > 0 && owes_ms > patience_ms) {
        this.#lost(`has not answered for ${Math.round(owes_ms / 1000)} s`, link.waitingSince_ms);
        break;
      }
      if (link.state !== 'up' && now_ms - this.#dialledAt_ms > HANDSHAKE_LIMIT_MS) {
        link.drop('no answer to the handshake');
        break;
      }
    }
    if (
      this.#phase !== 'up' &&
      !this.#expired &&
      patience_ms > 0 &&
      now_ms - this.#awaySince_ms > patience_ms
    )
      this.#expire();
    if (now_ms >= this.#retryAt_ms && this.#wantsLink) this.#dial();
  }

  settle(): void {
    this.#touched = false;
    if (this.#phase === 'away' && this.#wantsLink && this.#parts.now_ms() >= this.#retryAt_ms) this.#dial();
    if (this.#phase === 'replaying') this.#replay();
    if (this.#phase === 'up') this.#pump();
    for (const link of this.#links) link.flush();
  }

  /** Nobody asks any more: what is with the server is flushed, if it can be had. */
  shut(done: (result: number) => void): void {
    this.#shutBy_ms = this.#parts.now_ms() + SHUT_LIMIT_MS;
    this.flush({ completed: (_token, result) => done(result) }, 0);
  }

  /** Says goodbye. What waits is answered EIO. */
  close(): void {
    if (this.#phase === 'closed') return;
    for (const link of this.#links) link.close();
    this.#gather();
    this.#phase = 'closed';
    this.#failWaiting();
    for (const chunk of this.#chunks) chunk.unmap();
    this.#chunks = [];
    this.#spare = [];
    this.#parts.closed();
  }

  // ---- links ----

  linkUp(link: Link, agreed: Agreed): void {
    const problem = this.#problemOf(agreed);
    if (problem !== null) return link.drop(problem);
    this.#touch();
    if (this.#phase !== 'away') return;
    const grown = this.#agreed !== null && agreed.size_bytes > this.#agreed.size_bytes;
    this.#agreed = agreed;
    if (grown) this.#parts.onState(this);
    const loses =
      (agreed.flags & (wire.NBD_FLAG_SEND_FLUSH | wire.NBD_FLAG_READ_ONLY)) === wire.NBD_FLAG_SEND_FLUSH;
    if (loses) this.#kept ??= new Unflushed(this.#map(KEPT_BYTES), KEPT_BYTES, KEPT_ENTRIES);
    this.#requests.kept = this.#kept;
    this.#replayNext = this.#replayBatch = this.#kept?.oldest ?? 0;
    this.#replayOpen = 0;
    this.#phase = 'replaying';
  }

  linkDown(link: Link, why: string): void {
    if (!this.#links.includes(link)) return;
    if (this.#phase !== 'away' && link.agreed === null) {
      // One more that could not be had: the others go on.
      this.#links = this.#links.filter(other => other !== link);
      this.#later();
      return;
    }
    this.#lost(why);
  }

  linkRoom(): void {
    this.#touch();
  }

  #problemOf(agreed: Agreed): string | null {
    if (agreed.size_bytes < this.size_bytes)
      return `export has ${agreed.size_bytes} bytes, ${this.size_bytes} are expected`;
    if (this.#agreed !== null && agreed.minimumBlock_bytes > this.#agreed.minimumBlock_bytes)
      return `export's smallest block has become ${agreed.minimumBlock_bytes}`;
    return null;
  }

  get #wantsLink(): boolean {
    if (this.#phase === 'away') return this.#links.length === 0;
    const multi = (this.#agreed!.flags & wire.NBD_FLAG_CAN_MULTI_CONN) !== 0;
    return this.#phase === 'up' && multi && this.#links.length < this.#parts.connections;
  }

  #dial(): void {
    this.#dialledAt_ms = this.#parts.now_ms();
    const link = new Link({
      owner: this,
      dial: this.#parts.dial,
      exportName: this.#parts.exportName,
      tls: this.#parts.tls,
      take: length_bytes => this.#spare.pop() ?? this.#map(length_bytes),
      give: chunk => void this.#spare.push(chunk),
      later: this.#parts.later,
      now_ms: this.#parts.now_ms,
    });
    this.#links.push(link);
    if (link.state === 'down') this.linkDown(link, link.reason!);
  }

  #later(): void {
    this.#retryAt_ms = this.#parts.now_ms() + this.#retry_ms;
    this.#retry_ms = Math.min(this.#retry_ms * 2, RETRY_LIMIT_MS);
  }

  /** `why` null: on purpose, and not worth telling. */
  #lost(why: string | null, since_ms = this.#parts.now_ms()): void {
    if (this.#phase === 'closed') return;
    if (this.#phase === 'away') this.#later();
    else {
      this.lossCount++;
      this.#awaySince_ms = since_ms;
      // Right away, the first time: a server that restarts is back soon.
      this.#retryAt_ms = 0;
      this.#retry_ms = RETRY_FIRST_MS;
    }
    this.#gather();
    this.#phase = 'away';
    if (why !== null) this.#tell('degraded', `NBD server ${this.#parts.where}: ${why}`);
  }

  /** Takes back what links were asked, and ends them. */
  #gather(): void {
    const links = this.#links;
    this.#links = [];
    const again: Part[] = [];
    for (const link of links) {
      link.abort('another connection ended');
      for (const tag of link.abandoned) this.#takeBack(this.#requests.part(tag), again);
      link.abandoned = [];
    }
    this.#requests.sendAgain(again);
  }

  #takeBack(part: Part, again: Part[]): void {
    if (part.kind < FLUSH) {
      again.push(part);
      return;
    }
    if (part.kind === FLUSH) this.#flushBack();
    else if (part.kind === STATUS) this.#cache.end(false, 0);
    this.#requests.free(part);
  }

  #flushBack(): void {
    this.#flushing = false;
    this.#flushWaiting = [...this.#flushRunning, ...this.#flushWaiting];
    this.#flushRunning = [];
  }

  #expire(): void {
    this.#expired = true;
    this.#failWaiting();
  }

  #failWaiting(): void {
    const flushes = [...this.#flushRunning, ...this.#flushWaiting];
    this.#flushRunning = [];
    this.#flushWaiting = [];
    this.#requests.failAll(-ERRNO.EIO);
    for (const { waiter, token } of flushes) waiter.completed(token, -ERRNO.EIO);
  }

  #resume(): void {
    this.#phase = 'up';
    this.#expired = false;
    this.#retry_ms = RETRY_FIRST_MS;
    this.#retryAt_ms = 0;
    if (this.#wantsLink) this.#dial();
    if (this.state === 'degraded') this.#tell('ok', null);
  }

  // ---- requests ----

  #touch(): void {
    if (this.#touched) return;
    this.#touched = true;
    this.#parts.touch(this);
  }

  #pump(): void {
    let link: Link | null = null;
    for (let left = 0; this.#phase === 'up'; left--) {
      if (left === 0 || link === null || !link.hasRoom) {
        link = this.#roomiest();
        left = BATCH;
      }
      if (link === null) return;
      const part = this.#nextFlush() ?? this.#nextStatus() ?? this.#requests.next(this.#agreed!);
      if (part === null) {
        if (!this.#requests.wantsRoom || this.#flushing) return;
        this.#send(link, this.#makeFlush());
      } else if (!this.#send(link, part)) return;
    }
  }

  #roomiest(): Link | null {
    let found: Link | null = null;
    for (const link of this.#links)
      if (link.hasRoom && (found === null || link.inFlight < found.inFlight)) found = link;
    return found;
  }

  #send(link: Link, part: Part): boolean {
    const { type, flags, offset, length, memory, at, index } = part;
    if (part.kind === FLUSH) part.detail = this.#kept?.newest ?? 0;
    if (link.ask(type, flags, offset, length, memory, at, type === wire.NBD_CMD_WRITE, index)) return true;
    const again: Part[] = [];
    this.#takeBack(part, again);
    this.#requests.sendAgain(again);
    return false;
  }

  #nextFlush(): Part | null {
    if (this.#flushing) return null;
    if (this.#flushWaiting.length === 0) return this.#kept?.halfFull === true ? this.#makeFlush() : null;
    if (!this.#failed && (this.#agreed!.flags & wire.NBD_FLAG_SEND_FLUSH) !== 0) return this.#makeFlush();
    const result = this.#failed ? -ERRNO.EIO : 0;
    for (const { waiter, token } of this.#flushWaiting.splice(0)) waiter.completed(token, result);
    return null;
  }

  #makeFlush(): Part {
    this.#flushing = true;
    this.#flushRunning = this.#flushWaiting;
    this.#flushWaiting = [];
    return this.#requests.make(FLUSH, wire.NBD_CMD_FLUSH, 0, 0, 0);
  }

  #nextStatus(): Part | null {
    if (this.#statusFrom < 0 || this.#cache.asking) return null;
    const from = this.#statusFrom - (this.#statusFrom % this.minimumBlock_bytes);
    this.#statusFrom = -1;
    const length = Math.min(this.size_bytes - from, STATUS_LENGTH_BYTES);
    this.#cache.begin(from, length);
    return this.#requests.make(STATUS, wire.NBD_CMD_BLOCK_STATUS, 0, from, length);
  }

  #replay(): void {
    const kept = this.#kept;
    const link = this.#links[0]!;
    while (kept !== null && this.#replayNext < kept.newest && link.hasRoom) {
      if (this.#replayOpen === 0) this.#replayBatch = this.#replayNext;
      if (this.#replayNext - this.#replayBatch >= REPLAY_BATCH) break;
      if (kept.overlaps(this.#replayNext, this.#replayBatch)) break;
      this.#replayOpen++;
      if (!this.#send(link, this.#makeReplay(kept, this.#replayNext++))) {
        if (this.#phase === 'replaying') {
          this.#replayOpen--;
          this.#replayNext--;
        }
        return;
      }
      if ((this.#phase as string) !== 'replaying') return;
    }
    if (this.#replayOpen === 0 && (kept === null || this.#replayNext === kept.newest)) this.#resume();
  }

  #makeReplay(kept: Unflushed, entry: number): Part {
    const kind = kept.kind(entry);
    const detail = kept.detail(entry);
    const canZero = (this.#agreed!.flags & wire.NBD_FLAG_SEND_WRITE_ZEROES) !== 0;
    const isWrite = kind === KEPT_WRITE || (kind === KEPT_ZERO && !canZero);
    const type = isWrite
      ? wire.NBD_CMD_WRITE
      : kind === KEPT_ZERO
        ? wire.NBD_CMD_WRITE_ZEROES
        : wire.NBD_CMD_TRIM;
    const flags = type === wire.NBD_CMD_WRITE_ZEROES ? detail & ~wire.NBD_CMD_FLAG_FAST_ZERO : 0;
    const part = this.#requests.make(REPLAY, type, flags, kept.offset(entry), kept.length(entry));
    part.memory = kind === KEPT_WRITE ? kept.memory : isWrite ? this.#zeroMemory() : null;
    part.at = kind === KEPT_WRITE ? detail : 0;
    return part;
  }

  // ---- answers ----

  extent(_tag: number, length_bytes: number, flags: number): void {
    this.#cache.add(length_bytes, (flags & wire.NBD_STATE_HOLE) !== 0, (flags & wire.NBD_STATE_ZERO) !== 0);
  }

  answered(tag: number, error: number): void {
    const part = this.#requests.part(tag);
    this.#touch();
    if (error === wire.NBD_ESHUTDOWN) {
      const again: Part[] = [];
      this.#takeBack(part, again);
      this.#requests.sendAgain(again);
      return this.#lost('is shutting down');
    }
    if (part.kind === FLUSH) return this.#flushed(part, error);
    if (part.kind === STATUS) {
      this.#cache.end(error === 0, this.#parts.now_ms());
      return this.#requests.free(part);
    }
    if (part.kind === REPLAY) {
      this.#requests.free(part);
      this.#replayOpen--;
      this.replayCount++;
      if (error !== 0)
        this.#fail(`writes that it had acknowledged were lost by it, and refused again (error ${error})`);
      return;
    }
    const { kind, offset, length } = part;
    const changes = kind === WRITE || kind === ZERO || kind === TRIM;
    if (changes) this.#cache.forget(offset, length);
    if (kind === WRITE || kind === ZERO) this.#noteSpace(error);
    const isHint = kind === TRIM || kind === CACHE;
    const result = isHint && (error === wire.NBD_ENOTSUP || error === wire.NBD_EINVAL) ? 0 : error;
    this.#requests.answered(part, result === wire.NBD_EOVERFLOW ? -ERRNO.EIO : -result);
  }

  #flushed(part: Part, error: number): void {
    if (error === 0) this.#kept?.flushed(part.detail);
    else this.#fail(`a flush failed (error ${error})`);
    this.#requests.free(part);
    this.#flushing = false;
    const done = this.#flushRunning;
    this.#flushRunning = [];
    for (const { waiter, token } of done) waiter.completed(token, error === 0 ? 0 : -ERRNO.EIO);
  }

  #noteSpace(error: number): void {
    if (error === wire.NBD_ENOSPC) this.#tell('full', `NBD server ${this.#parts.where} has no space left`);
    else if (error === 0 && this.state === 'full') this.#tell('ok', null);
  }

  #fail(why: string): void {
    this.#failed = true;
    this.#kept = this.#requests.kept = null;
    this.#tell('failed', `NBD server ${this.#parts.where}: ${why}`);
  }

  #tell(state: VolumeState, reason: string | null): void {
    if ((this.#failed && state !== 'failed') || (this.state === state && this.reason === reason)) return;
    this.state = state;
    this.reason = reason;
    this.#parts.onState(this);
  }

  #map(length_bytes: number): Chunk {
    const chunk = this.#parts.allocate(length_bytes);
    this.#chunks.push(chunk);
    return chunk;
  }

  #zeroMemory(): Memory {
    if (this.#zeroes === null) {
      this.#zeroes = this.#map(LINK_CHUNK_BYTES);
      this.#zeroes.bytes.fill(0);
    }
    return this.#zeroes;
  }
}

/** Of NBD_CMD_WRITE_ZEROES. */
function flagsOf(how: ZeroHow | null): number {
  if (how === null) return 0;
  return (how.mayUnmap ? 0 : wire.NBD_CMD_FLAG_NO_HOLE) | (how.fastOnly ? wire.NBD_CMD_FLAG_FAST_ZERO : 0);
}
