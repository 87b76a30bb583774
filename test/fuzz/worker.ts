/** Runs iterations in a thread of its own, and tells in shared memory which one it is at; see main.ts. */
import { parentPort, workerData } from 'node:worker_threads';
import { loadTarget, runOne } from './harness.js';

export interface Work {
  name: string;
  seed: number;
  from: number;
  to: number;
  /** [iteration being run] */
  progress: Int32Array;
}

export type Outcome = { iteration: number; error: string } | { iteration: number; error: null };

const { name, seed, from, to, progress } = workerData as Work;
const target = await loadTarget(name);

function all(): Outcome {
  for (let iteration = from; iteration < to; iteration++) {
    Atomics.store(progress, 0, iteration);
    try {
      runOne(target, seed, iteration);
    } catch (error) {
      return { iteration, error: error instanceof Error ? (error.stack ?? error.message) : String(error) };
    }
  }
  return { iteration: to, error: null };
}

parentPort?.postMessage(all());
