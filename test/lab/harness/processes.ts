/**
 * Programs that the lab starts: those that are run to their end (`run`), and those that live beside the test
 * (`start`). Both can be put into a network namespace. Output is kept, bounded, for waiting on and for saying
 * what went wrong.
 */
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { OWNER_VARIABLE, isRunning, owner, ownerTag, statFields } from './owner.js';
import type { Undo } from './undo.js';

/** Of each of stdout and stderr; the oldest goes first. */
const MAX_KEPT_CHARACTERS = 4 * 1024 * 1024;
const MAX_TOLD_CHARACTERS = 2000;

export interface Where {
  /** Path of a network namespace; ours when left out. */
  readonly netns?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

/** An exec, not a shell around it: the pid is the program's own. */
function placed(argv: readonly string[], where: Where): [string, string[]] {
  const [program = '', ...rest] = argv;
  return where.netns === undefined
    ? [program, rest]
    : ['nsenter', [`--net=${where.netns}`, '--', program, ...rest]];
}

function environment(where: Where): NodeJS.ProcessEnv {
  return { ...process.env, LC_ALL: 'C', ...where.env, [OWNER_VARIABLE]: ownerTag(owner) };
}

export class ProgramError extends Error {
  readonly code = 'LAB_PROGRAM_FAILED';
}

const tail = (text: string): string => text.slice(-MAX_TOLD_CHARACTERS).trim();

export interface Ended {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions extends Where {
  readonly input?: string | Uint8Array;
  readonly timeout_ms?: number;
  /** Do not reject when the program says that it failed. */
  readonly mayFail?: boolean;
}

/** Run a program to its end. Rejects when it fails, takes too long, or cannot be started. */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<Ended> {
  const running = new RunningProgram(argv, options);
  running.child.stdin?.end(options.input ?? '');
  const timeout_ms = options.timeout_ms ?? 60_000;
  const timer = setTimeout(() => running.signal('SIGKILL'), timeout_ms);
  const ended = await running.ended.finally(() => clearTimeout(timer));
  if (ended.status !== 0 && options.mayFail !== true) {
    const how = ended.status === null ? `was ended by ${ended.signal}` : `ended with ${ended.status}`;
    throw new ProgramError(`${argv.join(' ')} ${how}: ${tail(ended.stderr) || tail(ended.stdout)}`);
  }
  return ended;
}

/** As `run`, for undo steps; never throws. */
export function runSync(argv: readonly string[]): { status: number | null; stdout: string; stderr: string } {
  const [program = '', ...rest] = argv;
  const ended = spawnSync(program, rest, { encoding: 'utf8', timeout: 20_000 });
  return { status: ended.status, stdout: ended.stdout ?? '', stderr: ended.stderr ?? String(ended.error) };
}

export class RunningProgram {
  readonly child: ChildProcess;
  readonly argv: readonly string[];
  /** Never rejects because of how the program ended; rejects when it could not be started. */
  readonly ended: Promise<Ended>;
  stdout = '';
  stderr = '';
  #ended: Ended | null = null;
  readonly #listeners = new Set<() => void>();

  constructor(argv: readonly string[], where: Where = {}) {
    this.argv = argv;
    const [program, rest] = placed(argv, where);
    this.child = spawn(program, rest, {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: environment(where),
      ...(where.cwd === undefined ? {} : { cwd: where.cwd }),
    });
    this.child.stdin?.on('error', () => {}); // A program may end without reading all of its input.
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout = (this.stdout + text).slice(-MAX_KEPT_CHARACTERS);
      this.#tell();
    });
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr = (this.stderr + text).slice(-MAX_KEPT_CHARACTERS);
      this.#tell();
    });
    this.ended = new Promise((resolve, reject) => {
      this.child.on('error', error => reject(new ProgramError(`${argv.join(' ')}: ${error.message}`)));
      this.child.on('close', (status, signal) => {
        this.#ended = { status, signal, stdout: this.stdout, stderr: this.stderr };
        resolve(this.#ended);
        this.#tell();
      });
    });
    this.ended.catch(() => this.#tell());
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  get isRunning(): boolean {
    return this.#ended === null && this.child.pid !== undefined && isRunning(this.child.pid);
  }

  signal(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  /** Ask it to end (SIGTERM), and wait for that; kill it when it takes longer than the time given. */
  async stop(timeout_ms = 10_000): Promise<Ended> {
    const timer = setTimeout(() => this.signal('SIGKILL'), timeout_ms);
    this.signal('SIGTERM');
    return this.ended.finally(() => clearTimeout(timer));
  }

  /** What `find` returns once it finds something in the output so far; rejects when the program ends before. */
  async waitForOutput<T>(
    find: (stdout: string, stderr: string) => T | null,
    timeout_ms = 60_000,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      const finish = (act: () => void): void => {
        clearTimeout(timer);
        this.#listeners.delete(look);
        act();
      };
      const fail = (why: string): void =>
        finish(() =>
          reject(new ProgramError(`${this.argv.join(' ')} ${why}: ${tail(this.stderr + this.stdout)}`)),
        );
      const look = (): void => {
        const found = find(this.stdout, this.stderr);
        if (found !== null) finish(() => resolve(found));
        else if (this.#ended !== null) fail('ended before it said what was waited for');
      };
      const timer = setTimeout(() => fail(`did not say what was waited for in ${timeout_ms} ms`), timeout_ms);
      this.#listeners.add(look);
      look();
    });
  }

  #tell(): void {
    for (const listener of this.#listeners) listener();
  }
}

/** Start a program that lives beside the test; it is killed when `undo` runs. Its stdin stays open. */
export function start(undo: Undo, argv: readonly string[], where: Where = {}): RunningProgram {
  const program = new RunningProgram(argv, where);
  undo.push(`stop ${argv[0]} (pid ${program.pid})`, () => {
    if (program.isRunning) killSync(program.pid);
  });
  return program;
}

const sleeper = new Int32Array(new SharedArrayBuffer(4));

export function sleepSync(time_ms: number): void {
  Atomics.wait(sleeper, 0, 0, time_ms);
}

/** SIGKILL, and wait until the kernel has taken it down: namespaces and mounts are busy until then. */
export function killSync(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    return;
  }
  for (let i = 0; i < 500 && isRunning(pid); i++) sleepSync(10);
}

/** sysconf(_SC_CLK_TCK): 100 on every Linux that Node runs on. */
const CLOCK_TICKS_PER_S = 100;
const UTIME = 14 - 3;
const STIME = 15 - 3;

/** User and system time of all threads so far; null when it is gone. */
export function cpuTime_s(pid: number): number | null {
  const fields = statFields(pid);
  return fields === null ? null : (Number(fields[UTIME]) + Number(fields[STIME])) / CLOCK_TICKS_PER_S;
}

const CUTIME = 16 - 3;
const CSTIME = 17 - 3;

/** As `cpuTime_s`, with that of children which it waited for, and of those that live. */
export function cpuTimeOfAll_s(pid: number): number | null {
  const own_s = cpuTime_s(pid);
  const fields = statFields(pid);
  if (own_s === null || fields === null) return null;
  let sum_s = own_s + (Number(fields[CUTIME]) + Number(fields[CSTIME])) / CLOCK_TICKS_PER_S;
  for (const child of childrenOf(pid)) sum_s += cpuTimeOfAll_s(child) ?? 0;
  return sum_s;
}

/** proc(5), /proc/PID/task/TID/children, of all of its threads. */
function childrenOf(pid: number): number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap(thread =>
      readFileSync(`/proc/${pid}/task/${thread}/children`, 'latin1').split(' ').filter(Boolean).map(Number),
    );
  } catch {
    return [];
  }
}

/** Ask again and again until the answer is not null. For what gives no sign of its own; else wait for the sign. */
export async function eventually<T>(
  what: string,
  ask: () => Promise<T | null> | T | null,
  { timeout_ms = 60_000, every_ms = 50 }: { timeout_ms?: number; every_ms?: number } = {},
): Promise<T> {
  const until_ms = performance.now() + timeout_ms;
  for (;;) {
    const answer = await ask();
    if (answer !== null) return answer;
    if (performance.now() > until_ms) throw new ProgramError(`waited ${timeout_ms} ms in vain: ${what}`);
    await new Promise(resolve => setTimeout(resolve, every_ms));
  }
}
