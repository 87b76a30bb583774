/** What one layer's two files are, as the blocking reader for other threads takes them. */
import type { LayerIo, Sums } from './io.js';

export interface LayerFiles {
  readonly uuid: string;
  readonly dataFd: number;
  /** -1: a plain layer. */
  readonly mapFd: number;
  readonly size_bytes: number;
  readonly checksums: boolean;
  readonly io: LayerIo;
  readonly sums: Sums;
}
