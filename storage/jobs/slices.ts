/** What a task in the jobs thread is given to go on with: when it may take its next slice, and where it tells how far it is. */
import type { JobStatus } from '../contract/jobs.js';

export type Finding = JobStatus['findings'][number];

export interface Slices {
  /** After each slice, which should take some milliseconds: others get their turn. Rejects with JOB_CANCELLED. */
  moved(bytes: number): Promise<void>;
  /** How much there is to do, once that is known. */
  expect(total_bytes: number): void;
  found(what: string, offset_bytes?: number, length_bytes?: number): void;
}

/** One slice. */
export const SLICE_BYTES = 1024 * 1024;
