/** LayerIo on the kernel, by the file edge of pool/ and a SlowIo (io_uring, or calls that block). */
import {
  IoVector,
  RWF_NOWAIT,
  bootId,
  fdatasync,
  isCached,
  isUnsupported,
  lseek,
  pread,
  preadv2,
  pwrite,
} from '../pool/file.js';
import type { SlowIo } from '../volume/slowIo.js';
import { ERRNO } from '../volume/volume.js';
import type { LayerIo } from './io.js';

const EINTR = 4;

export class KernelIo implements LayerIo {
  readonly bootId = bootId();
  /** Answered later: those of the SlowIo, as they are. */
  readonly read: SlowIo['read'];
  readonly write: SlowIo['write'];
  readonly fdatasync: SlowIo['fdatasync'];
  readonly fallocate: SlowIo['fallocate'];
  #iov = new IoVector(1);
  #noWait = true;

  constructor(slow: SlowIo) {
    this.read = slow.read.bind(slow);
    this.write = slow.write.bind(slow);
    this.fdatasync = slow.fdatasync.bind(slow);
    this.fallocate = slow.fallocate.bind(slow);
  }

  pread(fd: number, address: number, length_bytes: number, offset_bytes: number): number {
    let done = 0;
    while (done < length_bytes) {
      const n = pread(fd, address + done, length_bytes - done, offset_bytes + done);
      if (n === -EINTR) continue;
      if (n <= 0) return n === 0 ? done : n;
      done += n;
    }
    return done;
  }

  preadNoWait(fd: number, address: number, length_bytes: number, offset_bytes: number): number {
    if (this.#noWait) {
      this.#iov.set(0, address, length_bytes);
      const n = preadv2(fd, this.#iov.address, 1, offset_bytes, RWF_NOWAIT);
      if (n === -EINTR) return -ERRNO.EAGAIN;
      if (n >= 0 || !isUnsupported(n)) return n;
      // A file system that does not know the flag (tmpfs) has everything in memory anyway.
      this.#noWait = false;
    }
    return this.pread(fd, address, length_bytes, offset_bytes);
  }

  pwrite(fd: number, address: number, length_bytes: number, offset_bytes: number): number {
    let done = 0;
    while (done < length_bytes) {
      const n = pwrite(fd, address + done, length_bytes - done, offset_bytes + done);
      if (n === -EINTR) continue;
      if (n <= 0) return n === 0 ? -ERRNO.EIO : n;
      done += n;
    }
    return done;
  }

  syncNow(fd: number): number {
    return fdatasync(fd);
  }

  seek(fd: number, offset_bytes: number, whence: number): number {
    return lseek(fd, offset_bytes, whence);
  }

  isCached(fd: number, offset_bytes: number, length_bytes: number): number {
    return isCached(fd, offset_bytes, length_bytes);
  }
}
