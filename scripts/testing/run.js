/** Runs test files, each in a process of its own, and counts. */
import { spawn } from 'node:child_process';
import { appendFileSync, existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ROOT } from '../setup/step.js';
import { failureLines, fileLine, seconds, skipLines, slowLines, summaryLines } from './report.js';
import { TapReader } from './tap.js';

const OUTPUT = join(ROOT, '.weft', 'tests.tap');
/** Some tests boot guests without KVM; one that takes longer than this hangs. */
const LIMIT_MS = 900_000;
/** Of a test that sets no limit itself, for tap: the machine may be busy. */
const TAP_TIMEOUT_S = 300;
const GRACE_MS = 20_000;
/** Sets the seed of all property tests: see there. */
const SEEDED = pathToFileURL(join(ROOT, 'dist', 'test', 'seed.js')).href;
const FIRST_SEED = process.env.WEFT_EXPLORE ? `${(Date.now() >>> 8) % 1_000_000}` : '20261';

export function print(line = '') {
  process.stdout.write(`${line}\n`);
}

export function beginOutput() {
  mkdirSync(join(ROOT, '.weft'), { recursive: true });
  writeFileSync(OUTPUT, '');
}

/** What the end of the run tells again: {file, took_ms} of each file, {file, path, diagnostics} of each failure. */
const files = [];
const failed = [];

function noteFile(file, counts, { ok, took_ms, failures }) {
  files.push({ file, took_ms });
  const told = failures.map(failure => ({ file, ...failure }));
  print(fileLine(file, counts, { ok, took_ms, failures: told }));
  for (const failure of told) noteFailure(failure);
}

/** Shows it at once, whole; and once more at the end, in short. */
export function noteFailure(failure) {
  failed.push(failure);
  for (const line of failureLines(failure)) print(line);
}

/** To be called last: a log of which only the end is left tells what failed. */
export function printEnd() {
  const slow = slowLines(files);
  if (slow.length > 0) print(`\nSlowest files:\n${slow.join('\n')}`);
  if (failed.length > 0) print(`\nWhat failed, in short:\n${summaryLines(failed).join('\n')}`);
}

/** Built test files under dist/test whose name contains one of the words (all without words), sorted. */
export function testFiles(words, { lab }) {
  const folder = join(ROOT, 'dist', 'test');
  return walk(folder)
    .map(path => relative(ROOT, path))
    .filter(path => path.endsWith('.test.js') && path.startsWith('dist/test/lab/') === lab)
    .filter(path => words.length === 0 || words.some(word => path.includes(word)))
    .sort();
}

function walk(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true }).flatMap(entry =>
    entry.isDirectory() ? walk(join(folder, entry.name)) : [join(folder, entry.name)],
  );
}

/**
 * Units, as many at a time as there are cores and one more, since most wait for something now and then. Each is a process of its own:
 * tap's own runner (`npm run unit`, for the table of coverage) costs a second and a half of processor time for each file.
 */
export async function runUnits(units, take) {
  const startedAt_ms = Date.now();
  const workers = Math.max(2, availableParallelism() + 1);
  await atATime(workers, units, async file => take(await runFile(file)));
  print(`${units.length} files in ${seconds(Date.now() - startedAt_ms)}`);
}

/**
 * Lab tests by what their heads say. Most of them wait for the timers of protocols, and run beside each other. Those that boot
 * guests (`lab: guests`) keep the cores busy for some of their time and run two at a time; what counts frames, has a limit in
 * seconds or a peer that polls says `lab: alone`.
 */
export async function runLabs(labs, take) {
  const say = (file, what) => readFileSync(join(ROOT, file), 'utf8').includes(`lab: ${what}`);
  const run = async file => take(await runFile(file));
  const [alone, guests] = ['alone', 'guests'].map(what => labs.filter(file => say(file, what)));
  const others = labs.filter(file => !alone.includes(file) && !guests.includes(file));
  await atATime(3, others, run);
  await atATime(2, guests, run);
  await atATime(1, alone, run);
}

async function atATime(count, list, run) {
  const left = [...list];
  const work = async () => {
    for (let file; !interrupted && (file = left.shift()) !== undefined;) await run(file);
  };
  await Promise.all(Array.from({ length: count }, work));
}

async function runFile(file) {
  const reader = new TapReader();
  const startedAt_ms = Date.now();
  const problem = await runProgram(
    process.execPath,
    ['--enable-source-maps', '--import', SEEDED, file],
    text => reader.push(text),
    LIMIT_MS,
  );
  reader.end(file, problem);
  const { failures } = reader;
  noteFile(file, reader.counts, { ok: problem === null, took_ms: Date.now() - startedAt_ms, failures });
  showSkips(reader);
  return reader.counts;
}

function showSkips({ skips }) {
  for (const line of skipLines(skips)) print(`       ${line}`);
}

const running = new Set();

/** Whoever ends us ends what we run; tests tidy up after themselves when they are told to end. */
export function passOnSignals() {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(signal, () => {
      for (const child of running) child.kill(signal);
      interrupted = true;
    });
  }
}

/** Whether the rest is not to be run any more. */
export let interrupted = false;

/** Resolves to null after exit code 0, else to words. Its output goes to `take` and to the file of all output. */
function runProgram(command, args, take, limit_ms) {
  return new Promise(resolve => {
    const child = spawn(command, args, {
      cwd: ROOT,
      stdio: ['ignore', 'pipe', 'inherit'],
      env: {
        ...process.env,
        FORCE_COLOR: '0',
        TAP: '1',
        TAP_TIMEOUT: String(TAP_TIMEOUT_S),
        WEFT_FIRST_SEED: FIRST_SEED,
      },
    });
    running.add(child);
    let late = false;
    const limit = setTimeout(() => {
      late = true;
      child.kill('SIGTERM');
      setTimeout(() => child.kill('SIGKILL'), GRACE_MS).unref();
    }, limit_ms);
    child.stdout.setEncoding('utf8');
    child.stdout.on('data', text => {
      appendFileSync(OUTPUT, text);
      take(text);
    });
    child.on('error', error => resolve(`${command} could not be run: ${error.message}`));
    child.on('close', (code, signal) => {
      clearTimeout(limit);
      running.delete(child);
      if (late) resolve(`it was ended after ${limit_ms / 1000} s`);
      else if (code === 0) resolve(null);
      else resolve(signal === null ? `it ended with exit code ${code}` : `it was ended by ${signal}`);
    });
  });
}
