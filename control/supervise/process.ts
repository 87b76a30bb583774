/**
 * One plane's process: found or started, watched, started again, and told what it is to have.
 *
 *   looking --answers with our version--> up --/events ends--> looking
 *      |  \--another version--> told to end, then as nobody
 *      \--nobody--> starting --answers--> up
 *                      \--dies, or silent for 15 s--> backoff (0, then 100 ms .. 10 s) --> looking
 *
 * A plane is started detached, with its output in a file, and is not our child in any way that matters: weftd's
 * death leaves it running and the next weftd finds it by its socket. The end of its `/events` stream is noticed
 * within a millisecond, also of one that we did not start; while no plane runs no frame passes, so nothing here
 * waits longer than it must.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import type { z } from 'zod';
import type { Clock } from '../clock.js';
import { PlaneClient } from './http/process.js';
import { PlaneError } from './errors.js';
import { endsInARow, restartDelay_ms } from './backoff.js';

export interface PlaneHealth {
  version: string;
  pid: number;
  startedAt_ms: number;
  generation: number;
}

export interface PlaneWords<Applied, Status, Event> {
  health: z.ZodType<PlaneHealth>;
  applied: z.ZodType<Applied>;
  status: z.ZodType<Status>;
  event: z.ZodType<Event>;
}

export interface PlaneSpec<Applied, Status, Event> {
  name: 'dataplane' | 'storage';
  version: string;
  socketPath: string;
  /** Arguments of node, without `--socket`. */
  program: readonly string[];
  logPath: string;
  pidPath: string;
  words: PlaneWords<Applied, Status, Event>;
}

export type PlaneState = 'up' | 'starting' | 'backoff' | 'stopped';

export interface PlaneInfo {
  name: 'dataplane' | 'storage';
  state: PlaneState;
  pid: number | null;
  version: string | null;
  startedAt_ms: number | null;
  restartCount: number;
  reason: string | null;
}

export interface PlaneListener<Event> {
  onState(info: PlaneInfo): void;
  onEvent(event: Event): void;
  /** What an operator should read in the events: started, adopted, replaced, died. */
  onNote(level: 'info' | 'warning' | 'error', reason: string, message: string): void;
}

/** What Open vSwitch gives its own switch. Inherited by the threads that the plane starts. */
const PLANE_NICENESS = -10;
const POLL_MS = 10;
const START_DEADLINE_MS = 15_000;
const HEALTH_DEADLINE_MS = 2_000;
const WATCH_EVERY_MS = 5_000;
const WATCH_DEADLINE_MS = 5_000;
/** Silent so many times in a row, though its socket is open: it hangs, and is ended. */
const WATCH_FAILURES_MAX = 3;
const CONFIGURE_DEADLINE_MS = 20_000;
const TERMINATE_DEADLINE_MS = 5_000;

export class Plane<Config extends { generation: number }, Applied, Status, Event> {
  readonly client: PlaneClient;
  readonly #spec: PlaneSpec<Applied, Status, Event>;
  readonly #clock: Clock;
  readonly #listener: PlaneListener<Event>;
  #info: PlaneInfo;
  #config: Config | undefined;
  #closing = false;
  #endCount = 0;
  #stopStream: AbortController | undefined;
  #wakeWaiter: (() => void) | undefined;
  #running: Promise<void> | undefined;

  constructor(spec: PlaneSpec<Applied, Status, Event>, clock: Clock, listener: PlaneListener<Event>) {
    this.#spec = spec;
    this.#clock = clock;
    this.#listener = listener;
    this.client = new PlaneClient(`weft-${spec.name}`, spec.socketPath);
    this.#info = {
      name: spec.name,
      state: 'stopped',
      pid: null,
      version: null,
      startedAt_ms: null,
      restartCount: 0,
      reason: 'it is being looked for',
    };
  }

  get info(): PlaneInfo {
    return this.#info;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async status(): Promise<Status> {
    this.#mustBeUp();
    return this.client.call({ method: 'GET', path: '/status', reply: this.#spec.words.status });
  }

  /** Remembered, so that a restarted plane is told at once without anyone's doing. */
  async configure(config: Config): Promise<Applied> {
    this.#config = config;
    this.#mustBeUp();
    return this.#send(config);
  }

  /** What it has already; told again when it is started again. */
  remember(config: Config): void {
    this.#config = config;
  }

  /** Ends the plane. */
  async stop(): Promise<void> {
    await this.detach();
    const pid = this.#info.pid;
    if (pid !== null) await this.#terminate(pid);
    this.#change({ state: 'stopped', pid: null, reason: 'weftd was told to end it' });
  }

  /** Lets go of it, running. */
  async detach(): Promise<void> {
    this.#closing = true;
    this.#stopStream?.abort();
    this.#wakeWaiter?.();
    await this.#running;
  }

  #mustBeUp(): void {
    if (this.#info.state === 'up') return;
    throw new PlaneError(
      'PLANE_DOWN',
      `weft-${this.#spec.name} is not up: ${this.#info.reason ?? this.#info.state}`,
    );
  }

  #send(config: Config): Promise<Applied> {
    return this.client.call({
      method: 'PUT',
      path: '/config',
      body: config,
      reply: this.#spec.words.applied,
      deadline_ms: CONFIGURE_DEADLINE_MS,
    });
  }

  async #run(): Promise<void> {
    while (!this.#closing) {
      try {
        const health = (await this.#find()) ?? (await this.#launch());
        if (health !== undefined && !this.#closing) await this.#serve(health);
      } catch (error) {
        // Nothing may end this loop but `detach`.
        this.#died(error instanceof Error ? error.message : String(error), 0);
      }
      if (this.#closing) return;
      const delay_ms = restartDelay_ms(this.#endCount);
      if (delay_ms === 0) continue;
      this.#change({ state: 'backoff' });
      await this.#wait(delay_ms);
    }
  }

  /** One that runs already, if it is ours and of our version. */
  async #find(): Promise<PlaneHealth | undefined> {
    let health: PlaneHealth;
    try {
      health = await this.#health(HEALTH_DEADLINE_MS);
    } catch (error) {
      if (error instanceof PlaneError && error.code === 'PLANE_UNREACHABLE') return undefined;
      // Something has the socket and does not speak: the plane that we know of, hanging.
      const pid = this.#readPid();
      if (pid === undefined) throw error;
      this.#note('error', 'PlaneHangs', `${String(error)}: process ${pid} is ended`);
      await this.#terminate(pid);
      return undefined;
    }
    if (health.version === this.#spec.version) {
      this.#note('info', 'PlaneAdopted', `process ${health.pid} runs already and is taken over`);
      return health;
    }
    this.#note(
      'info',
      'PlaneReplaced',
      `process ${health.pid} has version ${health.version}, weftd ${this.#spec.version}: it is restarted`,
    );
    await this.#terminate(health.pid);
    return undefined;
  }

  #health(deadline_ms: number): Promise<PlaneHealth> {
    return this.client.call({
      method: 'GET',
      path: '/health',
      reply: this.#spec.words.health,
      deadline_ms,
    });
  }

  async #launch(): Promise<PlaneHealth | undefined> {
    const began_ms = this.#clock.now_ms();
    const isFirst = this.#info.restartCount === 0;
    this.#change({ state: 'starting', pid: null, ...(isFirst ? { reason: 'it is being started' } : {}) });
    const child = this.#spawn();
    let ended: string | undefined;
    child.once('error', error => {
      ended = `cannot be started: ${error.message}`;
      this.#wakeWaiter?.();
    });
    child.once('exit', (code, signal) => {
      ended ??= signal === null ? `exited with code ${code}` : `was ended by ${signal}`;
      this.#wakeWaiter?.();
    });
    while (!this.#closing && ended === undefined) {
      try {
        const health = await this.#health(HEALTH_DEADLINE_MS);
        if (health.pid === child.pid) {
          this.#note('info', 'PlaneStarted', `process ${health.pid}, version ${health.version}`);
          return health;
        }
        ended = `another process, ${health.pid}, serves its socket`;
      } catch (error) {
        if (!(error instanceof PlaneError)) throw error;
      }
      if (this.#clock.now_ms() - began_ms > START_DEADLINE_MS) {
        ended = `did not answer within ${START_DEADLINE_MS / 1000} s`;
        child.kill('SIGKILL');
      }
      if (ended === undefined) await this.#wait(POLL_MS);
    }
    if (ended !== undefined) this.#died(`${ended}; ${this.#spec.logPath} has its last words`, 0);
    return undefined;
  }

  #spawn(): ChildProcess {
    const log = fs.openSync(this.#spec.logPath, 'a', 0o600);
    try {
      const child = spawn(process.execPath, [...this.#spec.program, '--socket', this.#spec.socketPath], {
        detached: true,
        stdio: ['ignore', log, log],
        // Outliving us, it must not hold a file system that somebody wants to unmount.
        cwd: '/',
      });
      if (child.pid !== undefined) outrankGuests(child.pid);
      child.unref();
      return child;
    } finally {
      fs.closeSync(log);
    }
  }

  /** From "it answers" until it is gone. */
  async #serve(health: PlaneHealth): Promise<void> {
    const began_ms = this.#clock.now_ms();
    fs.writeFileSync(this.#spec.pidPath, `${health.pid}\n`, { mode: 0o600 });
    const stream = new AbortController();
    this.#stopStream = stream;
    // The configuration first: frames pass as soon as the plane has it.
    const config = this.#config;
    const sent =
      config === undefined || config.generation === health.generation
        ? undefined
        : this.#send(config).catch((error: unknown) => {
            this.#note('error', 'PlaneRefused', error instanceof Error ? error.message : String(error));
          });
    const stopWatching = this.#watch(health.pid, stream);
    try {
      await this.client.events(
        this.#spec.words.event,
        () => {
          void (async () => {
            await sent;
            if (stream.signal.aborted) return;
            this.#change({
              state: 'up',
              pid: health.pid,
              version: health.version,
              startedAt_ms: health.startedAt_ms,
              reason: null,
            });
          })();
        },
        event => this.#listener.onEvent(event),
        stream.signal,
      );
    } catch (error) {
      if (!(error instanceof PlaneError || error instanceof RangeError)) throw error;
    } finally {
      stopWatching();
      stream.abort();
    }
    if (this.#closing) return;
    this.#died('it ended', this.#clock.now_ms() - began_ms);
  }

  /** A plane that has its socket open but answers nothing. Returns how to stop watching. */
  #watch(pid: number, stream: AbortController): () => void {
    let failureCount = 0;
    let cancel = (): void => {};
    const look = async (): Promise<void> => {
      try {
        await this.#health(WATCH_DEADLINE_MS);
        failureCount = 0;
      } catch {
        failureCount += 1;
      }
      if (stream.signal.aborted) return;
      if (failureCount >= WATCH_FAILURES_MAX) {
        this.#note('error', 'PlaneHangs', `process ${pid} does not answer and is ended`);
        await this.#terminate(pid, 'SIGKILL');
        stream.abort();
        return;
      }
      cancel = this.#clock.after(WATCH_EVERY_MS, () => void look());
    };
    cancel = this.#clock.after(WATCH_EVERY_MS, () => void look());
    return () => cancel();
  }

  #died(how: string, lived_ms: number): void {
    this.#endCount = endsInARow(this.#endCount, lived_ms);
    this.#change({
      state: 'starting',
      pid: null,
      startedAt_ms: null,
      reason: how,
      restartCount: this.#info.restartCount + 1,
    });
    this.#note('warning', 'PlaneEnded', `${how}; it is started again`);
  }

  /** SIGTERM, and SIGKILL when that does nothing. Only a process that was started with our socket's path. */
  async #terminate(pid: number, first: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    if (!this.#isOurs(pid)) return;
    const deadline_ms = this.#clock.now_ms() + TERMINATE_DEADLINE_MS;
    kill(pid, first);
    while (this.#isOurs(pid)) {
      if (this.#clock.now_ms() > deadline_ms) kill(pid, 'SIGKILL');
      await this.#wait(POLL_MS);
    }
  }

  #isOurs(pid: number): boolean {
    try {
      const state = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.[0];
      // A zombie of ours waits for us to notice its end.
      if (state === 'Z') return false;
      return fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(this.#spec.socketPath);
    } catch {
      return false;
    }
  }

  #readPid(): number | undefined {
    try {
      const pid = Number.parseInt(fs.readFileSync(this.#spec.pidPath, 'utf8'), 10);
      return Number.isSafeInteger(pid) && this.#isOurs(pid) ? pid : undefined;
    } catch {
      return undefined;
    }
  }

  /** Ends early when something happened. */
  #wait(delay_ms: number): Promise<void> {
    return new Promise(resolve => {
      const done = (): void => {
        cancel();
        this.#wakeWaiter = undefined;
        resolve();
      };
      const cancel = this.#clock.after(delay_ms, done);
      this.#wakeWaiter = done;
    });
  }

  #change(change: Partial<PlaneInfo>): void {
    this.#info = { ...this.#info, ...change };
    this.#listener.onState(this.#info);
  }

  #note(level: 'info' | 'warning' | 'error', reason: string, message: string): void {
    this.#listener.onNote(level, reason, `weft-${this.#spec.name}: ${message}`);
  }
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It is gone already.
  }
}

/**
 * Before the guests when processors are short: every guest waits for a plane, and one that is started anew has half
 * a second of work before the first frame passes. Ordinary users may not, and do without.
 */
function outrankGuests(pid: number): void {
  try {
    os.setPriority(pid, PLANE_NICENESS);
    // sched(7): where the kernel shares time among sessions first, niceness counts only inside of one; a plane has its own.
    fs.writeFileSync(`/proc/${pid}/autogroup`, String(PLANE_NICENESS));
  } catch {
    // No right to, no such file, or gone already: the first two are no fault, the last is noticed elsewhere.
  }
}
