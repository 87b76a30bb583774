/**
 * The guests' edge with real QEMUs: the body of `GuestHost` that weftd uses. It keeps one `Guest` per machine
 * (guest/process.ts), finds QEMU (qemu/), decides on the accelerator (accel/), owns the run directories
 * (files/), and beats the heart.
 *
 *   const guests = new QemuHost({ runDirectory: `${state}/run`, accelFile: `${state}/accel.json` });
 *   await guests.adopt();
 */
import { randomUUID } from 'node:crypto';
import * as fs from 'node:fs';
import type { Duplex } from 'node:stream';
import { Accelerators } from './accel/process.js';
import type { Hardware } from './arguments.js';
import { VmmError } from './errors.js';
import { RunDirectories } from './files/process.js';
import { Guest } from './guest/process.js';
import type { Boot } from './body/process.js';
import type { BootPlan, GuestHost, ObservedGuest } from './host.js';
import { findQemu, type Qemu } from './qemu/process.js';

/** How often each guest is asked for a sign of life. */
const HEARTBEAT_ms = 5000;

/** UEFI for arm64's disk boot, where distributions put it. */
const ARM_FIRMWARE = [
  '/usr/share/AAVMF/AAVMF_CODE.fd',
  '/usr/share/qemu-efi-aarch64/QEMU_EFI.fd',
  '/usr/share/edk2/aarch64/QEMU_EFI.fd',
  '/usr/share/edk2-armvirt/aarch64/QEMU_EFI.fd',
];

export interface QemuHostOptions {
  /** STATE/run; guests live in `machines/` below it. */
  runDirectory: string;
  /** STATE/accel.json: what the KVM probe found. */
  accelFile: string;
  /** Whether each guest gets a user of its own; default: when we are root. */
  isolated?: boolean;
  /** A kernel to try KVM with when a guest brings none itself; null when there is none. */
  probeKernel?: () => Promise<string | null>;
  heartbeat_ms?: number;
}

export class QemuHost implements GuestHost {
  readonly #options: QemuHostOptions;
  readonly #files: RunDirectories;
  readonly #accelerators: Accelerators;
  readonly #guests = new Map<string, Guest>();
  readonly #listeners = new Set<(name: string) => void>();
  readonly #heart: NodeJS.Timeout;

  constructor(options: QemuHostOptions) {
    this.#options = options;
    const isolated = options.isolated ?? process.getuid?.() === 0;
    this.#files = new RunDirectories(`${options.runDirectory}/machines`, isolated);
    this.#accelerators = new Accelerators({ file: options.accelFile, isolated });
    this.#heart = setInterval(() => {
      for (const guest of this.#guests.values()) guest.heartbeat();
    }, options.heartbeat_ms ?? HEARTBEAT_ms).unref();
  }

  async adopt(): Promise<void> {
    // Side by side: one that is stuck takes its deadline, not everybody's.
    await Promise.all(
      this.#files.names().map(async name => {
        const guest = this.#make(name);
        try {
          this.#files.prepare(name);
          await guest.adopt();
        } catch (error) {
          // One directory that cannot be used holds up no other guest.
          guest.refuse(error instanceof Error ? error.message : String(error));
        }
        this.#tell(name);
      }),
    );
  }

  list(): readonly ObservedGuest[] {
    return [...this.#guests.values()].map(guest => guest.observed());
  }

  async prepare(name: string): Promise<void> {
    this.#files.prepare(name);
    if (this.#guests.has(name)) return;
    this.#make(name);
    this.#tell(name);
  }

  async start(plan: BootPlan): Promise<void> {
    await this.prepare(plan.name);
    await this.#guest(plan.name).start(plan, () => this.#boot(plan));
  }

  async stop(name: string, timeout_ms: number): Promise<void> {
    await this.#guest(name).stop(timeout_ms);
  }

  async kill(name: string): Promise<void> {
    await this.#guest(name).kill();
  }

  async reset(name: string): Promise<void> {
    await this.#guest(name).reset();
  }

  async pause(name: string): Promise<void> {
    await this.#guest(name).pause();
  }

  async resume(name: string): Promise<void> {
    await this.#guest(name).resume();
  }

  async growDisk(name: string, index: number, size_bytes: number): Promise<void> {
    await this.#guest(name).growDisk(index, size_bytes);
  }

  async forget(name: string): Promise<void> {
    const guest = this.#guests.get(name);
    if (guest?.runs === true)
      throw new VmmError('VMM_RUNNING', `machine ${name} still runs; stop or kill it first`);
    guest?.detach();
    this.#files.remove(name);
    if (this.#guests.delete(name)) this.#tell(name);
  }

  owner(name: string): { uid: number; gid: number } | null {
    return this.#files.owner(name);
  }

  paths(name: string): { directory: string; serialSocket: string; serialLog: string; qemuLog: string } {
    return {
      directory: this.#files.path(name),
      serialSocket: this.#files.path(name, 'serial.sock'),
      serialLog: this.#files.path(name, 'serial.log'),
      qemuLog: this.#files.path(name, 'qemu.log'),
    };
  }

  nicSocket(name: string, index: number): string {
    return this.#files.path(name, `nic${index}.sock`);
  }

  diskSocket(name: string, index: number): string {
    return this.#files.path(name, `disk${index}.sock`);
  }

  console(name: string): Promise<Duplex> {
    return this.#guest(name).console();
  }

  onChange(listener: (name: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async detach(): Promise<void> {
    clearInterval(this.#heart);
    this.#listeners.clear();
    for (const guest of this.#guests.values()) guest.detach();
  }

  #make(name: string): Guest {
    const guest = new Guest(name, this.#files, changed => this.#tell(changed));
    this.#guests.set(name, guest);
    return guest;
  }

  #guest(name: string): Guest {
    const guest = this.#guests.get(name);
    if (guest === undefined) throw new VmmError('VMM_UNKNOWN', `there is no machine ${name} here`);
    return guest;
  }

  #tell(name: string): void {
    for (const listener of this.#listeners) listener(name);
  }

  /** All that has to be found out before QEMU can be started. */
  async #boot(plan: BootPlan): Promise<Boot> {
    const qemu = await findQemu();
    if (plan.kernel !== null)
      for (const path of [plan.kernel.path, plan.kernel.initrd])
        if (path !== null) mustBeFile(plan.name, path);
    const kernel =
      plan.kernel?.path ?? (plan.accel === 'auto' ? await this.#options.probeKernel?.() : null) ?? null;
    const { accel, reason, group } = await this.#accelerators.choose(plan.accel, qemu, kernel);
    const hardware: Hardware = {
      arch: qemu.arch,
      machineType: qemu.machineType,
      accel,
      firmware: plan.kernel === null ? firmware(plan.name, qemu) : null,
    };
    return { qemu, hardware, accelReason: reason, group, bootId: randomUUID() };
  }
}

function mustBeFile(name: string, path: string): void {
  try {
    if (fs.statSync(path).isFile()) return;
  } catch {
    // Said below.
  }
  throw new VmmError('VMM_BAD_PLAN', `machine ${name} cannot be booted: ${path} is not a file`);
}

function firmware(name: string, qemu: Qemu): string | null {
  // On x86 QEMU brings its own.
  if (qemu.arch === 'x86_64') return null;
  const found = ARM_FIRMWARE.find(path => fs.existsSync(path));
  if (found === undefined)
    throw new VmmError(
      'VMM_BAD_PLAN',
      `machine ${name} boots from a disk, which on arm64 takes UEFI firmware; on Debian: apt-get install qemu-efi-aarch64`,
    );
  return found;
}
