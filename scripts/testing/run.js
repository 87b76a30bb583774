/** Runs test files and counts: units by `tap run` with coverage, lab tests in processes of their own. */
import { spawn } from 'node:child_process';
import { appendFileSync, existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { ROOT } from '../setup/step.js';
import { failureLines, fileLine, seconds, skipLines, slowLines, summaryLines } from './report.js';
import { TapReader } from './tap.js';

const OUTPUT = join(ROOT, '.weft', 'tests.tap');
/** A lab test boots guests without KVM; one that takes longer than this hangs. */
const LAB_LIMIT_MS = 900_000;
const GRACE_MS = 20_000;

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

function noteFile(file, counts, how) {
  if (how.took_ms !== null) files.push({ file, took_ms: how.took_ms });
  print(fileLine(file, counts, how));
  for (const failure of how.failures) noteFailure({ file, ...failure });
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

/** Many files at a time by tap. Returns the counts. */
export async function runUnits(files, { coverage }) {
  const args = [
    'run',
    '--reporter=tap',
    ...(coverage ? ['--coverage-report=text'] : ['--disable-coverage']),
    ...files,
  ];
  const startedAt_ms = Date.now();
  const reader = new TapReader();
  let toldFailures = 0;
  reader.onTop = (name, counts, how) => {
    toldFailures += how.failures.length;
    noteFile(name, counts, how);
  };
  // Whatever is no TAP at the end is the table of coverage.
  const table = [];
  const problem = await runProgram(join(ROOT, 'node_modules', '.bin', 'tap'), args, text => {
    reader.push(text);
    if (coverage)
      for (const line of text.split('\n'))
        if (/^#? ?[-\w ./]+\|/.test(line)) table.push(line.replace(/^# ?/, ''));
  });
  reader.end('tap', problem);
  for (const failure of reader.failures.slice(toldFailures)) noteFailure({ file: 'tap', ...failure });
  showSkips(reader);
  print(`${files.length} files in ${seconds(Date.now() - startedAt_ms)}`);
  if (table.length > 0) {
    print();
    for (const line of table) print(line);
  }
  return reader.counts;
}

/**
 * Lab tests, each in a process of its own. Most of them wait for the timers of protocols and run two at a time; one that boots
 * guests or has a peer that polls says `lab: alone` in its head, and has the machine for itself.
 */
export async function runLabs(files, take) {
  const alone = files.filter(file => /lab: alone/.test(readFileSync(join(ROOT, file), 'utf8')));
  const others = files.filter(file => !alone.includes(file));
  const work = async () => {
    for (let file; !interrupted && (file = others.shift()) !== undefined;) take(await runLab(file));
  };
  await Promise.all([work(), work()]);
  for (const file of alone) if (!interrupted) take(await runLab(file));
}

async function runLab(file) {
  const reader = new TapReader();
  const startedAt_ms = Date.now();
  const problem = await runProgram(
    process.execPath,
    ['--enable-source-maps', file],
    text => reader.push(text),
    LAB_LIMIT_MS,
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
function runProgram(command, args, take, limit_ms = 0) {
  return new Promise(resolve => {
    const child = spawn(command, args, {
      cwd: ROOT,
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, FORCE_COLOR: '0', TAP: '1' },
    });
    running.add(child);
    let late = false;
    const limit =
      limit_ms === 0
        ? undefined
        : setTimeout(() => {
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
