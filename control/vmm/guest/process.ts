/**
 * One guest: its QEMU, the two monitors, its record on disk, and the machine of lifecycle.ts that says what all
 * of it means. `process.ts` above holds one of these per machine and chooses the hardware.
 *
 * What is noticed how:
 *   QEMU gone         end of its monitor (at once), then the process table; our own child's exit status
 *   power-off, panic  events; if weftd was not there, the status that QEMU was left in (-action in arguments.ts)
 *   QEMU silent       a call that misses its deadline: the heartbeat's or a user's. While a guest is silent one
 *                     question stays open; its late answer, or that to a signal of life, brings the guest back.
 * Nothing here waits for a guest without a deadline, and guests know nothing of each other.
 */
import type { ChildProcess } from 'node:child_process';
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { guestPaths, qemuArguments, planProblem, type Hardware } from '../arguments.js';
import { VmmError } from '../errors.js';
import type { RunDirectories } from '../files/process.js';
import type { BootPlan, ObservedGuest } from '../host.js';
import type { ProcessIdentity } from '../identity.js';
import { step, UNSTARTED, type Life, type LifeEffect, type LifeEvent } from '../lifecycle.js';
import { isRecord } from '../qmp/codec.js';
import { Monitor, QmpError } from '../qmp/loop.js';
import { lastWords } from '../qemu/describe.js';
import {
  findByArgument,
  hostBootId,
  isRunning,
  processStat,
  processUser,
  signal,
  spawnQemu,
  type Qemu,
} from '../qemu/process.js';
import type { BootRecord } from '../record.js';

/** QEMU may try for OPEN_TIMEOUT_s to reach its disks before it answers. */
export const START_DEADLINE_ms = 45_000;
/** An adopted guest that says nothing for so long is listed as unresponsive; it is still listened to. */
export const ATTACH_DEADLINE_ms = 5000;
const QUIT_DEADLINE_ms = 2000;
const KILL_DEADLINE_ms = 10_000;
/** A guest that is still booting does not hear the power button; so it is pressed again. */
const PRESS_AGAIN_ms = 5000;
/** Between the end of a monitor and that of its process: memory has to be given back. */
const EXIT_GRACE_ms = 3000;
/** Failing requests come by the thousand; the word goes out once in a while. */
const DISK_ERROR_NOTICE_ms = 1000;

export interface Boot {
  qemu: Qemu;
  hardware: Hardware;
  accelReason: string;
  group: number | null;
  bootId: string;
}

export class Guest {
  readonly name: string;
  #files: RunDirectories;
  #changed: (name: string) => void;
  #life: Life = UNSTARTED;
  #record: BootRecord | undefined;
  #identity: ProcessIdentity | undefined;
  #child: ChildProcess | undefined;
  #main: Monitor | undefined;
  #spare: Monitor | undefined;
  #starting = false;
  #attaching = false;
  #asking = false;
  #detached = false;
  #console: Duplex | undefined;
  #settling = false;
  #goneWaiters = new Set<() => void>();
  #told = '';
  #noticeTimer: NodeJS.Timeout | undefined;

  constructor(name: string, files: RunDirectories, changed: (name: string) => void) {
    this.name = name;
    this.#files = files;
    this.#changed = changed;
  }

  observed(): ObservedGuest {
    const record = this.#record;
    return {
      name: this.name,
      state: this.#life.state,
      reason: this.#life.reason,
      ended: this.#life.ended,
      pid: this.runs ? (this.#identity?.pid ?? null) : null,
      bootId: record?.bootId ?? null,
      startedAt_ms: record?.startedAt_ms ?? null,
      accel: record?.hardware.accel ?? null,
      accelReason: record?.accelReason ?? null,
      plan: record?.plan ?? null,
      qemuStatus: this.#life.qemuStatus,
      diskErrors: this.#life.diskErrors,
    };
  }

  get runs(): boolean {
    return this.#starting || (this.#life.state !== 'stopped' && this.#life.state !== 'crashed');
  }

  /** Refuses what is certain not to boot, before anything is touched. */
  checkStart(plan: BootPlan): void {
    if (this.#detached) throw new VmmError('VMM_DETACHED', 'weftd is ending');
    if (this.runs)
      throw new VmmError('VMM_RUNNING', `machine ${this.name} runs already (${this.#life.state})`);
    const problem = planProblem(plan, guestPaths(this.#files.path(this.name)));
    if (problem !== null)
      throw new VmmError('VMM_BAD_PLAN', `machine ${this.name} cannot be booted: ${problem}`);
  }

  /** `boot` is called once nothing else can start this guest; it may take its time. */
  async start(plan: BootPlan, boot: () => Promise<Boot>): Promise<void> {
    this.checkStart(plan);
    this.#starting = true;
    try {
      await this.#spawn(plan, await boot());
    } finally {
      this.#starting = false;
    }
    try {
      await this.#attach(START_DEADLINE_ms);
      await this.#runCpus();
    } catch (error) {
      // A weftd that lets go in the middle leaves it to the next one.
      if (this.#detached) throw error;
      const words = error instanceof Error ? error.message : String(error);
      await this.#endAtOnce();
      const log = lastWords(this.#files.tail(this.#files.path(this.name, 'qemu.log'), 4096));
      const reason = log === '' ? words : log;
      this.#step({ type: 'gone', how: reason }, true);
      throw new VmmError('VMM_START_FAILED', `machine ${this.name} did not start: ${reason}`, {
        cause: error,
      });
    }
  }

  async #spawn(plan: BootPlan, boot: Boot): Promise<void> {
    const files = this.#files;
    const paths = guestPaths(files.path(this.name));
    const argv = qemuArguments(plan, boot.hardware, paths);
    files.removeFiles([...paths.qmp, paths.serialSocket, ...plan.nics.map(nic => nic.socketPath)]);
    files.keepOldLog(paths.serialLog);
    files.removeIdentity(this.name);
    this.#record = {
      version: 1,
      bootId: boot.bootId,
      plan: structuredClone(plan) as BootRecord['plan'],
      qemu: { binary: boot.qemu.binary, version: boot.qemu.version },
      hardware: boot.hardware,
      accelReason: boot.accelReason,
      argv,
      startedAt_ms: Date.now(),
      asked: null,
      end: null,
    };
    files.writeRecord(this.name, this.#record);
    const logFd = files.openLog(files.path(this.name, 'qemu.log'));
    this.#identity = undefined;
    this.#step({ type: 'spawned' });
    try {
      const options = { owner: files.owner(this.name), group: boot.group, logFd };
      const { child, identity } = await spawnQemu(boot.qemu.binary, argv, options);
      this.#child = child;
      this.#identity = identity;
      child.once('exit', (code, signalName) => {
        if (this.#child !== child) return;
        this.#child = undefined;
        this.#gone(
          signalName === null ? `QEMU ended with exit status ${code}` : `QEMU was ended by ${signalName}`,
        );
      });
      files.writeIdentity(this.name, identity);
    } catch (error) {
      this.#step({ type: 'gone', how: error instanceof Error ? error.message : String(error) });
      throw error;
    } finally {
      files.closeLog(logFd);
    }
  }

  /** Take over what an earlier weftd left; quick even when the guest is stuck. */
  async adopt(): Promise<void> {
    const files = this.#files;
    files.prepare(this.name);
    this.#record = files.readRecord(this.name);
    const record = this.#record;
    const uid = files.owner(this.name)?.uid ?? process.getuid?.() ?? 0;
    const noted = files.readIdentity(this.name);
    const paths = guestPaths(files.path(this.name));
    if (noted !== undefined && isRunning(noted) && processUser(noted.pid) === uid) this.#identity = noted;
    else if (record === undefined || record.end === null)
      this.#identity = findByArgument(`path=${paths.qmp[0]},`, uid);
    if (this.#identity === undefined) {
      this.#adoptEnded(noted);
      return;
    }
    files.writeIdentity(this.name, this.#identity);
    this.#life = { ...UNSTARTED, state: 'starting', asked: record?.asked ?? null };
    try {
      await this.#attach(ATTACH_DEADLINE_ms);
      await this.#ask();
    } catch (error) {
      await this.#fellSilent(error);
    }
  }

  #adoptEnded(noted: ProcessIdentity | undefined): void {
    const record = this.#record;
    if (record === undefined) return;
    if (record.end !== null) {
      const { ended, reason } = record.end;
      this.#life = { ...UNSTARTED, state: ended === 'crashed' ? 'crashed' : 'stopped', ended, reason };
      return;
    }
    if (noted === undefined) {
      this.#life = { ...UNSTARTED, reason: 'weftd ended before QEMU was started' };
      return;
    }
    this.#life = { ...UNSTARTED, state: 'starting', asked: record.asked };
    const when =
      noted.hostBootId === hostBootId()
        ? 'QEMU ended while weftd was down'
        : 'the host was restarted while it ran';
    this.#step({ type: 'gone', how: this.#withLog(when) });
  }

  async stop(timeout_ms: number): Promise<void> {
    if (!this.runs) return;
    if (this.#life.qemuStatus === 'paused') await this.#call('cont');
    this.#step({ type: 'asked', what: 'stop', timeout_ms });
    const end_ms = Date.now() + timeout_ms;
    while (this.runs) {
      await this.#call('system_powerdown');
      const left_ms = end_ms - Date.now();
      if (await this.#waitGone(Math.min(PRESS_AGAIN_ms, Math.max(left_ms, 0)))) return;
      if (Date.now() < end_ms) continue;
      this.#step({ type: 'askedInVain' });
      throw new VmmError(
        'VMM_STOP_TIMEOUT',
        `machine ${this.name} did not power off within ${timeout_ms / 1000} s; it still runs. ` +
          `Its system may ignore the power button or be busy: look at its console, or end it with \`weft machine kill ${this.name}\``,
      );
    }
  }

  async kill(): Promise<void> {
    if (!this.runs) return;
    this.#step({ type: 'asked', what: 'kill', timeout_ms: KILL_DEADLINE_ms });
    await this.#endAtOnce();
  }

  async reset(): Promise<void> {
    await this.#call('system_reset');
  }

  async pause(): Promise<void> {
    await this.#call('stop');
    await this.#ask();
  }

  async resume(): Promise<void> {
    await this.#call('cont');
    await this.#ask();
  }

  async console(): Promise<Duplex> {
    if (!this.runs)
      throw new VmmError(
        'VMM_NOT_RUNNING',
        `machine ${this.name} does not run, so nobody answers on its console`,
      );
    const busy = (who: string): VmmError =>
      new VmmError(
        'VMM_CONSOLE_BUSY',
        `${who} is on the console of machine ${this.name} already; one at a time`,
      );
    if (this.#console !== undefined) throw busy('somebody');
    const chardevs = await this.#call('query-chardev');
    const serial = Array.isArray(chardevs)
      ? chardevs.find(one => isRecord(one) && one['label'] === 'serial')
      : undefined;
    // QEMU would let a second one connect and then not speak to it.
    if (
      isRecord(serial) &&
      typeof serial['filename'] === 'string' &&
      !serial['filename'].startsWith('disconnected:')
    )
      throw busy('a program outside weft');
    if (this.#console !== undefined) throw busy('somebody');
    const socket = connect(guestPaths(this.#files.path(this.name)).serialSocket);
    this.#console = socket;
    socket.once('close', () => {
      if (this.#console === socket) this.#console = undefined;
    });
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', error =>
        reject(
          new VmmError(
            'VMM_NOT_RUNNING',
            `the console of machine ${this.name} does not answer: ${error.message}`,
          ),
        ),
      );
    });
    return socket;
  }

  /** Called every few seconds: is it still there, does it still answer? */
  heartbeat(): void {
    const { serialLog } = guestPaths(this.#files.path(this.name));
    this.#files.boundLog(serialLog);
    this.#files.boundLog(this.#files.path(this.name, 'qemu.log'));
    if (!this.runs || this.#starting || this.#detached || this.#identity === undefined) return;
    if (!isRunning(this.#identity) && this.#child === undefined) {
      this.#gone('QEMU has ended');
      return;
    }
    if (this.#main === undefined || this.#main.closed) {
      if (!this.#attaching && !this.#settling) void this.#attachAgain();
      return;
    }
    if (this.#life.state !== 'unresponsive' && this.#life.state !== 'starting')
      void this.#ask().catch(() => {});
  }

  detach(): void {
    this.#detached = true;
    clearTimeout(this.#noticeTimer);
    this.#console?.destroy();
    this.#main?.close();
    this.#spare?.close();
  }

  // Monitors.

  async #attach(deadline_ms: number): Promise<void> {
    this.#attaching = true;
    try {
      const [mainPath, sparePath] = guestPaths(this.#files.path(this.name)).qmp;
      const end_ms = Date.now() + deadline_ms;
      this.#main = await this.#dial(mainPath, end_ms, false);
      this.#spare = await this.#dial(sparePath, end_ms, true);
    } finally {
      this.#attaching = false;
    }
  }

  /** QEMU makes its sockets some time after it starts. */
  async #dial(path: string, end_ms: number, oob: boolean): Promise<Monitor> {
    for (;;) {
      if (!this.runs || this.#detached) throw new QmpError('QMP_CLOSED', 'QEMU has ended');
      try {
        const monitor: Monitor = await Monitor.connect(
          path,
          {
            onEvent: (event, data) => {
              // Both monitors tell of everything; one is enough.
              if (!oob) this.#step({ type: 'qmp', event, data });
            },
            onClose: () => void this.#settle(),
            onLate: () => {
              if (!oob) void this.#ask().catch(() => {});
            },
          },
          { oob, deadline_ms: Math.max(end_ms - Date.now(), 1) },
        );
        return monitor;
      } catch (error) {
        if (Date.now() + 25 >= end_ms) throw error;
        await sleep(25);
      }
    }
  }

  async #attachAgain(): Promise<void> {
    this.#main?.close();
    this.#spare?.close();
    try {
      await this.#attach(ATTACH_DEADLINE_ms);
      await this.#ask();
    } catch (error) {
      if (this.runs && !this.#detached) await this.#fellSilent(error);
    }
  }

  async #runCpus(): Promise<void> {
    await this.#ask();
    // `cont` is an effect of the status `prelaunch`; it has been answered when the next question is.
    const end_ms = Date.now() + ATTACH_DEADLINE_ms;
    while (this.#life.state === 'starting') {
      if (Date.now() > end_ms) throw new QmpError('QMP_DEADLINE', 'QEMU did not let the CPUs run');
      await sleep(10);
      await this.#ask();
    }
    if (!this.runs) throw new QmpError('QMP_CLOSED', this.#life.reason ?? 'QEMU has ended');
  }

  /** query-status, one at a time. Its outcome is in the guest's life. */
  async #ask(): Promise<void> {
    if (this.#asking) return;
    this.#asking = true;
    try {
      const status = await this.#call('query-status');
      if (isRecord(status) && typeof status['status'] === 'string')
        this.#step({ type: 'status', status: status['status'] });
    } finally {
      this.#asking = false;
    }
  }

  async #call(execute: string): Promise<unknown> {
    if (!this.runs) throw new VmmError('VMM_NOT_RUNNING', `machine ${this.name} does not run`);
    const main = this.#main;
    if (main === undefined || main.closed)
      throw new VmmError(
        'VMM_UNRESPONSIVE',
        `machine ${this.name} cannot be asked: ${this.#life.reason ?? 'QEMU is not connected yet'}`,
      );
    try {
      return await main.call(execute);
    } catch (error) {
      if (!(error instanceof QmpError)) throw error;
      if (error.code === 'QMP_REFUSED')
        throw new VmmError('VMM_QMP', `machine ${this.name}: ${error.message}`, { cause: error });
      if (error.code === 'QMP_CLOSED')
        throw new VmmError('VMM_NOT_RUNNING', `machine ${this.name}: ${error.message}`, { cause: error });
      await this.#fellSilent(error);
      throw new VmmError('VMM_UNRESPONSIVE', `machine ${this.name}: ${this.#life.reason ?? error.message}`, {
        cause: error,
      });
    }
  }

  async #fellSilent(error: unknown): Promise<void> {
    if (!this.runs || this.#identity === undefined) return;
    const { pid } = this.#identity;
    const state = processStat(pid)?.state;
    let reason;
    if (state === 'T' || state === 't')
      reason = `QEMU (process ${pid}) was stopped by a signal; \`kill -CONT ${pid}\` lets it go on`;
    else if (await this.#spareAnswers())
      reason =
        "QEMU's main loop stands still, most likely for a disk whose server is away; it goes on by itself when that is back";
    else reason = `QEMU does not answer: ${error instanceof Error ? error.message : String(error)}`;
    if (this.runs) this.#step({ type: 'silent', reason });
  }

  /** Out of band: works while the main loop stands still. */
  async #spareAnswers(): Promise<boolean> {
    const spare = this.#spare;
    if (spare === undefined || spare.closed || !spare.oob) return false;
    try {
      await spare.call('query-yank', undefined, { oob: true, deadline_ms: 500 });
      return true;
    } catch (error) {
      return error instanceof QmpError && error.code === 'QMP_REFUSED';
    }
  }

  // The end.

  /** A monitor has ended: has its process? Ours tells by itself, with its status; others are looked at. */
  async #settle(): Promise<void> {
    if (this.#settling || this.#detached || this.#identity === undefined) return;
    this.#settling = true;
    const identity = this.#identity;
    try {
      const end_ms = Date.now() + EXIT_GRACE_ms;
      while (Date.now() < end_ms && isRunning(identity)) await sleep(10);
      // The exit status comes by way of the event loop.
      if (this.#child !== undefined && !isRunning(identity)) await this.#waitGone(500);
    } finally {
      this.#settling = false;
    }
    if (this.#identity !== identity || !this.runs || this.#detached) return;
    if (!isRunning(identity)) this.#gone('QEMU has ended');
    else if (this.#main?.closed === true)
      this.#step({
        type: 'silent',
        reason: `QEMU (process ${identity.pid}) closed its monitor but still runs`,
      });
  }

  #gone(how: string): void {
    if (this.#identity === undefined && !this.runs) return;
    this.#identity = undefined;
    this.#child = undefined;
    this.#main?.close();
    this.#spare?.close();
    this.#main = this.#spare = undefined;
    if (this.#life.state !== 'stopped' && this.#life.state !== 'crashed')
      this.#step({ type: 'gone', how: this.#withLog(how) });
    for (const waiter of this.#goneWaiters) waiter();
    this.#goneWaiters.clear();
  }

  #withLog(how: string): string {
    const log = lastWords(this.#files.tail(this.#files.path(this.name, 'qemu.log'), 4096));
    return log === '' ? how : `${how}: ${log}`;
  }

  /** Whether QEMU is gone within so long. */
  #waitGone(timeout_ms: number): Promise<boolean> {
    if (this.#identity === undefined) return Promise.resolve(true);
    return new Promise(resolve => {
      const waiter = (): void => {
        clearTimeout(timer);
        resolve(true);
      };
      const timer = setTimeout(() => {
        this.#goneWaiters.delete(waiter);
        resolve(false);
      }, timeout_ms);
      this.#goneWaiters.add(waiter);
    });
  }

  /** `quit`, and when that is not heard, SIGKILL: disks are served by another process, nothing is lost with it. */
  async #endAtOnce(): Promise<void> {
    const identity = this.#identity;
    if (identity === undefined) return;
    if (this.#main?.closed === false) {
      const quit = this.#main.call('quit', undefined, { deadline_ms: QUIT_DEADLINE_ms });
      await Promise.race([quit.catch(() => {}), this.#waitGone(QUIT_DEADLINE_ms)]);
      if (await this.#waitGone(QUIT_DEADLINE_ms)) return;
    }
    signal(identity, 'SIGKILL');
    const end_ms = Date.now() + KILL_DEADLINE_ms;
    while (Date.now() < end_ms && isRunning(identity)) await this.#waitGone(10);
    if (isRunning(identity))
      throw new VmmError(
        'VMM_KILL_FAILED',
        `QEMU of machine ${this.name} (process ${identity.pid}, state ${processStat(identity.pid)?.state ?? '?'}) does not end, not even by SIGKILL; the host's kernel holds it`,
      );
    if (this.#identity === identity) this.#gone('QEMU was killed');
  }

  // The machine.

  #step(event: LifeEvent, quietly = false): void {
    if (quietly && !this.runs) {
      this.#tell();
      return;
    }
    const before = this.#life;
    const effects: LifeEffect[] = [];
    this.#life = step(before, event, Date.now(), effects);
    this.#keep();
    for (const effect of effects) void this.#carryOut(effect);
    if (event.type === 'qmp' && event.event === 'BLOCK_IO_ERROR') {
      this.#noticeTimer ??= setTimeout(() => {
        this.#noticeTimer = undefined;
        this.#tell();
      }, DISK_ERROR_NOTICE_ms).unref();
    } else this.#tell();
  }

  async #carryOut(effect: LifeEffect): Promise<void> {
    try {
      if (effect === 'cont') await this.#call('cont');
      else await this.#endAtOnce();
    } catch {
      // Seen again at the next heartbeat, as a state.
    }
  }

  /** What the next weftd has to know. */
  #keep(): void {
    const record = this.#record;
    if (record === undefined) return;
    const { asked, ended, reason } = this.#life;
    const end = ended === null ? null : { ended, reason };
    if (JSON.stringify([record.asked, record.end]) === JSON.stringify([asked, end])) return;
    this.#record = { ...record, asked, end };
    try {
      this.#files.writeRecord(this.name, this.#record);
    } catch {
      // A full disk: this weftd still knows it.
    }
  }

  #tell(): void {
    const now = JSON.stringify(this.observed());
    if (now === this.#told || this.#detached) return;
    this.#told = now;
    this.#changed(this.name);
  }
}
