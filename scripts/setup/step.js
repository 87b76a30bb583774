/**
 * Steps with a name, shown as they go: in place with the seconds on a terminal, as plain lines elsewhere. Their programs' output goes
 * to a log and is shown only when a step fails. Plain JavaScript without dependencies: it runs before `npm ci`.
 */
import { spawn } from 'node:child_process';
import { createWriteStream, mkdirSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');
export const LOG_PATH = join(ROOT, '.weft', 'setup.log');

const TAIL_CHARS = 4000;

export class SetupError extends Error {}

export function wordsOf(error) {
  return error instanceof Error ? error.message : String(error);
}

const live = process.stderr.isTTY === true && process.env.TERM !== 'dumb';
const colour = live && !process.env.NO_COLOR;
const green = text => (colour ? `\u001b[32m${text}\u001b[0m` : text);
const red = text => (colour ? `\u001b[31m${text}\u001b[0m` : text);

export function say(line) {
  process.stderr.write(`${line}\n`);
}

/** Does `work`, saying so; a failure is said as well, and passed on. */
export async function step(title, work) {
  const startedAt_ms = Date.now();
  const seconds = () => Math.round((Date.now() - startedAt_ms) / 1000);
  let timer;
  if (live) {
    const draw = () =>
      process.stderr.write(`\r\u001b[K  ${title} … ${seconds() > 0 ? `${seconds()} s` : ''}`);
    draw();
    timer = setInterval(draw, 1000);
  } else say(`${title} …`);
  const finish = mark => {
    clearInterval(timer);
    const took = seconds() > 0 ? ` (${seconds()} s)` : '';
    if (live) process.stderr.write(`\r\u001b[K${mark} ${title}${took}\n`);
    else if (mark !== green('✓')) say(`failed: ${title}${took}`);
  };
  try {
    const result = await work();
    finish(green('✓'));
    return result;
  } catch (error) {
    finish(red('✗'));
    throw error;
  }
}

let log;

/** Where programs' output goes; begun anew with each run of a script. */
function openLog() {
  if (log === undefined) {
    mkdirSync(dirname(LOG_PATH), { recursive: true });
    log = createWriteStream(LOG_PATH);
    // A log that cannot be written is no reason to stop.
    log.on('error', () => undefined);
  }
  return log;
}

/** Runs a program with its output in the log. Rejects with the end of that output when it fails. */
export function run(command, args, { env = process.env, cwd = ROOT } = {}) {
  const sink = openLog();
  sink.write(`\n$ ${command} ${args.join(' ')}\n`);
  return new Promise((resolve, reject) => {
    let tail = '';
    const child = spawn(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8');
      stream.on('data', text => {
        sink.write(text);
        tail = (tail + text).slice(-TAIL_CHARS);
      });
    }
    child.on('error', error => reject(new SetupError(`${command} could not be run: ${error.message}`)));
    child.on('close', (code, signal) => {
      if (code === 0) return resolve(tail);
      const how = signal === null ? `exit code ${code}` : signal;
      reject(
        new SetupError(
          `${command} ${args[0] ?? ''} failed (${how}). Its last words:\n${tail.trim()}\nAll of them: ${relative(process.cwd(), LOG_PATH)}`,
        ),
      );
    });
  });
}
