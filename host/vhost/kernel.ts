/** What a session asks of the kernel, by host/. */
import { ForeignMemory, acceptEventFd, memoryProblem } from '../foreign.js';
import * as raw from '../raw.js';
import type { Kernel } from './session.js';

/** `mayShrink`: memory that its owner could cut off under us is taken too. */
export function makeKernel(mayShrink: boolean): Kernel {
  return {
    close: fd => void raw.close(fd),
    map: (fd, offset_bytes, length_bytes) => {
      const problem = memoryProblem(fd, offset_bytes + length_bytes, mayShrink);
      if (problem !== undefined) return problem;
      try {
        return new ForeignMemory(fd, offset_bytes, length_bytes);
      } catch (error) {
        return error instanceof Error ? error.message : String(error);
      }
    },
    acceptEventFd,
  };
}
