/**
 * A pool that is one volume as it is: a block device, or a raw file. There is nothing of ours in it, so it can be taken
 * elsewhere and read by anything. It keeps no snapshots and cannot be made or destroyed by us: it is there, or it is not.
 *
 * One user at a time: an exclusive flock on it (which other programs of this kind look at too), and for a block device O_EXCL
 * besides, which the kernel refuses while it is mounted, used for swap, or part of something else. A raw file that a loop device
 * stands on is refused likewise, as its other user would see none of our locks.
 *
 * A device that only gives itself to be read is a volume that cannot be written.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { StorageError } from '../volume/errors.js';
import type { FileOpening } from '../volume/opening.js';
import {
  HostError,
  O_EXCL,
  O_NOFOLLOW,
  O_RDONLY,
  O_RDWR,
  SEEK_END,
  closeFile,
  flock,
  fromNodeError,
  fstat,
  lseek,
  openFile,
  statfs,
} from './file.js';
import { VOLUME_NAME } from './meta.js';

const LOOP_DEVICES = '/sys/block';

export class DevicePool {
  readonly device: string;
  readonly writable: boolean;
  #fd: number;
  #isBlockDevice: boolean;
  /** Which name uses it now: two objects on one file would not know of each other's writes. */
  #user: string | null = null;

  /** Throws StorageError: POOL_IO where it is not there, POOL_IN_USE, POOL_NOT_A_POOL where it is neither file nor device. */
  constructor(device: string) {
    this.device = device;
    const stat = statOf(device);
    this.#isBlockDevice = stat.isBlockDevice();
    if (!this.#isBlockDevice && !stat.isFile())
      throw new StorageError('POOL_NOT_A_POOL', `${device} is neither a block device nor a file`);
    const loop = this.#isBlockDevice ? null : loopOn(device);
    if (loop !== null)
      throw new StorageError('POOL_IN_USE', `${device} is in use as ${loop}: detach it first (losetup -d)`);
    const { fd, writable } = openDevice(device, this.#isBlockDevice);
    this.#fd = fd;
    this.writable = writable;
    try {
      flock(fd, true, device);
      if (this.size_bytes < 512)
        throw new StorageError(
          'POOL_NOT_A_POOL',
          `${device} has ${this.size_bytes} bytes: too few for a volume`,
        );
    } catch (error) {
      closeFile(fd);
      throw inWords(error, device);
    }
  }

  /** As it is now: a device may be grown from outside. */
  get size_bytes(): number {
    const end = lseek(this.#fd, 0, SEEK_END);
    if (end < 0) throw new StorageError('POOL_IO', `${this.device}: its size cannot be told (errno ${-end})`);
    return end;
  }

  /** A block device has all of its bytes; a file, what the file system gave it. */
  get allocated_bytes(): number {
    return this.#isBlockDevice ? this.size_bytes : fstat(this.#fd).allocated_bytes;
  }

  /** Throws VOLUME_NAME_INVALID; VOLUME_EXPORTED while another name uses it. */
  acquire(name: string): FileOpening {
    if (!VOLUME_NAME.test(name))
      throw new StorageError('VOLUME_NAME_INVALID', `"${name}" cannot name a volume`);
    if (this.#user !== null && this.#user !== name)
      throw new StorageError(
        'VOLUME_EXPORTED',
        `${this.device} is in use as volume ${this.#user}: it is one volume, call it so`,
      );
    this.#user = name;
    return { kind: 'file', fd: this.#fd, size_bytes: this.size_bytes, writable: this.writable };
  }

  release(name: string): void {
    if (this.#user === name) this.#user = null;
  }

  /** What a file could still get; a device has all of it already. */
  space(): { capacity_bytes: number; free_bytes: number } {
    if (this.#isBlockDevice) return { capacity_bytes: this.size_bytes, free_bytes: 0 };
    const { capacity_bytes, free_bytes } = statfs(path.dirname(this.device));
    return { capacity_bytes, free_bytes };
  }

  close(): void {
    if (this.#fd < 0) return;
    closeFile(this.#fd);
    this.#fd = -1;
  }
}

function statOf(device: string): fs.Stats {
  try {
    // Through symbolic links: /dev/disk/by-id is made of them.
    return fs.statSync(device);
  } catch (error) {
    throw inWords(error, device);
  }
}

/** To read and write, or else to read. */
function openDevice(device: string, isBlockDevice: boolean): { fd: number; writable: boolean } {
  const real = fs.realpathSync(device);
  // Without O_CREAT it means for block devices: nobody else, no mount.
  const extra = isBlockDevice ? O_EXCL : O_NOFOLLOW;
  try {
    return { fd: openFile(real, O_RDWR | extra), writable: true };
  } catch (error) {
    if (!(error instanceof HostError) || !['EROFS', 'EACCES', 'EPERM'].includes(error.code))
      throw inWords(error, device);
  }
  try {
    return { fd: openFile(real, O_RDONLY | extra), writable: false };
  } catch (error) {
    throw inWords(error, device);
  }
}

function inWords(error: unknown, device: string): StorageError {
  if (error instanceof StorageError) return error;
  const told = fromNodeError(error, device);
  switch (told.code) {
    case 'EBUSY':
      return new StorageError(
        'POOL_IN_USE',
        `${device} is in use: mounted, swap, or part of another device; take it out there first`,
        { cause: error },
      );
    case 'EAGAIN':
      return new StorageError('POOL_IN_USE', `${device} is open already: ${told.message}`, { cause: error });
    default:
      return new StorageError('POOL_IO', `${device}: ${told.message}`, { cause: error });
  }
}

/** The loop device that stands on this file; null: none. */
function loopOn(file: string): string | null {
  let names: string[];
  let real: string;
  try {
    names = fs.readdirSync(LOOP_DEVICES).filter(name => /^loop\d+$/.test(name));
    real = fs.realpathSync(file);
  } catch {
    return null; // no sysfs: no loop devices that we could know of
  }
  for (const name of names) {
    try {
      if (fs.readFileSync(path.join(LOOP_DEVICES, name, 'loop', 'backing_file'), 'utf8').trimEnd() === real)
        return `/dev/${name}`;
    } catch {
      // It stands on nothing.
    }
  }
  return null;
}
