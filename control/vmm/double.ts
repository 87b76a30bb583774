/**
 * A GuestHost in memory, for tests of what stands above it: no QEMU, no files, no timers. Guests do at once
 * what they are told; what a real one might do by itself or refuse to do, the test says:
 *
 *   const guests = new GuestHostDouble();
 *   guests.crash('alice', 'signal SIGSEGV');   // QEMU died
 *   guests.powerOff('alice');                  // the guest powered off by itself
 *   guests.silence('alice');                   // unresponsive, until guests.recover('alice')
 *   guests.deaf.add('alice');                  // does not react to the power button
 *   guests.failNext('start', new VmmError(…)); // the next call of that verb rejects
 *   guests.calls                               // what was asked, in order: ['prepare alice', 'start alice', …]
 *
 * An "earlier weftd": build a second double with `GuestHostDouble.after(first)`; it lists nothing until `adopt()`.
 */
import { PassThrough, type Duplex } from 'node:stream';
import { VmmError } from './errors.js';
import type { BootPlan, GuestHost, ObservedGuest } from './host.js';

type Verb =
  | 'adopt'
  | 'prepare'
  | 'start'
  | 'stop'
  | 'kill'
  | 'reset'
  | 'pause'
  | 'resume'
  | 'growDisk'
  | 'forget'
  | 'console';

export class GuestHostDouble implements GuestHost {
  readonly calls: string[] = [];
  /** Guests that do not react to the power button. */
  readonly deaf = new Set<string>();
  /** Time for `startedAt_ms`; wind it by hand. */
  now_ms = 0;
  directory = '/double/machines';
  #guests = new Map<string, ObservedGuest>();
  #left: readonly ObservedGuest[] = [];
  #failures = new Map<Verb, Error[]>();
  #listeners = new Set<(name: string) => void>();
  #consoles = new Set<string>();
  #boots = 0;

  /** What the next weftd finds when `first` was killed. */
  static after(first: GuestHostDouble): GuestHostDouble {
    const next = new GuestHostDouble();
    next.#left = first.list();
    next.#boots = first.#boots;
    next.now_ms = first.now_ms;
    return next;
  }

  // What a test may do to the guests.

  failNext(verb: Verb, error: Error): void {
    this.#failures.set(verb, [...(this.#failures.get(verb) ?? []), error]);
  }

  crash(name: string, reason: string): void {
    this.#end(name, 'crashed', 'crashed', reason);
  }

  powerOff(name: string): void {
    this.#end(name, 'stopped', 'guest-poweroff', 'the guest powered off');
  }

  silence(name: string): void {
    this.#change(name, { state: 'unresponsive', reason: 'QEMU does not answer on its monitor' });
  }

  recover(name: string): void {
    this.#change(name, { state: 'running', reason: null });
  }

  // The edge itself.

  async adopt(): Promise<void> {
    this.#call('adopt');
    for (const guest of this.#left) {
      this.#guests.set(guest.name, guest);
      this.#tell(guest.name);
    }
    this.#left = [];
  }

  list(): readonly ObservedGuest[] {
    return [...this.#guests.values()];
  }

  async prepare(name: string): Promise<void> {
    this.#call('prepare', name);
    if (this.#guests.has(name)) return;
    this.#guests.set(name, unstarted(name));
    this.#tell(name);
  }

  async start(plan: BootPlan): Promise<void> {
    const name = plan.name;
    this.#call('start', name);
    if (this.#runs(name)) throw new VmmError('VMM_RUNNING', `machine ${name} runs already`);
    this.#boots += 1;
    this.#guests.set(name, {
      ...unstarted(name),
      state: 'running',
      pid: 100_000 + this.#boots,
      bootId: `boot-${this.#boots}`,
      startedAt_ms: this.now_ms,
      accel: plan.accel === 'kvm' ? 'kvm' : 'tcg',
      accelReason: plan.accel === 'auto' ? 'a double has no KVM' : 'asked for',
      plan,
      qemuStatus: 'running',
    });
    this.#tell(name);
  }

  async stop(name: string, timeout_ms: number): Promise<void> {
    this.#call('stop', name);
    if (!this.#runs(name)) return;
    if (this.deaf.has(name))
      throw new VmmError('VMM_STOP_TIMEOUT', `machine ${name} did not power off within ${timeout_ms} ms`);
    this.#end(name, 'stopped', 'stopped', null);
  }

  async kill(name: string): Promise<void> {
    this.#call('kill', name);
    if (this.#runs(name)) this.#end(name, 'stopped', 'killed', null);
  }

  async reset(name: string): Promise<void> {
    this.#call('reset', name);
    this.#mustRun(name);
    this.#tell(name);
  }

  async pause(name: string): Promise<void> {
    this.#call('pause', name);
    this.#mustRun(name);
    this.#change(name, { state: 'paused', qemuStatus: 'paused' });
  }

  async resume(name: string): Promise<void> {
    this.#call('resume', name);
    this.#mustRun(name);
    this.#change(name, { state: 'running', qemuStatus: 'running' });
  }

  async growDisk(name: string, index: number, size_bytes: number): Promise<void> {
    this.#call('growDisk', `${name} ${index} ${size_bytes}`);
    this.#mustRun(name);
    const sizes = this.#guests.get(name)!.diskSizes_bytes;
    this.#change(name, { diskSizes_bytes: sizes.map((size, at) => (at === index ? size_bytes : size)) });
  }

  async forget(name: string): Promise<void> {
    this.#call('forget', name);
    if (this.#runs(name)) throw new VmmError('VMM_RUNNING', `machine ${name} still runs`);
    if (this.#guests.delete(name)) this.#tell(name);
  }

  owner(name: string): { uid: number; gid: number } | null {
    if (!this.#guests.has(name)) throw new VmmError('VMM_UNKNOWN', `no machine ${name} was prepared`);
    return null;
  }

  paths(name: string): { directory: string; serialSocket: string; serialLog: string; qemuLog: string } {
    const directory = `${this.directory}/${name}`;
    return {
      directory,
      serialSocket: `${directory}/serial.sock`,
      serialLog: `${directory}/serial.log`,
      qemuLog: `${directory}/qemu.log`,
    };
  }

  nicSocket(name: string, index: number): string {
    return `${this.directory}/${name}/nic${index}.sock`;
  }

  diskSocket(name: string, index: number): string {
    return `${this.directory}/${name}/disk${index}.sock`;
  }

  /** Gives back what is written to it. */
  async console(name: string): Promise<Duplex> {
    this.#call('console', name);
    this.#mustRun(name);
    if (this.#consoles.has(name))
      throw new VmmError('VMM_CONSOLE_BUSY', `somebody is on the console of machine ${name} already`);
    this.#consoles.add(name);
    const line = new PassThrough();
    line.on('close', () => this.#consoles.delete(name));
    return line;
  }

  onChange(listener: (name: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async detach(): Promise<void> {
    this.#listeners.clear();
  }

  #call(verb: Verb, name?: string): void {
    this.calls.push(name === undefined ? verb : `${verb} ${name}`);
    const failure = this.#failures.get(verb)?.shift();
    if (failure !== undefined) throw failure;
  }

  #runs(name: string): boolean {
    const state = this.#guests.get(name)?.state ?? 'stopped';
    return state !== 'stopped' && state !== 'crashed';
  }

  #mustRun(name: string): void {
    if (!this.#runs(name)) throw new VmmError('VMM_NOT_RUNNING', `machine ${name} does not run`);
  }

  #end(
    name: string,
    state: ObservedGuest['state'],
    ended: ObservedGuest['ended'],
    reason: string | null,
  ): void {
    this.#change(name, { state, ended, reason, pid: null, qemuStatus: null });
  }

  #change(name: string, change: Partial<ObservedGuest>): void {
    const guest = this.#guests.get(name);
    if (guest === undefined) throw new VmmError('VMM_UNKNOWN', `no machine ${name} in this double`);
    this.#guests.set(name, { ...guest, ...change });
    this.#tell(name);
  }

  #tell(name: string): void {
    for (const listener of this.#listeners) listener(name);
  }
}

function unstarted(name: string): ObservedGuest {
  return {
    name,
    state: 'stopped',
    reason: null,
    ended: null,
    pid: null,
    bootId: null,
    startedAt_ms: null,
    accel: null,
    accelReason: null,
    plan: null,
    qemuStatus: null,
    diskErrors: null,
    diskSizes_bytes: [],
  };
}
