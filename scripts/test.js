/**
 * `npm test`: installs and builds what a fresh clone lacks, then checks format and lint (the build has checked the types), runs
 * the unit tests and, where it can, the lab. The last line is always `N passed, N failed, N skipped`.
 *
 *   npm test                      all of it
 *   npm test -- unit [WORD...]    units only; with words, files whose path contains one of them
 *   npm test -- lab [WORD...]     lab only
 *   npm test -- check             format, types and lint only
 */
import { join } from 'node:path';
import { checkNode } from './setup/node.js';
import { install } from './setup/install.js';
import { build } from './setup/build.js';
import { ROOT, run, step, wordsOf } from './setup/step.js';
import {
  beginOutput,
  interrupted,
  noteFailure,
  passOnSignals,
  print,
  printEnd,
  runLabs,
  runUnits,
  testFiles,
} from './testing/run.js';
import { add, nothing } from './testing/tap.js';

const PARTS = ['check', 'unit', 'lab'];

const [part, ...words] = process.argv.slice(2);
if (part !== undefined && !PARTS.includes(part)) {
  console.error(`npm test [-- ${PARTS.join('|')} [WORD...]]: "${part}" is none of them`);
  process.exit(2);
}
const wants = name => part === undefined || part === name;
const total = nothing();

if (await buildAll()) {
  beginOutput();
  passOnSignals();
  if (wants('check')) await checks();
  if (wants('unit') && !interrupted) {
    print('\nunit tests');
    await runUnits(testFiles(words, { lab: false }), counts => add(total, counts));
  }
  if (wants('lab')) {
    print('\nlab');
    await runLabs(testFiles(words, { lab: true }), counts => add(total, counts));
  }
}
if (interrupted) print('\nInterrupted: not everything ran.');
printEnd();
const ran = total.passed + total.failed;
if (ran === 0) print('\nNothing ran.');
if (total.todo > 0) print(`\n${total.todo} marked TODO, counted in none of the three.`);
print(`\n${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
// Not process.exit(): the last line must get through a pipe.
process.exitCode = total.failed > 0 || ran === 0 || interrupted ? 1 : 0;

async function buildAll() {
  try {
    checkNode();
    await install();
    await build();
    return true;
  } catch (error) {
    fails('Building', error);
    return false;
  }
}

function fails(title, error) {
  total.failed++;
  noteFailure({ file: title, path: [title], diagnostics: wordsOf(error).split('\n') });
}

/** Each counts as one test: a style that is not kept fails the run like any other fault. */
async function checks() {
  const bin = name => join(ROOT, 'node_modules', '.bin', name);
  for (const { title, command, args } of [
    { title: 'Checking the format', command: 'prettier', args: ['--check', '--log-level', 'warn', '.'] },
    { title: 'Checking by lint rules', command: 'oxlint', args: ['--type-aware'] },
  ]) {
    try {
      await step(title, () => run(bin(command), args));
      total.passed++;
    } catch (error) {
      fails(title, error);
    }
  }
  // The build has passed, and with it the types.
  total.passed++;
}
