/**
 * The dialogue of host/vhost/session.ts, of a disk: its configuration, the channel back to QEMU, and the memory in
 * which requests under way are noted (inflight.ts).
 *
 * Memory and rings change only while nothing is under way (`mayHandle`): so an answer that comes later always finds its
 * guest's memory where it was, and GET_VRING_BASE is answered when all that was taken has been given back.
 */
import { F_SEAL_SHRINK, createMemfd } from '../../host/foreign.js';
import { MSG_DONTWAIT, MSG_NOSIGNAL, send } from '../../host/raw.js';
import { mapAnonymous } from '../../host/memory.js';
import type { Backing } from '../../host/vhost/memory.js';
import type { Ring } from '../../host/vhost/ring.js';
import { Refused, Session, type Kernel } from '../../host/vhost/session.js';
import {
  BACKEND_REQUEST,
  CONFIG_MAX_BYTES,
  FEATURE,
  HEADER_LENGTH,
  PROTOCOL,
  REQUEST,
  VERSION,
  emitConfig,
  emitHeader,
  emitInflight,
  parseConfig,
  parseInflight,
  requestName,
  type Inflight,
} from '../../host/vhost/wire.js';
import { InflightQueue, inflightLength_bytes } from './inflight.js';
import { F, emitConfig as emitDiskConfig } from './virtioBlk.js';

/** Of a ring; QEMU's default is 128. */
export const RING_MAX = 1024;

const bits = (...features: number[]): bigint =>
  features.reduce((all, feature) => all | (1n << BigInt(feature)), 0n);

const PROTOCOL_OFFERED = bits(
  PROTOCOL.MQ,
  PROTOCOL.REPLY_ACK,
  PROTOCOL.BACKEND_REQ,
  PROTOCOL.CONFIG,
  PROTOCOL.INFLIGHT_SHMFD,
);

/** The same for a disk at all times, since a guest that reconnects must find what it negotiated. */
export function offered(readOnly: boolean): bigint {
  const all = bits(
    F.SIZE_MAX,
    F.SEG_MAX,
    F.BLK_SIZE,
    F.FLUSH,
    F.TOPOLOGY,
    F.MQ,
    F.DISCARD,
    F.WRITE_ZEROES,
    FEATURE.INDIRECT_DESC,
    FEATURE.EVENT_IDX,
    FEATURE.PROTOCOL_FEATURES,
    FEATURE.VERSION_1,
  );
  return readOnly ? all | bits(F.RO) : all;
}

/** These would pull memory or rings from under requests. */
const CHANGES = new Set<number>([
  REQUEST.SET_FEATURES,
  REQUEST.SET_MEM_TABLE,
  REQUEST.SET_VRING_NUM,
  REQUEST.SET_VRING_ADDR,
  REQUEST.SET_VRING_BASE,
  REQUEST.GET_VRING_BASE,
  REQUEST.SET_VRING_KICK,
  REQUEST.SET_INFLIGHT_FD,
  REQUEST.GET_INFLIGHT_FD,
  REQUEST.RESET_OWNER,
  REQUEST.RESET_DEVICE,
]);

export interface DiskSide {
  readonly queues: number;
  readonly readOnly: boolean;
  readonly block_bytes: number;
  readonly size_bytes: number;
  /** Nothing is under way, of this connection or of one before it. */
  readonly quiet: boolean;
}

/** One for the thread, used up within one call. */
const outgoing = mapAnonymous(HEADER_LENGTH);
const CONFIG_CHANGE = { request: BACKEND_REQUEST.CONFIG_CHANGE_MSG, flags: VERSION, size: 0 };

export class DiskSession extends Session {
  /** By ring; empty where the peer keeps none. */
  inflight: InflightQueue[] = [];
  /** By ring: heads to be carried out again before anything else is taken, oldest first. */
  readonly again: number[][] = [];
  #disk: DiskSide;
  #backing: Backing | null = null;
  #backendFd = -1;
  readonly #config = new DataView(new ArrayBuffer(CONFIG_MAX_BYTES));

  constructor(disk: DiskSide, kernel: Kernel, onKickFd: (ring: Ring, isComing: boolean) => void) {
    super({
      kernel,
      ringCount: disk.queues,
      queueCount: disk.queues,
      offered: offered(disk.readOnly),
      protocolOffered: PROTOCOL_OFFERED,
      onKickFd,
    });
    this.#disk = disk;
    for (let i = 0; i < disk.queues; i++) this.again.push([]);
  }

  /** Writes are answered when they are durable: the driver knows no flushes. 5.2.6.2 */
  get writeThrough(): boolean {
    return !this.hasFeature(F.FLUSH);
  }

  override reset(): void {
    super.reset();
    this.#dropArea();
    if (this.#backendFd >= 0) this.kernel.close(this.#backendFd);
    this.#backendFd = -1;
  }

  override mayHandle(request: number): boolean {
    return this.#disk.quiet || !CHANGES.has(request);
  }

  /** The disk has grown: QEMU reads the configuration again and tells its guest. A peer that does not read misses it. */
  tellConfigChange(): void {
    if (this.#backendFd < 0) return;
    const length = emitHeader(outgoing.view, 0, CONFIG_CHANGE);
    send(this.#backendFd, outgoing.address, length, MSG_NOSIGNAL | MSG_DONTWAIT);
  }

  protected override ringStarted(ring: Ring): void {
    const again = this.again[ring.index]!;
    again.length = 0;
    if (ring.num > RING_MAX) return ring.fail(`it has ${ring.num} descriptors, and ${RING_MAX} are the most`);
    if (this.inflight.length === 0) return;
    const queue = this.inflight[ring.index];
    if (queue === undefined || queue.size < ring.num)
      return ring.fail('the memory for requests under way is too small for it');
    again.push(...queue.resume(ring.usedIndex).filter(head => head < ring.num));
    ring.lastAvail = (ring.usedIndex + again.length) & 0xffff;
  }

  protected override handleOther(
    request: number,
    view: DataView,
    at: number,
    end: number,
    fds: number[],
  ): number {
    switch (request) {
      case REQUEST.GET_CONFIG: {
        const asked = parseConfig(view, at, end);
        if (asked === undefined) throw new Refused('GET_CONFIG has a wrong length');
        this.#layConfig();
        const bytes = new Uint8Array(this.#config.buffer, asked.offset_bytes, asked.size_bytes);
        return emitConfig(this.reply, 0, asked.offset_bytes, bytes);
      }
      case REQUEST.SET_CONFIG: {
        if (parseConfig(view, at, end) === undefined) throw new Refused('SET_CONFIG has a wrong length');
        // Nothing in it is the driver's to write, since CONFIG_WCE was not offered: QEMU would not tell us again, when we
        // come back, that its guest wanted no cache.
        return -1;
      }
      case REQUEST.SET_BACKEND_REQ_FD: {
        if (fds[0] === undefined) throw new Refused('SET_BACKEND_REQ_FD came without its fd');
        if (this.#backendFd >= 0) this.kernel.close(this.#backendFd);
        this.#backendFd = fds[0];
        fds[0] = -1;
        return 0;
      }
      case REQUEST.GET_INFLIGHT_FD:
        return this.#makeArea(view, at, end);
      case REQUEST.SET_INFLIGHT_FD:
        return this.#takeArea(view, at, end, fds);
      default:
        throw new Refused(`the peer sent ${requestName(request)}, which was not offered`);
    }
  }

  /** Zeroes behind its end: versions of QEMU ask for as much as they know. */
  #layConfig(): void {
    const { size_bytes, block_bytes, queues } = this.#disk;
    emitDiskConfig(this.#config, 0, { size_bytes, block_bytes, queues });
  }

  #areaOf(request: number, view: DataView, at: number, end: number): Inflight {
    const area = parseInflight(view, at, end);
    if (area === undefined) throw new Refused(`${requestName(request)} has a wrong length`);
    if (area.queues < 1 || area.queues > this.rings.length || area.queueSize < 1 || area.queueSize > RING_MAX)
      throw new Refused(
        `${requestName(request)} names ${area.queues} queues of ${area.queueSize}; at most ${this.rings.length} of ${RING_MAX}`,
      );
    return area;
  }

  #makeArea(view: DataView, at: number, end: number): number {
    const { queues, queueSize } = this.#areaOf(REQUEST.GET_INFLIGHT_FD, view, at, end);
    const mmapSize_bytes = Math.ceil(inflightLength_bytes(queues, queueSize) / 4096) * 4096;
    this.replyFds.push(createMemfd('weft-inflight', mmapSize_bytes, F_SEAL_SHRINK));
    // As long as what was asked: QEMU's has padding, and it insists.
    return emitInflight(this.reply, 0, { mmapSize_bytes, mmapOffset_bytes: 0, queues, queueSize }, end - at);
  }

  #takeArea(view: DataView, at: number, end: number, fds: number[]): number {
    const { queues, queueSize, mmapSize_bytes, mmapOffset_bytes } = this.#areaOf(
      REQUEST.SET_INFLIGHT_FD,
      view,
      at,
      end,
    );
    const fd = fds[0];
    if (fd === undefined) throw new Refused('SET_INFLIGHT_FD came without its fd');
    if (this.rings.some(ring => ring.isKicked)) throw new Refused('SET_INFLIGHT_FD comes while queues run');
    const length_bytes = inflightLength_bytes(queues, queueSize);
    if (!(mmapSize_bytes >= length_bytes) || mmapOffset_bytes % 4096 !== 0)
      throw new Refused(`SET_INFLIGHT_FD has ${mmapSize_bytes} bytes of the ${length_bytes} needed`);
    const backing = this.kernel.map(fd, mmapOffset_bytes, length_bytes);
    if (typeof backing === 'string')
      throw new Refused(`the memory for requests under way is not taken: ${backing}`);
    this.#dropArea();
    this.#backing = backing;
    const { i32 } = backing.windows[0]!;
    for (let i = 0; i < queues; i++) this.inflight.push(new InflightQueue(i32, i, queueSize));
    return 0;
  }

  #dropArea(): void {
    this.inflight = [];
    for (const again of this.again) again.length = 0;
    this.#backing?.unmap();
    this.#backing = null;
  }
}
