/**
 * One guest's QEMU as a process, and what is written down about it: started, found again by a later weftd,
 * watched until it is gone, ended. It knows nothing of QMP; guest/process.ts joins the two.
 */
import type { ChildProcess } from 'node:child_process';
import { guestPaths, qemuArguments, type GuestPaths, type Hardware } from '../arguments.js';
import { VmmError } from '../errors.js';
import type { RunDirectories } from '../files/process.js';
import type { BootPlan } from '../host.js';
import type { ProcessIdentity } from '../identity.js';
import type { Life } from '../lifecycle.js';
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

/** What a kill may take before it is called a failure: memory has to be given back. */
const KILL_DEADLINE_ms = 10_000;
const LOOK_AGAIN_ms = 10;

export interface Boot {
  qemu: Qemu;
  hardware: Hardware;
  accelReason: string;
  /** One more group that QEMU needs. */
  group: number | null;
  bootId: string;
}

/** What a later weftd finds: it runs, or how it ended as far as that can be known; null when it never began. */
export type Found = { running: true } | { running: false; how: string | null };

export class Body {
  readonly #name: string;
  readonly #files: RunDirectories;
  readonly #onGone: (how: string) => void;
  #record: BootRecord | undefined;
  #identity: ProcessIdentity | undefined;
  /** Only of a QEMU that we started ourselves. */
  #child: ChildProcess | undefined;
  readonly #waiters = new Set<() => void>();

  /** `onGone`: once for each QEMU, with how it ended in words and its last words. */
  constructor(name: string, files: RunDirectories, onGone: (how: string) => void) {
    this.#name = name;
    this.#files = files;
    this.#onGone = onGone;
  }

  get paths(): GuestPaths {
    return guestPaths(this.#files.path(this.#name));
  }

  get record(): BootRecord | undefined {
    return this.#record;
  }

  /** Null when there is none. */
  get pid(): number | null {
    return this.#identity?.pid ?? null;
  }

  /** Whose QEMU it is; null: ours. */
  get user(): number | null {
    return this.#files.owner(this.#name)?.uid ?? null;
  }

  /** proc(5)'s letter for its state. */
  get processState(): string | undefined {
    return this.#identity === undefined ? undefined : processStat(this.#identity.pid)?.state;
  }

  async spawn(plan: BootPlan, boot: Boot): Promise<void> {
    const files = this.#files;
    const { paths } = this;
    const argv = qemuArguments(plan, boot.hardware, paths);
    files.removeFiles([...paths.qmp, paths.serialSocket, ...plan.nics.map(nic => nic.socketPath)]);
    files.keepOldLog(paths.serialLog);
    files.removeIdentity(this.#name);
    this.#identity = undefined;
    this.#record = {
      version: 1,
      bootId: boot.bootId,
      plan: {
        ...plan,
        disks: plan.disks.map(disk => ({ ...disk })),
        nics: plan.nics.map(nic => ({ ...nic })),
      },
      qemu: { binary: boot.qemu.binary, version: boot.qemu.version },
      hardware: boot.hardware,
      accelReason: boot.accelReason,
      argv,
      startedAt_ms: Date.now(),
      asked: null,
      end: null,
    };
    files.writeRecord(this.#name, this.#record);
    const logFd = files.openLog(this.#log);
    try {
      const options = { owner: files.owner(this.#name), group: boot.group, logFd };
      const { child, identity } = await spawnQemu(boot.qemu.binary, argv, options);
      this.#child = child;
      this.#identity = identity;
      child.once('exit', (code, signalName) => {
        if (this.#child === child)
          this.#gone(
            signalName === null ? `QEMU ended with exit status ${code}` : `QEMU was ended by ${signalName}`,
          );
      });
      // It may have ended before there was anybody to hear of it.
      if (child.exitCode !== null || child.signalCode !== null)
        this.#gone(`QEMU ended at once (${child.signalCode ?? `exit status ${child.exitCode}`})`);
      else files.writeIdentity(this.#name, identity);
    } finally {
      files.closeLog(logFd);
    }
  }

  /** What an earlier weftd left. */
  find(): Found {
    const files = this.#files;
    const record = (this.#record = files.readRecord(this.#name));
    const uid = files.owner(this.#name)?.uid ?? process.getuid?.() ?? 0;
    const noted = files.readIdentity(this.#name);
    if (noted !== undefined && isRunning(noted) && processUser(noted.pid) === uid) this.#identity = noted;
    else if (record?.end === null) this.#identity = findByArgument(`path=${this.paths.qmp[0]},`, uid);
    if (this.#identity !== undefined) {
      files.writeIdentity(this.#name, this.#identity);
      return { running: true };
    }
    if (record === undefined || noted === undefined) return { running: false, how: null };
    if (noted.hostBootId !== hostBootId())
      return { running: false, how: 'the host was restarted while it ran' };
    return { running: false, how: this.#withLog('QEMU ended while weftd was down') };
  }

  /** What the next weftd has to know. */
  keep(life: Life): void {
    const record = this.#record;
    if (record === undefined) return;
    const { asked, ended, reason } = life;
    const end = ended === null ? null : { ended, reason };
    if (JSON.stringify([record.asked, record.end]) === JSON.stringify([asked, end])) return;
    this.#record = { ...record, asked, end };
    try {
      this.#files.writeRecord(this.#name, this.#record);
    } catch {
      // A full disk: this weftd still knows it.
    }
  }

  /** Looks; when it is gone, `onGone` has been called. */
  isThere(): boolean {
    if (this.#identity === undefined) return false;
    if (isRunning(this.#identity)) return true;
    // Our own child's end comes with its exit status, by way of the event loop, a moment later.
    if (this.#child === undefined) this.#gone('QEMU has ended');
    return false;
  }

  /** Whether it is gone within so long. Our child tells; others are looked at. */
  async waitGone(timeout_ms: number): Promise<boolean> {
    const end_ms = Date.now() + timeout_ms;
    while (this.#identity !== undefined) {
      if (this.#child === undefined && !this.isThere()) return true;
      const left_ms = end_ms - Date.now();
      if (left_ms <= 0) return false;
      await this.#told(this.#child === undefined ? Math.min(left_ms, LOOK_AGAIN_ms) : left_ms);
    }
    return true;
  }

  /** As by pulling the plug: disks are served by another process, nothing of theirs is lost with it. */
  async kill(how: string): Promise<void> {
    const identity = this.#identity;
    if (identity === undefined) return;
    signal(identity, 'SIGKILL');
    if (await this.waitGone(KILL_DEADLINE_ms)) return;
    if (isRunning(identity))
      throw new VmmError(
        'VMM_KILL_FAILED',
        `QEMU of machine ${this.#name} (process ${identity.pid}, state ${this.processState ?? '?'}) does not end, ` +
          "not even by SIGKILL; the host's kernel holds it",
      );
    this.#gone(how);
  }

  /** From now on its end is the next weftd's to notice. */
  detach(): void {
    this.#child = undefined;
    this.#identity = undefined;
  }

  boundLogs(): void {
    this.#files.boundLog(this.paths.serialLog);
    this.#files.boundLog(this.#log);
  }

  get #log(): string {
    return this.#files.path(this.#name, 'qemu.log');
  }

  #withLog(how: string): string {
    const words = lastWords(this.#files.tail(this.#log, 4096));
    return words === '' ? how : `${how}: ${words}`;
  }

  #gone(how: string): void {
    if (this.#identity === undefined) return;
    this.#identity = undefined;
    this.#child = undefined;
    this.#onGone(this.#withLog(how));
    for (const waiter of this.#waiters) waiter();
  }

  #told(timeout_ms: number): Promise<void> {
    return new Promise(resolve => {
      const done = (): void => {
        clearTimeout(timer);
        this.#waiters.delete(done);
        resolve();
      };
      const timer = setTimeout(done, timeout_ms);
      this.#waiters.add(done);
    });
  }
}
