/**
 * `npm run fuzz -- NAME [SEED] [ITERATIONS]`: feeds a target with wrong input until it fails or ITERATIONS are
 * done. ITERATIONS may be `@N`: that one iteration alone, to look at a fault again. NAME may be `all`. Exit code
 * 1 after a fault, whose seed, iteration and input are printed.
 *
 * The target runs in a worker, watched from here: an iteration that takes longer than STUCK_MS, or more memory
 * than HEAP_MB, is a fault like any other. `process.exit` and friends inside it do not take the report along.
 */
import { randomInt } from 'node:crypto';
import { Worker } from 'node:worker_threads';
import { inputAt, loadTarget, targetNames } from './harness.js';
import type { Outcome, Work } from './worker.js';

const STUCK_MS = 20_000;
const HEAP_MB = 512;
const DEFAULT_ITERATIONS = 100_000;

interface Range {
  from: number;
  to: number;
}

function usage(): number {
  console.error('npm run fuzz -- NAME|all [SEED] [ITERATIONS|@ITERATION]\n\ntargets:');
  return 2;
}

function rangeOf(text: string | undefined): Range | undefined {
  if (text === undefined) return { from: 0, to: DEFAULT_ITERATIONS };
  const match = /^(@?)(\d{1,9})$/.exec(text);
  if (match === null) return undefined;
  const number = Number(match[2]);
  return match[1] === '@' ? { from: number, to: number + 1 } : { from: 0, to: number };
}

async function run(name: string, seed: number, range: Range): Promise<Outcome> {
  const progress = new Int32Array(new SharedArrayBuffer(4));
  const work: Work = { name, seed, ...range, progress };
  const worker = new Worker(new URL('worker.js', import.meta.url), {
    workerData: work,
    resourceLimits: { maxOldGenerationSizeMb: HEAP_MB },
  });
  let [last, lastChange_ms] = [-1, performance.now()];
  return new Promise(resolve => {
    const fail = (error: string) => finish({ iteration: Atomics.load(progress, 0), error });
    const watch = setInterval(() => {
      const now = Atomics.load(progress, 0);
      if (now !== last) [last, lastChange_ms] = [now, performance.now()];
      else if (performance.now() - lastChange_ms > STUCK_MS) fail(`not done after ${STUCK_MS} ms`);
    }, 500);
    let finished = false;
    const finish = (outcome: Outcome) => {
      // The end of the thread, which follows from this, is told as an exit, too.
      if (finished) return;
      finished = true;
      clearInterval(watch);
      void worker.terminate().then(() => resolve(outcome));
    };
    worker.once('message', (outcome: Outcome) => finish(outcome));
    worker.once('error', error => fail(String(error)));
    worker.once('exit', code => fail(`the thread ended with code ${code}`));
  });
}

async function report(
  name: string,
  seed: number,
  { iteration, error }: Outcome,
  started_ms: number,
): Promise<boolean> {
  const took_s = ((performance.now() - started_ms) / 1000).toFixed(1);
  if (error === null) {
    console.log(`${name}: ${iteration} iterations of seed ${seed} in ${took_s} s, no fault`);
    return true;
  }
  const { input } = inputAt(await loadTarget(name), seed, iteration);
  console.log(`${name}: FAULT in iteration ${iteration} of seed ${seed}\n${error}`);
  console.log(`input, ${input.length} bytes: ${Buffer.from(input.subarray(0, 2048)).toString('hex')}`);
  console.log(`again: npm run fuzz -- ${name} ${seed} @${iteration}`);
  return false;
}

async function main(args: string[]): Promise<number> {
  const [name, seedText, rangeText] = args;
  const names = targetNames();
  const range = rangeOf(rangeText);
  const seed = seedText === undefined ? randomInt(2 ** 31) : Number(seedText);
  const known = name === 'all' || (name !== undefined && names.includes(name));
  if (!known || range === undefined || !Number.isInteger(seed) || seed < 0 || seed > 0xffff_ffff) {
    const code = usage();
    for (const one of names) console.error(`  ${one.padEnd(18)} ${(await loadTarget(one)).says}`);
    return code;
  }
  let clean = true;
  for (const one of name === 'all' ? names : [name!]) {
    const started_ms = performance.now();
    clean = (await report(one, seed, await run(one, seed, range), started_ms)) && clean;
  }
  return clean ? 0 : 1;
}

process.exitCode = await main(process.argv.slice(2));
