/**
 * AF_XDP sockets: rings in shared memory by which frames pass between an interface's queue and memory of ours (the
 * UMEM), and the program that steers a queue's frames into them. Needs CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF.
 *
 *   fill        we -> kernel   chunks that it may put frames into            u64 offset in the UMEM
 *   completion  kernel -> we   chunks that it has sent                       u64 offset
 *   rx          kernel -> we   frames that came     struct xdp_desc, 16 bytes: 0 offset(u64) 8 length(u32) 12 options(u32)
 *   tx          we -> kernel   frames to send       likewise
 *
 * A ring is a producer and a consumer index that only grow (u32, wrapping), and a power of two of entries. Whoever
 * moves an index does so after the entries are written or read: `Atomics.store` and `Atomics.load` on the index are
 * at least as strong as what the kernel asks for. Entries are read and written as plain words.
 *
 * Every socket registers its memory as a UMEM of its own, be it the same memory as that of others. A UMEM
 * that is shared by XDP_SHARED_UMEM would tie them together: all in one mode, and none to be made any more once
 * the interface of the first has gone. The kernel counts the pages once for each; frames go from one to the
 * other without a copy either way, as an offset means the same to all.
 *
 *   struct xdp_umem_reg, 32 bytes   0 addr(u64)  8 len(u64)  16 chunk_size  20 headroom  24 flags  28 tx_metadata_len
 *   struct sockaddr_xdp, 16 bytes   0 family(u16)  2 flags(u16)  4 ifindex  8 queue_id  12 shared_umem_fd
 *   struct xdp_mmap_offsets         rx, tx, fill, completion: producer(u64) consumer(u64) desc(u64) flags(u64)
 */
import { BpfAssembler, R1, R2, R3 } from './bpfAssembler.js';
import { PROG_TYPE_XDP, loadProgram } from './bpf.js';
import { EOPNOTSUPP, EPERM, HostError } from './errno.js';
import { mapFile } from './memory.js';
import type { Mapping } from './memory.js';
import * as raw from './raw.js';
import {
  SOCK_RAW,
  bindAddress,
  getOptionBytes,
  setOption,
  setOptionBytes,
  setSockBuf,
  socket,
} from './socket.js';

const AF_XDP = 44;
const SOL_XDP = 283;
const XDP_MMAP_OFFSETS = 1;
const XDP_RX_RING = 2;
const XDP_TX_RING = 3;
const XDP_UMEM_REG = 4;
const XDP_UMEM_FILL_RING = 5;
const XDP_UMEM_COMPLETION_RING = 6;
const XDP_OPTIONS = 8;
/** Linux 6.17: frames that one send may take in copy mode; 32 before. */
const XDP_MAX_TX_SKB_BUDGET = 9;

const XDP_COPY = 1 << 1;
const XDP_ZEROCOPY = 1 << 2;
const XDP_USE_NEED_WAKEUP = 1 << 3;
/** In a ring's flags: the kernel sleeps, and wants to be woken. */
export const XDP_RING_NEED_WAKEUP = 1;
/** In a descriptor's options: the frame goes on in the next one. Asked for by XDP_USE_SG only. */
export const XDP_PKT_CONTD = 1;

const PGOFF_RX = 0;
const PGOFF_TX = 0x8000_0000;
const PGOFF_FILL = 0x1_0000_0000;
const PGOFF_COMPLETION = 0x1_8000_0000;
const OFFSETS_BYTES = 128;

const SEND_BUFFER_BYTES = 4 * 1024 * 1024;
const TX_BUDGET = 256;

/** The kernel keeps this much of each chunk before the frame. */
export const XDP_HEADROOM_BYTES = 256;
/** A page: the largest that chunks of aligned mode can be. */
export const XDP_CHUNK_BYTES = 4096;

export interface XdpRing {
  readonly i32: Int32Array;
  /** Index of the word. */
  readonly producer: number;
  readonly consumer: number;
  readonly flags: number;
  /** Word of the first entry. */
  readonly entries: number;
  readonly mask: number;
}

export interface XdpSocketSettings {
  readonly ifindex: number;
  readonly queue: number;
  /** Of whole chunks, at a page's start. */
  readonly umemAddress: number;
  readonly umem_bytes: number;
  /** Entries of each ring: a power of two. */
  readonly ring: number;
  readonly zeroCopy: boolean;
}

export class XdpSocket {
  readonly fd: number;
  readonly fill: XdpRing;
  readonly completion: XdpRing;
  readonly rx: XdpRing;
  readonly tx: XdpRing;
  /** Frames that one send moves at most, in copy mode. */
  readonly budget: number;
  readonly isZeroCopy: boolean;
  readonly #mappings: Mapping[] = [];

  /** Bound, with its rings empty. Throws HostError: EOPNOTSUPP, EINVAL where the driver or kernel lacks something. */
  constructor(settings: XdpSocketSettings) {
    const { ifindex, queue, umemAddress, umem_bytes, ring, zeroCopy } = settings;
    const what = `queue ${queue} of interface ${ifindex}`;
    this.fd = open();
    try {
      const umem = new Uint8Array(32);
      const view = new DataView(umem.buffer);
      view.setBigUint64(0, BigInt(umemAddress), true);
      view.setBigUint64(8, BigInt(umem_bytes), true);
      view.setUint32(16, XDP_CHUNK_BYTES, true);
      must(setOptionBytes(this.fd, SOL_XDP, XDP_UMEM_REG, umem), 'XDP_UMEM_REG', what);
      for (const [option, name] of [
        [XDP_UMEM_FILL_RING, 'XDP_UMEM_FILL_RING'],
        [XDP_UMEM_COMPLETION_RING, 'XDP_UMEM_COMPLETION_RING'],
        [XDP_RX_RING, 'XDP_RX_RING'],
        [XDP_TX_RING, 'XDP_TX_RING'],
      ] as const)
        must(setOption(this.fd, SOL_XDP, option, ring), name, what);
      const offsets = getOptionBytes(this.fd, SOL_XDP, XDP_MMAP_OFFSETS, OFFSETS_BYTES);
      if (offsets.length < OFFSETS_BYTES)
        throw new HostError('XDP_MMAP_OFFSETS', EOPNOTSUPP, what, 'Linux 5.4 or newer is needed');
      const at = new DataView(offsets.buffer, offsets.byteOffset);
      this.rx = this.#map(at, 0, PGOFF_RX, 16, ring);
      this.tx = this.#map(at, 32, PGOFF_TX, 16, ring);
      this.fill = this.#map(at, 64, PGOFF_FILL, 8, ring);
      this.completion = this.#map(at, 96, PGOFF_COMPLETION, 8, ring);
      this.budget = setOption(this.fd, SOL_XDP, XDP_MAX_TX_SKB_BUDGET, TX_BUDGET) < 0 ? 32 : TX_BUDGET;
      setSockBuf(this.fd, { send_bytes: SEND_BUFFER_BYTES });
      const address = new Uint8Array(16);
      const name = new DataView(address.buffer);
      name.setUint16(0, AF_XDP, true);
      name.setUint16(2, (zeroCopy ? XDP_ZEROCOPY : XDP_COPY) | XDP_USE_NEED_WAKEUP, true);
      name.setUint32(4, ifindex, true);
      name.setUint32(8, queue, true);
      must(bindAddress(this.fd, address), 'bind', `AF_XDP to ${what}`);
      this.isZeroCopy = (getOptionBytes(this.fd, SOL_XDP, XDP_OPTIONS, 4)[0]! & 1) !== 0;
    } catch (error) {
      this.close();
      throw error;
    }
  }

  #map(offsets: DataView, at: number, page: number, entry_bytes: number, ring: number): XdpRing {
    const word = (index: number): number => Number(offsets.getBigUint64(at + index * 8, true)) >>> 2;
    const entries = word(2);
    const mapping = mapFile(this.fd, page, entries * 4 + ring * entry_bytes, { write: true });
    this.#mappings.push(mapping);
    return {
      i32: mapping.i32,
      producer: word(0),
      consumer: word(1),
      flags: word(3),
      entries,
      mask: ring - 1,
    };
  }

  /** Idempotent. Nobody may keep a ring. */
  close(): void {
    for (const mapping of this.#mappings.splice(0)) {
      mapping.unmap();
    }
    if (this.#isClosed) return;
    this.#isClosed = true;
    raw.close(this.fd);
  }
  #isClosed = false;
}

function open(): number {
  try {
    return socket(AF_XDP, SOCK_RAW);
  } catch (error) {
    if (!(error instanceof HostError)) throw error;
    const advice = error.errno === EPERM ? 'it needs CAP_NET_RAW: run as root' : 'has this kernel AF_XDP?';
    throw new HostError('socket', error.errno, 'AF_XDP', advice);
  }
}

function must(result: number, syscall: string, what: string): void {
  if (result < 0) throw new HostError(syscall, -result, what);
}

// linux/bpf.h.
const XDP_MD_RX_QUEUE_INDEX = 16;
const XDP_PASS = 2;
const HELPER_REDIRECT_MAP = 51;

/**
 * The program that gives a frame to the socket that stands for its queue in the XSKMAP; where none stands the frame
 * goes to the host's stack, as without the program. Returns its fd.
 */
export function loadXdpProgram(xskmapFd: number): number {
  const instructions = new BpfAssembler()
    .load(4, R2, R1, XDP_MD_RX_QUEUE_INDEX)
    .loadMap(R1, xskmapFd)
    .move(R3, XDP_PASS)
    .call(HELPER_REDIRECT_MAP)
    .exit()
    .finish();
  return loadProgram({ type: PROG_TYPE_XDP, instructions, name: 'weft_xsk' });
}
