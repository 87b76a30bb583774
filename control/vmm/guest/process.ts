/**
 * One guest: its QEMU (body/), the two monitors (loop.ts), and the machine of lifecycle.ts that says what all of
 * it means. `process.ts` above holds one of these per machine and chooses the hardware.
 *
 * What is noticed how:
 *   QEMU gone         end of its monitor (at once), then the process table; our own child's exit status
 *   power-off, panic  events; if weftd was not there, the status that QEMU was left in (-action in arguments.ts)
 *   QEMU silent       a call that misses its deadline: the heartbeat's or a user's. While it is silent that
 *                     one question stays open, and its late answer brings the guest back
 * Nothing here waits for a guest without a deadline, and guests know nothing of each other.
 */
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { planProblem } from '../arguments.js';
import { Body, type Boot } from '../body/process.js';
import { VmmError } from '../errors.js';
import type { RunDirectories } from '../files/process.js';
import type { BootPlan, ObservedGuest } from '../host.js';
import { step, UNSTARTED, type Life, type LifeEffect, type LifeEvent } from '../lifecycle.js';
import { isRecord } from '../qmp/codec.js';
import { QmpError } from '../qmp/loop.js';
import { Link } from './loop.js';

/** QEMU may try for OPEN_TIMEOUT_s to reach its disks before it answers. */
export const START_DEADLINE_ms = 45_000;
/** An adopted guest that says nothing for so long is listed as unresponsive; it is still listened to. */
export const ATTACH_DEADLINE_ms = 5000;
const QUIT_DEADLINE_ms = 2000;
/** To dial a disk's server anew and read a block. */
const LOOK_DEADLINE_ms = 10_000;
/** A guest that is still booting does not hear the power button; so it is pressed again. */
const PRESS_AGAIN_ms = 5000;
/** Between the end of a monitor and that of its process. */
const EXIT_GRACE_ms = 3000;
/** Failing requests come by the thousand; the word goes out once in a while. */
const DISK_ERROR_NOTICE_ms = 1000;

export class Guest {
  readonly name: string;
  readonly #changed: (name: string) => void;
  readonly #body: Body;
  readonly #link: Link;
  #life: Life = UNSTARTED;
  /** Between the word and QEMU: what it takes to start is being found out. */
  #preparing: { calledOff: boolean } | null = null;
  #asking = false;
  #settling = false;
  #detached = false;
  #diskSizes_bytes: readonly (number | null)[] = [];
  #console: Duplex | undefined;
  #told = '';
  #noticeTimer: NodeJS.Timeout | undefined;

  constructor(name: string, files: RunDirectories, changed: (name: string) => void) {
    this.name = name;
    this.#changed = changed;
    this.#body = new Body(name, files, how => {
      this.#link.close();
      if (this.runs) this.#step({ type: 'gone', how });
    });
    this.#link = new Link(this.#body.paths.qmp, {
      onEvent: (event, data) => this.#step({ type: 'qmp', event, data }),
      onLate: () => void this.#ask().catch(() => {}),
      onClose: () => void this.#settle(),
      isWanted: () => this.#body.pid !== null && !this.#detached,
    });
  }

  observed(): ObservedGuest {
    const { record } = this.#body;
    return {
      name: this.name,
      state: this.#life.state,
      reason: this.#life.reason,
      ended: this.#life.ended,
      pid: this.#body.pid,
      bootId: record?.bootId ?? null,
      startedAt_ms: record?.startedAt_ms ?? null,
      accel: record?.hardware.accel ?? null,
      accelReason: record?.accelReason ?? null,
      plan: record?.plan ?? null,
      qemuStatus: this.#life.qemuStatus,
      diskErrors: this.#life.diskErrors,
      diskSizes_bytes: this.runs ? this.#diskSizes_bytes : [],
    };
  }

  get runs(): boolean {
    return this.#life.state !== 'stopped' && this.#life.state !== 'crashed';
  }

  /** `boot` is called once nothing else can start this guest; it may take its time. */
  async start(plan: BootPlan, boot: () => Promise<Boot>): Promise<void> {
    if (this.#detached) throw new VmmError('VMM_DETACHED', `machine ${this.name}: weftd is ending`);
    if (this.runs)
      throw new VmmError('VMM_RUNNING', `machine ${this.name} runs already (${this.#life.state})`);
    const problem = planProblem(plan, this.#body.paths);
    if (problem !== null)
      throw new VmmError('VMM_BAD_PLAN', `machine ${this.name} cannot be booted: ${problem}`);
    this.#diskSizes_bytes = [];
    const before = this.#life;
    const preparing = (this.#preparing = { calledOff: false });
    // Not written down: what is on disk speaks of the boot before until QEMU is about to be started.
    this.#life = step(before, { type: 'starting' }, Date.now(), []);
    this.#tell();
    let bootId;
    try {
      const hardware = await boot();
      bootId = hardware.bootId;
      if (preparing.calledOff || this.#detached)
        throw new VmmError('VMM_START_FAILED', `machine ${this.name}: the start was called off`);
      await this.#body.spawn(plan, hardware);
    } catch (error) {
      if (bootId !== undefined && this.#body.record?.bootId === bootId)
        this.#step({ type: 'gone', how: error instanceof Error ? error.message : String(error) });
      else {
        this.#life = before;
        this.#tell();
      }
      throw error;
    } finally {
      this.#preparing = null;
    }
    try {
      await this.#link.connect(START_DEADLINE_ms);
      await this.#runCpus();
      await this.#measure();
    } catch (error) {
      // A weftd that lets go in the middle leaves it to the next one.
      if (this.#detached) throw error;
      const words = error instanceof Error ? error.message : String(error);
      // When QEMU ended by itself, its end has been told already, with better words.
      await this.#body.waitGone(100);
      await this.#endAtOnce(`QEMU was ended, since it did not come up: ${words}`);
      const reason = this.#life.reason ?? this.#life.ended ?? words;
      throw new VmmError(
        'VMM_START_FAILED',
        `machine ${this.name} did not start: ${reason}${this.#hint(reason)}`,
        {
          cause: error,
        },
      );
    }
  }

  #hint(reason: string): string {
    const { user } = this.#body;
    if (user === null || !/permission denied/i.test(reason)) return '';
    return ` (it runs as user ${user}: its kernel and initrd, and the folders they are in, must be open to others)`;
  }

  /** Take over what an earlier weftd left; quick even when the guest is stuck. */
  async adopt(): Promise<void> {
    const found = this.#body.find();
    const { record } = this.#body;
    if (found.running) {
      this.#life = { ...UNSTARTED, state: 'starting', asked: record?.asked ?? null };
      await this.#attach();
    } else if (record !== undefined && record.end !== null) {
      const { ended, reason } = record.end;
      this.#life = { ...UNSTARTED, state: ended === 'crashed' ? 'crashed' : 'stopped', ended, reason };
    } else if (found.how !== null) {
      this.#life = { ...UNSTARTED, state: 'starting', asked: record?.asked ?? null };
      this.#step({ type: 'gone', how: found.how });
    } else if (record !== undefined) {
      this.#life = { ...UNSTARTED, reason: 'weftd ended before QEMU was started' };
    }
  }

  /** What an earlier weftd left here is not ours to use. */
  refuse(reason: string): void {
    this.#life = { ...UNSTARTED, reason };
  }

  async stop(timeout_ms: number): Promise<void> {
    if (!this.runs) return;
    this.#mustBeUp();
    if (this.#life.qemuStatus === 'paused') await this.#call('cont');
    this.#step({ type: 'asked', what: 'stop', timeout_ms });
    const end_ms = Date.now() + timeout_ms;
    for (;;) {
      try {
        await this.#call('system_powerdown');
      } catch (error) {
        // It may just have powered off.
        if (await this.#body.waitGone(EXIT_GRACE_ms)) return;
        this.#step({ type: 'askedInVain' });
        throw error;
      }
      if (await this.#body.waitGone(Math.min(PRESS_AGAIN_ms, Math.max(end_ms - Date.now(), 0)))) return;
      if (Date.now() >= end_ms) break;
    }
    this.#step({ type: 'askedInVain' });
    throw new VmmError(
      'VMM_STOP_TIMEOUT',
      `machine ${this.name} did not power off within ${timeout_ms / 1000} s; it still runs. Its system may ignore ` +
        `the power button or be busy: look at its console, or end it with \`weft machine kill ${this.name}\``,
    );
  }

  async kill(): Promise<void> {
    if (!this.runs) return;
    if (this.#preparing !== null) {
      this.#preparing.calledOff = true;
      return;
    }
    this.#step({ type: 'asked', what: 'kill', timeout_ms: 0 });
    await this.#endAtOnce('QEMU was killed');
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

  /**
   * NBD tells a size once, so QEMU must have dialled anew since the volume grew. It does so with its next request: one is made
   * here. `block_resize` refuses what the server does not have, and otherwise only tells the guest.
   */
  async growDisk(index: number, size_bytes: number): Promise<void> {
    const node = `disk${index}`;
    const options = { arguments: { 'node-name': node, size: size_bytes } };
    try {
      await this.#call('block_resize', options);
    } catch (error) {
      if (!(error instanceof VmmError) || error.code !== 'VMM_QMP') throw error;
      const look = { 'command-line': `qemu-io ${node} "read 0 512"` };
      await this.#call('human-monitor-command', { arguments: look, deadline_ms: LOOK_DEADLINE_ms });
      await this.#call('block_resize', options);
    }
    await this.#measure();
  }

  async console(): Promise<Duplex> {
    const busy = (who: string): VmmError =>
      new VmmError(
        'VMM_CONSOLE_BUSY',
        `${who} is on the console of machine ${this.name} already; there is room for one`,
      );
    if (this.#console !== undefined) throw busy('somebody');
    const chardevs = await this.#call('query-chardev');
    if (this.#console !== undefined) throw busy('somebody');
    const serial = Array.isArray(chardevs)
      ? chardevs.find(one => isRecord(one) && one['label'] === 'serial')
      : undefined;
    // QEMU would let a second one connect, and then not speak to it.
    const filename = isRecord(serial) ? serial['filename'] : undefined;
    if (typeof filename === 'string' && !filename.startsWith('disconnected:'))
      throw busy('a program outside weft');
    const socket = connect(this.#body.paths.serialSocket);
    this.#console = socket;
    socket.once('close', () => {
      if (this.#console === socket) this.#console = undefined;
    });
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', error =>
        reject(
          new VmmError('VMM_NOT_RUNNING', `the console of machine ${this.name}: ${error.message}`, {
            cause: error,
          }),
        ),
      );
    });
    return socket;
  }

  /** Called every few seconds: is it still there, does it still answer? */
  heartbeat(): void {
    this.#body.boundLogs();
    if (!this.runs || this.#preparing !== null || this.#detached || !this.#body.isThere()) return;
    if (!this.#link.connected) {
      if (!this.#link.dialling && !this.#settling) void this.#attach();
      return;
    }
    // A question that is open already will be answered, or not, without another one beside it.
    if (!this.#link.overdue && this.#life.state !== 'starting') void this.#ask().catch(() => {});
  }

  detach(): void {
    this.#detached = true;
    clearTimeout(this.#noticeTimer);
    this.#console?.destroy();
    this.#link.close();
    this.#body.detach();
  }

  // What it says.

  /** Never rejects: what cannot be reached is listed as such. */
  async #attach(): Promise<void> {
    try {
      await this.#link.connect(ATTACH_DEADLINE_ms);
      await this.#ask();
      await this.#measure();
    } catch (error) {
      if (!this.#detached) await this.#fellSilent(error);
    }
  }

  async #runCpus(): Promise<void> {
    await this.#ask();
    // `cont` is an effect of the status `prelaunch`; a guest that had to be told is asked again.
    const end_ms = Date.now() + ATTACH_DEADLINE_ms;
    while (this.#life.state === 'starting') {
      if (Date.now() > end_ms) throw new QmpError('QMP_DEADLINE', 'QEMU did not let the CPUs run');
      await sleep(10);
      await this.#ask();
    }
    if (!this.runs) throw new QmpError('QMP_CLOSED', this.#life.reason ?? 'QEMU has ended');
  }

  /** How long its disks are to QEMU (qapi/block-core.json, BlockDeviceInfo). What it does not say is not known, and no fault. */
  async #measure(): Promise<void> {
    const disks = this.#body.record?.plan.disks ?? [];
    if (disks.length === 0) return;
    const ask = { arguments: { flat: true } };
    const nodes = await this.#call('query-named-block-nodes', ask).catch(() => null);
    this.#diskSizes_bytes = disks.map((_disk, index) => sizeOfNode(nodes, `disk${index}`));
    this.#tell();
  }

  /** query-status, one at a time. Its outcome is in the guest's life. */
  async #ask(): Promise<void> {
    if (this.#asking) return;
    this.#asking = true;
    try {
      const status = await this.#call('query-status');
      if (this.runs && isRecord(status) && typeof status['status'] === 'string')
        this.#step({ type: 'status', status: status['status'] });
    } finally {
      this.#asking = false;
    }
  }

  #mustBeUp(): void {
    if (!this.runs) throw new VmmError('VMM_NOT_RUNNING', `machine ${this.name} does not run`);
    if (this.#preparing !== null)
      throw new VmmError('VMM_BUSY', `machine ${this.name} is being started; try again when it runs`);
    if (!this.#link.connected)
      throw new VmmError(
        'VMM_UNRESPONSIVE',
        `machine ${this.name} cannot be asked: ${this.#life.reason ?? 'QEMU does not answer yet'}`,
      );
  }

  async #call(execute: string, options?: Parameters<Link['call']>[1]): Promise<unknown> {
    this.#mustBeUp();
    try {
      return await this.#link.call(execute, options);
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
    const { pid, processState } = this.#body;
    let reason = `QEMU does not answer: ${error instanceof Error ? error.message : String(error)}`;
    if (processState === 'T' || processState === 't')
      reason = `QEMU (process ${pid}) was stopped by a signal; \`kill -CONT ${pid}\` lets it go on`;
    else if (await this.#link.spareAnswers())
      reason =
        "QEMU's main loop stands still, most likely for a disk whose server is away; it goes on by itself when that is back";
    // It may have ended, or found its voice, while we asked around.
    if (this.runs && this.#body.isThere() && (this.#link.overdue || !this.#link.connected))
      this.#step({ type: 'silent', reason });
  }

  // Its end.

  /** A monitor has ended: has its process? */
  async #settle(): Promise<void> {
    if (this.#settling || this.#detached) return;
    this.#settling = true;
    try {
      if (await this.#body.waitGone(EXIT_GRACE_ms)) return;
    } finally {
      this.#settling = false;
    }
    if (!this.#link.connected && !this.#link.dialling && this.runs && !this.#detached)
      this.#step({
        type: 'silent',
        reason: `QEMU (process ${this.#body.pid}) closed its monitor but still runs`,
      });
  }

  /** `quit`, and when that is not heard, SIGKILL. `how`: what is said of the end, where nothing better is known. */
  async #endAtOnce(how: string): Promise<void> {
    // One that owes an answer already would not hear it.
    if (this.#link.connected && !this.#link.overdue) {
      // The answer may come after its end, or never.
      this.#link.call('quit', { deadline_ms: QUIT_DEADLINE_ms }).catch(() => {});
      if (await this.#body.waitGone(QUIT_DEADLINE_ms)) return;
    }
    await this.#body.kill(how);
  }

  // The machine.

  #step(event: LifeEvent): void {
    const effects: LifeEffect[] = [];
    this.#life = step(this.#life, event, Date.now(), effects);
    this.#body.keep(this.#life);
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
      else await this.#endAtOnce('its guest had ended');
    } catch {
      // Seen again at the next heartbeat, as a state.
    }
  }

  #tell(): void {
    const now = JSON.stringify(this.observed());
    if (now === this.#told || this.#detached) return;
    this.#told = now;
    this.#changed(this.name);
  }
}

function sizeOfNode(nodes: unknown, name: string): number | null {
  const node: unknown = Array.isArray(nodes)
    ? nodes.find(one => isRecord(one) && one['node-name'] === name)
    : undefined;
  const image = isRecord(node) ? node['image'] : undefined;
  const size = isRecord(image) ? image['virtual-size'] : undefined;
  return typeof size === 'number' ? size : null;
}
