/**
 * SlowIo over io_uring: requests are prepared while a turn of the loop runs, handed to the kernel together at its
 * end, and answered in a later turn. More than the ring holds wait here in a queue; their number is bounded by what
 * connections may have in flight.
 */
import type { SlowIo } from '../volume/slowIo.js';
import type { Waiter } from '../volume/volume.js';

/** Of host/ioUring.ts, what is used here; a test may bring its own. */
export interface Ring {
  readonly inFlight: number;
  prepRead(token: number, fd: number, address: number, length_bytes: number, offset_bytes: number): boolean;
  prepWrite(token: number, fd: number, address: number, length_bytes: number, offset_bytes: number): boolean;
  prepFsync(token: number, fd: number, dataOnly: boolean): boolean;
  prepFallocate(token: number, fd: number, mode: number, offset_bytes: number, length_bytes: number): boolean;
  submit(): number;
  reap(done: (token: number, result: number) => void): number;
}

const READ = 0;
const WRITE = 1;
const SYNC = 2;
const ALLOCATE = 3;

interface Slot {
  operation: number;
  fd: number;
  mode: number;
  address: number;
  length: number;
  offset: number;
  waiter: Waiter | null;
  token: number;
}

export class RingIo implements SlowIo {
  requestCount = 0;
  #ring: Ring;
  #slots: Slot[] = [];
  #free: number[] = [];
  /** Slots that the ring had no room for, oldest first. */
  #queue: number[] = [];
  #prepared = false;
  #done = (index: number, result: number): void => this.#completed(index, result);

  constructor(ring: Ring) {
    this.#ring = ring;
  }

  read(
    fd: number,
    address: number,
    length_bytes: number,
    offset_bytes: number,
    waiter: Waiter,
    token: number,
  ): void {
    this.#ask(READ, fd, 0, address, length_bytes, offset_bytes, waiter, token);
  }
  write(
    fd: number,
    address: number,
    length_bytes: number,
    offset_bytes: number,
    waiter: Waiter,
    token: number,
  ): void {
    this.#ask(WRITE, fd, 0, address, length_bytes, offset_bytes, waiter, token);
  }
  fdatasync(fd: number, waiter: Waiter, token: number): void {
    this.#ask(SYNC, fd, 0, 0, 0, 0, waiter, token);
  }
  fallocate(
    fd: number,
    mode: number,
    offset_bytes: number,
    length_bytes: number,
    waiter: Waiter,
    token: number,
  ): void {
    this.#ask(ALLOCATE, fd, mode, 0, length_bytes, offset_bytes, waiter, token);
  }

  get idle(): boolean {
    return this.#free.length === this.#slots.length;
  }

  /** Gives the answers that are there. */
  reap(): void {
    if (this.#ring.inFlight > 0) this.#ring.reap(this.#done);
  }

  /** At the end of a turn. False: the kernel wants its answers reaped first, so do not sleep. */
  submit(): boolean {
    while (this.#queue.length > 0 && this.#prepare(this.#queue[0]!)) this.#queue.shift();
    if (!this.#prepared) return true;
    const result = this.#ring.submit();
    if (result < 0) return false;
    this.#prepared = false;
    return this.#queue.length === 0;
  }

  #ask(
    operation: number,
    fd: number,
    mode: number,
    address: number,
    length: number,
    offset: number,
    waiter: Waiter,
    token: number,
  ): void {
    this.requestCount++;
    const index = this.#free.pop() ?? this.#slots.push({ ...NO_SLOT }) - 1;
    const slot = this.#slots[index]!;
    slot.operation = operation;
    slot.fd = fd;
    slot.mode = mode;
    slot.address = address;
    slot.length = length;
    slot.offset = offset;
    slot.waiter = waiter;
    slot.token = token;
    if (this.#queue.length > 0 || !this.#prepare(index)) this.#queue.push(index);
  }

  #prepare(index: number): boolean {
    const { operation, fd, mode, address, length, offset } = this.#slots[index]!;
    const taken =
      operation === READ
        ? this.#ring.prepRead(index, fd, address, length, offset)
        : operation === WRITE
          ? this.#ring.prepWrite(index, fd, address, length, offset)
          : operation === SYNC
            ? this.#ring.prepFsync(index, fd, true)
            : this.#ring.prepFallocate(index, fd, mode, offset, length);
    if (taken) this.#prepared = true;
    return taken;
  }

  #completed(index: number, result: number): void {
    const slot = this.#slots[index]!;
    const waiter = slot.waiter!;
    slot.waiter = null;
    this.#free.push(index);
    waiter.completed(slot.token, result);
  }
}

const NO_SLOT: Readonly<Slot> = {
  operation: READ,
  fd: -1,
  mode: 0,
  address: 0,
  length: 0,
  offset: 0,
  waiter: null,
  token: 0,
};
