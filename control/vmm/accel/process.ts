/**
 * Finds out, by booting a kernel, whether KVM works on this host, and remembers the answer in STATE/accel.json.
 * Nothing is tried before a guest with `accel: auto` is started, nor where /dev/kvm cannot be opened anyway; to
 * have it tried again, remove the file.
 */
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { release } from 'node:os';
import { z } from 'zod';
import { VmmError } from '../errors.js';
import { lastWords } from '../qemu/describe.js';
import { findProgram, type Qemu } from '../qemu/process.js';
import { PROBE_USER } from '../user.js';
import {
  chooseAccel,
  judgeKvmDevice,
  parseCpuinfo,
  probeKey,
  PROBE_CMDLINE_REST,
  sawKernelGiveUp,
  type Choice,
  type KvmDevice,
  type ProbeResult,
} from './choose.js';

/** A kernel under a KVM that works is there in one; one that is not after ten is better off without. */
export const PROBE_DEADLINE_ms = 10_000;
const MAX_SERIAL_BYTES = 256 * 1024;

const Remembered = z.object({
  key: z.string(),
  works: z.boolean(),
  reason: z.string(),
  at: z.string(),
});

export interface AccelOptions {
  /** Where the answer is kept. */
  file: string;
  /** Whether guests run as users of their own. */
  isolated: boolean;
  /** For tests. */
  device?: string;
}

export class Accelerators {
  readonly #options: AccelOptions;
  #probing: Promise<ProbeResult> | null = null;

  constructor(options: AccelOptions) {
    this.#options = options;
  }

  /** `kernel`: one that may be booted to try KVM out; null when there is none at hand. */
  async choose(
    wanted: 'auto' | 'kvm' | 'tcg',
    qemu: Qemu,
    kernel: string | null,
  ): Promise<Choice & { group: number | null }> {
    const device = this.#device();
    const group = device.group;
    const cpu = parseCpuinfo(fs.readFileSync('/proc/cpuinfo', 'latin1'));
    const key = probeKey({ kernelRelease: release(), cpuModel: cpu.model, qemuVersion: qemu.version });
    const known = chooseAccel(wanted, device, this.#remembered(key));
    if (known !== 'probe') {
      if ('refused' in known) throw new VmmError('VMM_ACCEL', `accel: kvm cannot be had: ${known.refused}`);
      return { ...known, group: known.accel === 'kvm' ? group : null };
    }
    const probe = kernel ?? hostKernel();
    if (probe === null) {
      // Not remembered: there may be a kernel the next time.
      return cpu.isGuest
        ? {
            accel: 'tcg',
            reason: `KVM was not tried, for want of a kernel to boot; say accel: kvm to use it untried`,
            group: null,
          }
        : {
            accel: 'kvm',
            reason: 'this host is no guest itself; KVM was not tried, for want of a kernel to boot',
            group,
          };
    }
    this.#probing ??= this.#probe(qemu, probe, group, key).finally(() => {
      this.#probing = null;
    });
    const { works, reason } = await this.#probing;
    return works ? { accel: 'kvm', reason, group } : { accel: 'tcg', reason, group: null };
  }

  #device(): KvmDevice {
    const { isolated, device = '/dev/kvm' } = this.#options;
    let stat = null;
    try {
      stat = fs.statSync(device);
    } catch {
      // Absent: judged as such.
    }
    const user = isolated
      ? { uid: PROBE_USER, groups: [], mayHaveGroups: findProgram('setpriv') !== undefined }
      : { uid: process.getuid?.() ?? 0, groups: process.getgroups?.() ?? [], mayHaveGroups: false };
    return judgeKvmDevice(stat, user);
  }

  #remembered(key: string): ProbeResult | null {
    try {
      const value = Remembered.parse(JSON.parse(fs.readFileSync(this.#options.file, 'utf8')));
      return value.key === key ? value : null;
    } catch {
      return null;
    }
  }

  async #probe(qemu: Qemu, kernel: string, group: number | null, key: string): Promise<ProbeResult> {
    const result = await bootUnderKvm(qemu, kernel, group, this.#options.isolated);
    const remembered = { key, works: result.works, reason: result.reason, at: new Date().toISOString() };
    // What kept us from trying says nothing of KVM.
    if (!result.tried) return result;
    try {
      fs.writeFileSync(`${this.#options.file}.next`, `${JSON.stringify(remembered, null, 2)}\n`, {
        mode: 0o600,
      });
      fs.renameSync(`${this.#options.file}.next`, this.#options.file);
    } catch {
      // Then it is tried again the next time; the answer stands.
    }
    return result;
  }
}

/** The newest kernel of the host that we may read. */
function hostKernel(): string | null {
  try {
    const names = fs.readdirSync('/boot').filter(name => name.startsWith('vmlinuz-'));
    for (const name of names.toSorted().toReversed()) {
      try {
        fs.accessSync(`/boot/${name}`, fs.constants.R_OK);
        return `/boot/${name}`;
      } catch {
        // Some distributions keep them to root.
      }
    }
  } catch {
    // No /boot, as in a container.
  }
  return null;
}

async function bootUnderKvm(
  qemu: Qemu,
  kernel: string,
  group: number | null,
  isolated: boolean,
): Promise<ProbeResult & { tried: boolean }> {
  const console = qemu.arch === 'x86_64' ? 'ttyS0' : 'ttyAMA0';
  let command = qemu.binary;
  const fixed =
    '-nodefaults -no-user-config -accel kvm -cpu host -smp 1 -m 256M -display none -no-reboot ' +
    '-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny ' +
    '-chardev stdio,id=serial,signal=off -serial chardev:serial';
  let args = [
    ...fixed.split(' '),
    '-machine',
    qemu.machineType,
    '-kernel',
    kernel,
    '-append',
    `console=${console} ${PROBE_CMDLINE_REST}`,
  ];
  let user = {};
  if (isolated && group !== null) {
    args = [`--reuid=${PROBE_USER}`, `--regid=${PROBE_USER}`, `--groups=${group}`, '--', command, ...args];
    command = findProgram('setpriv') ?? 'setpriv';
  } else if (isolated) user = { uid: PROBE_USER, gid: PROBE_USER };
  // Should weftd end meanwhile, its probe must not stay behind.
  const timeout = findProgram('timeout');
  if (timeout !== undefined) {
    args = ['--signal=KILL', String(PROBE_DEADLINE_ms / 1000 + 5), command, ...args];
    command = timeout;
  }
  const started_ms = Date.now();
  return new Promise(resolve => {
    const child = spawn(command, args, {
      ...user,
      cwd: '/',
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { PATH: '/usr/bin:/bin' },
    });
    let serial = '';
    let errors = '';
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      // The group: timeout(1) may stand between us and QEMU.
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
    }, PROBE_DEADLINE_ms);
    child.stdout.on('data', (chunk: Buffer) => {
      serial = (serial + chunk.toString('latin1')).slice(-MAX_SERIAL_BYTES);
    });
    child.stderr.on('data', (chunk: Buffer) => {
      errors = (errors + chunk.toString('latin1')).slice(-8192);
    });
    child.on('error', error => {
      clearTimeout(timer);
      resolve({ works: false, tried: false, reason: `KVM could not be tried: ${error.message}` });
    });
    child.on('close', code => {
      clearTimeout(timer);
      const took_ms = Date.now() - started_ms;
      if (sawKernelGiveUp(serial)) {
        resolve({
          works: true,
          tried: true,
          reason: `a kernel booted under KVM in ${took_ms} ms when it was tried`,
        });
      } else if (late) {
        resolve({
          works: false,
          tried: true,
          reason: `/dev/kvm is there, but a kernel did not boot under it within ${PROBE_DEADLINE_ms / 1000} s when it was tried`,
        });
      } else {
        const words = lastWords(errors) || `QEMU ended with ${code ?? 'a signal'}`;
        resolve({
          works: false,
          tried: !/kernel file|setpriv/.test(words),
          reason: `/dev/kvm is there, but a kernel did not boot under it: ${words}`,
        });
      }
    });
  });
}
