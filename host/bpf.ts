/**
 * bpf(2): maps, programs, and links that tie a program to a hook of an interface. Programs come from
 * bpfAssembler.ts. All fds are close-on-exec by the kernel's own choice; a link's end is the end of its fd, so
 * nothing of this outlives the process. Needs CAP_BPF and CAP_NET_ADMIN (or CAP_SYS_ADMIN).
 *
 * Addresses that stand in bpf attributes must be mapped during the call: everything lies in memory of mmap,
 * which no garbage collection moves. A BpfMap has a mapping of its own with room for its key and value, where
 * the caller writes and reads them: looking up allocates nothing.
 *
 * union bpf_attr (linux/bpf.h), by command:
 *   MAP_CREATE   0 type  4 key_size  8 value_size  12 max_entries  16 flags  28 name[16]
 *   *_ELEM       0 map_fd  8 key(u64)  16 value or next_key(u64)  24 flags(u64)
 *   *_BATCH      0 in_batch(u64)  8 out_batch(u64)  16 keys(u64)  24 values(u64)  32 count  36 map_fd
 *   PROG_LOAD    0 type  4 insn_cnt  8 insns(u64)  16 license(u64)  24 log_level  28 log_size  32 log_buf(u64)
 *                44 flags  48 name[16]  68 expected_attach_type
 *   TEST_RUN     0 prog_fd  4 retval  8 data_size_in  12 data_size_out  16 data_in(u64)  24 data_out(u64)  32 repeat
 *   LINK_CREATE  0 prog_fd  4 target_ifindex  8 attach_type  12 flags
 */
import { E2BIG, EINVAL, ENOENT, ENOSPC, ENOSYS, EPERM, HostError, check } from './errno.js';
import { INSTRUCTION_BYTES } from './bpfAssembler.js';
import { architecture, syscall } from './libc.js';
import { mapAnonymous } from './memory.js';
import type { Mapping } from './memory.js';
import { close } from './raw.js';
import { SOL_SOCKET, setOption } from './socket.js';

const NR_BPF = { x64: 321, arm64: 280 }[architecture()];

const BPF_MAP_CREATE = 0;
const BPF_MAP_LOOKUP_ELEM = 1;
const BPF_MAP_UPDATE_ELEM = 2;
const BPF_MAP_DELETE_ELEM = 3;
const BPF_PROG_LOAD = 5;
const BPF_PROG_TEST_RUN = 10;
const BPF_MAP_LOOKUP_BATCH = 24;
const BPF_LINK_CREATE = 28;

/** enum bpf_map_type. */
export const MAP_TYPE_HASH = 1;
export const MAP_TYPE_ARRAY = 2;
export const MAP_TYPE_PERCPU_ARRAY = 6;
export const MAP_TYPE_XSKMAP = 17;

/** enum bpf_prog_type. */
export const PROG_TYPE_SOCKET_FILTER = 1;
export const PROG_TYPE_SCHED_CLS = 3;
export const PROG_TYPE_XDP = 6;

/** enum bpf_attach_type. */
export const ATTACH_XDP = 37;
export const ATTACH_TCX_INGRESS = 46;
export const ATTACH_TCX_EGRESS = 47;

/** linux/if_link.h: flags of a link at XDP. */
export const XDP_FLAGS_SKB_MODE = 1 << 1;
export const XDP_FLAGS_DRV_MODE = 1 << 2;

/** Flags of a map. Without it a hash takes its memory for all entries when made. */
export const MAP_NO_PREALLOC = 1;

/** Flags of an update. */
export const UPDATE_ANY = 0;
/** Refused with EEXIST when the key is there. */
export const UPDATE_NEW = 1;
/** Refused with ENOENT when it is not. */
export const UPDATE_EXISTING = 2;

const SO_DETACH_FILTER = 27;
const SO_ATTACH_BPF = 50;

const ATTR_BYTES = 128;
const NAME_MAX_BYTES = 15;
const LOG_BYTES = 256 * 1024;
/** Lines at the end of the verifier's log, where it says what it did not like. */
const LOG_TAIL_LINES = 12;
/** The kernel's limit for the privileged. */
const INSTRUCTIONS_MAX_COUNT = 1_000_000;

const attr = mapAnonymous(ATTR_BYTES);

function clearAttr(): DataView {
  attr.bytes.fill(0);
  return attr.view;
}

function setAddress(at: number, address: number): void {
  attr.view.setUint32(at, address >>> 0, true);
  attr.view.setUint32(at + 4, Math.floor(address / 2 ** 32), true);
}

function setName(at: number, name: string): void {
  if (!/^[A-Za-z0-9_.]*$/.test(name) || name.length > NAME_MAX_BYTES)
    throw new HostError('bpf', EINVAL, name, `a name has up to ${NAME_MAX_BYTES} letters, digits, _ and .`);
  attr.bytes.set(Buffer.from(name), at);
}

const bpf = (command: number): number => syscall(NR_BPF, command, attr.address, ATTR_BYTES);

function advice(errno: number): string {
  if (errno === EPERM) return 'it needs CAP_BPF and CAP_NET_ADMIN: run as root';
  if (errno === ENOSYS) return 'this kernel was built without bpf(2)';
  return '';
}

export interface MapSettings {
  readonly type: number;
  readonly key_bytes: number;
  readonly value_bytes: number;
  readonly entries: number;
  readonly flags?: number;
  /** For those who look with bpftool. */
  readonly name?: string;
}

export class BpfMap {
  readonly fd: number;
  readonly key_bytes: number;
  readonly value_bytes: number;
  readonly entries: number;
  readonly #memory: Mapping;
  /** Where the key of the next call is written. */
  readonly key: DataView;
  /** Where the value to store is written, and the one that was looked up is found. */
  readonly value: DataView;

  constructor({ type, key_bytes, value_bytes, entries, flags = 0, name = '' }: MapSettings) {
    const view = clearAttr();
    view.setUint32(0, type, true);
    view.setUint32(4, key_bytes, true);
    view.setUint32(8, value_bytes, true);
    view.setUint32(12, entries, true);
    view.setUint32(16, flags, true);
    setName(28, name);
    const result = bpf(BPF_MAP_CREATE);
    this.fd = check(result, 'BPF_MAP_CREATE', name, advice(-result));
    this.key_bytes = key_bytes;
    this.value_bytes = value_bytes;
    this.entries = entries;
    const valueAt = (key_bytes + 7) & ~7;
    this.#memory = mapAnonymous(valueAt + Math.max(value_bytes, 8));
    this.key = new DataView(this.#memory.view.buffer, 0, key_bytes);
    this.value = new DataView(this.#memory.view.buffer, valueAt, value_bytes);
  }

  #element(command: number, flags: number): number {
    const view = clearAttr();
    view.setUint32(0, this.fd, true);
    setAddress(8, this.#memory.address);
    // What a command does not know must be zero.
    if (command !== BPF_MAP_DELETE_ELEM) setAddress(16, this.#memory.address + this.value.byteOffset);
    view.setUint32(24, flags, true);
    return bpf(command);
  }

  /** 0 and the value of `key` in `value`, or -ENOENT. */
  lookup(): number {
    return this.#element(BPF_MAP_LOOKUP_ELEM, 0);
  }

  /** 0, or -E2BIG when the map is full, or what `flags` refuses. */
  update(flags = UPDATE_ANY): number {
    return this.#element(BPF_MAP_UPDATE_ELEM, flags);
  }

  /** 0, or -ENOENT. */
  delete(): number {
    return this.#element(BPF_MAP_DELETE_ELEM, 0);
  }

  /** Nothing of the map may be touched afterwards. Programs that use it keep the kernel's side of it alive. */
  close(): void {
    if (this.#memory.unmapped) return;
    close(this.fd);
    this.#memory.unmap();
  }
}

/**
 * Reads a whole hash map, a batch to a system call (Linux 5.6). Entries that come and go meanwhile may be missed,
 * as with any walk of a living table.
 */
export class BpfBatch {
  readonly #map: BpfMap;
  readonly #count: number;
  readonly #memory: Mapping;
  readonly #valuesAt: number;
  /** Of the last batch: key i at i * key_bytes, value i at i * value_bytes. */
  readonly keys: DataView;
  readonly values: DataView;
  #isFirst = true;

  constructor(map: BpfMap, count = 1024) {
    this.#map = map;
    this.#count = count;
    // Two places for the kernel's own word on where it stands: the size of a key, or a number.
    const tokens_bytes = 2 * Math.max(64, map.key_bytes);
    const keysAt = (tokens_bytes + 63) & ~63;
    this.#valuesAt = (keysAt + count * map.key_bytes + 63) & ~63;
    this.#memory = mapAnonymous(this.#valuesAt + count * map.value_bytes);
    const { buffer } = this.#memory.view;
    this.keys = new DataView(buffer, keysAt, count * map.key_bytes);
    this.values = new DataView(buffer, this.#valuesAt, count * map.value_bytes);
  }

  rewind(): void {
    this.#isFirst = true;
  }

  /** How many it read; `isLast` says whether that was all. Or -errno. */
  next(): number {
    const view = clearAttr();
    const { address } = this.#memory;
    const token_bytes = Math.max(64, this.#map.key_bytes);
    if (!this.#isFirst) setAddress(0, address);
    setAddress(8, address + token_bytes);
    setAddress(16, address + this.keys.byteOffset);
    setAddress(24, address + this.#valuesAt);
    view.setUint32(32, this.#count, true);
    view.setUint32(36, this.#map.fd, true);
    const result = bpf(BPF_MAP_LOOKUP_BATCH);
    if (result < 0 && result !== -ENOENT) return result;
    this.isLast = result === -ENOENT;
    this.#isFirst = false;
    this.#memory.bytes.copyWithin(0, token_bytes, 2 * token_bytes);
    return view.getUint32(32, true);
  }

  isLast = false;

  close(): void {
    this.#memory.unmap();
  }
}

export interface ProgramSettings {
  readonly type: number;
  readonly instructions: Uint8Array;
  /** What it will be tied to, for types that want to know (XDP does not). */
  readonly attachType?: number;
  readonly name?: string;
}

/** An fd of the program. A program that the verifier refuses is a HostError with the end of what it said. */
export function loadProgram({ type, instructions, attachType = 0, name = '' }: ProgramSettings): number {
  const count = instructions.length / INSTRUCTION_BYTES;
  if (!Number.isInteger(count) || count < 1 || count > INSTRUCTIONS_MAX_COUNT)
    throw new HostError('BPF_PROG_LOAD', EINVAL, `${name}: ${instructions.length} bytes`);
  const codeAt = LOG_BYTES;
  const licenceAt = codeAt + instructions.length;
  const memory = mapAnonymous(licenceAt + 8);
  try {
    memory.bytes.set(instructions, codeAt);
    // Helpers that redirect and tell the time are for programs under this licence, or with it as one of two.
    memory.bytes.set(Buffer.from('GPL\0'), licenceAt);
    const load = (withLog: boolean): number => {
      const view = clearAttr();
      view.setUint32(0, type, true);
      view.setUint32(4, count, true);
      setAddress(8, memory.address + codeAt);
      setAddress(16, memory.address + licenceAt);
      if (withLog) {
        view.setUint32(24, 1, true);
        view.setUint32(28, LOG_BYTES, true);
        setAddress(32, memory.address);
      }
      setName(48, name);
      view.setUint32(68, attachType, true);
      return bpf(BPF_PROG_LOAD);
    };
    const result = load(false);
    if (result >= 0) return result;
    if (result === -EPERM || result === -ENOSYS || result === -E2BIG)
      throw new HostError('BPF_PROG_LOAD', -result, name, advice(-result));
    // Once more for the log: making it costs, and most programs are taken.
    const again = load(true);
    if (again >= 0) return again;
    const end = memory.bytes.indexOf(0);
    const log = Buffer.from(memory.bytes.subarray(0, Math.min(end, LOG_BYTES - 1)))
      .toString()
      .trim()
      .split('\n')
      .slice(-LOG_TAIL_LINES)
      .join('\n');
    const full = again === -ENOSPC ? ' (its log did not fit)' : '';
    throw new HostError('BPF_PROG_LOAD', -result, name, `the kernel's verifier says${full}:\n${log}`);
  } finally {
    memory.unmap();
  }
}

/**
 * Ties the program to a hook of an interface of the thread's network namespace. Closing the fd unties it. Linux 5.9
 * for XDP, 6.6 for the hooks of tcx; older ones refuse with EINVAL.
 */
export function createLink(program: number, ifindex: number, attachType: number, flags = 0): number {
  const view = clearAttr();
  view.setUint32(0, program, true);
  view.setInt32(4, ifindex, true);
  view.setUint32(8, attachType, true);
  view.setUint32(12, flags, true);
  const result = bpf(BPF_LINK_CREATE);
  return check(result, 'BPF_LINK_CREATE', `interface ${ifindex}, hook ${attachType}`, advice(-result));
}

/** Has the socket take only what the program says; the fd of the program may be closed afterwards. */
export function attachFilter(socket: number, program: number): void {
  check(setOption(socket, SOL_SOCKET, SO_ATTACH_BPF, program), 'setsockopt', 'SO_ATTACH_BPF');
}

export function detachFilter(socket: number): void {
  check(setOption(socket, SOL_SOCKET, SO_DETACH_FILTER, 0), 'setsockopt', 'SO_DETACH_FILTER');
}

/** What the program returns for a frame, and the frame as it left it. For tests. */
export function testRun(program: number, frame: Uint8Array): { result: number; frame: Uint8Array } {
  const room_bytes = frame.length + 256;
  const memory = mapAnonymous(frame.length + room_bytes);
  try {
    memory.bytes.set(frame);
    const view = clearAttr();
    view.setUint32(0, program, true);
    view.setUint32(8, frame.length, true);
    view.setUint32(12, room_bytes, true);
    setAddress(16, memory.address);
    setAddress(24, memory.address + frame.length);
    view.setUint32(32, 1, true);
    check(bpf(BPF_PROG_TEST_RUN), 'BPF_PROG_TEST_RUN');
    const out = memory.bytes.slice(frame.length, frame.length + view.getUint32(12, true));
    return { result: view.getUint32(4, true), frame: out };
  } finally {
    memory.unmap();
  }
}
