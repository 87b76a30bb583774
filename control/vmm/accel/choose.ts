/**
 * KVM or TCG, decided from what is known of the host. Pure.
 *
 * That /dev/kvm is there and QEMU reports KVM as enabled does not mean that a guest runs: under some nested
 * hypervisors a stock kernel never gets through its first second. So `auto` takes KVM only where a kernel was
 * seen to boot with it (accel/process.ts does that, once per host), or where the host is no guest itself.
 */

export interface KvmDevice {
  present: boolean;
  /** Whether the guest's user may open it, when it is given `group`. */
  usable: boolean;
  /** One more group that the guest's user needs for it. */
  group: number | null;
  /** In words, when it cannot be used. */
  reason: string | null;
}

export interface ProbeResult {
  works: boolean;
  reason: string;
}

export interface Choice {
  accel: 'kvm' | 'tcg';
  reason: string;
}

/** What is known before anything is tried; `probe` says that trying is what it takes. */
export function chooseAccel(
  wanted: 'auto' | 'kvm' | 'tcg',
  device: KvmDevice,
  remembered: ProbeResult | null,
): Choice | 'probe' | { refused: string } {
  if (wanted === 'tcg') return { accel: 'tcg', reason: 'asked for' };
  if (wanted === 'kvm') {
    if (!device.usable) return { refused: device.reason ?? '/dev/kvm cannot be used' };
    return { accel: 'kvm', reason: 'asked for' };
  }
  if (!device.usable) return { accel: 'tcg', reason: device.reason ?? '/dev/kvm cannot be used' };
  if (remembered === null) return 'probe';
  return { accel: remembered.works ? 'kvm' : 'tcg', reason: remembered.reason };
}

/** A file's owner, group and mode against the user that wants to open it for reading and writing. */
export function judgeKvmDevice(
  stat: { uid: number; gid: number; mode: number } | null,
  user: { uid: number; groups: readonly number[]; mayHaveGroups: boolean },
): KvmDevice {
  const no = (reason: string): KvmDevice => ({ present: stat !== null, usable: false, group: null, reason });
  const yes = (group: number | null): KvmDevice => ({ present: true, usable: true, group, reason: null });
  if (stat === null)
    return no(
      'there is no /dev/kvm: this CPU or hypervisor offers no virtualisation, or the kvm module is not loaded',
    );
  if (user.uid === 0) return yes(null);
  if (stat.uid === user.uid) return (stat.mode & 0o600) === 0o600 ? yes(null) : no(closed(stat, user.uid));
  const groupMay = (stat.mode & 0o060) === 0o060;
  if (user.groups.includes(stat.gid)) return groupMay ? yes(null) : no(closed(stat, user.uid));
  if ((stat.mode & 0o006) === 0o006) return yes(null);
  // The group root would be more than a guest should have.
  if (groupMay && user.mayHaveGroups && stat.gid !== 0) return yes(stat.gid);
  return no(closed(stat, user.uid));
}

function closed(stat: { uid: number; gid: number; mode: number }, uid: number): string {
  const mode = (stat.mode & 0o777).toString(8).padStart(4, '0');
  return (
    `user ${uid}, as whom guests run, may not open /dev/kvm (mode ${mode}, group ${stat.gid}); ` +
    'as root: chgrp kvm /dev/kvm && chmod 660 /dev/kvm'
  );
}

/** What the answer depends on: another kernel, CPU or QEMU may give another. */
export function probeKey(host: { kernelRelease: string; cpuModel: string; qemuVersion: string }): string {
  return `${host.kernelRelease} | ${host.cpuModel} | qemu ${host.qemuVersion}`;
}

/** /proc/cpuinfo: the model, and whether a hypervisor is above us. */
export function parseCpuinfo(text: string): { model: string; isGuest: boolean } {
  const model =
    /^model name\s*:\s*(.*)$/m.exec(text)?.[1] ??
    /^CPU implementer\s*:\s*(.*)$/m.exec(text)?.[1] ??
    'unknown CPU';
  return { model, isGuest: /^flags\s*:.*\bhypervisor\b/m.test(text) };
}

/**
 * The probe boots a kernel with nothing to boot into: a sound one gets to where it looks for its first file
 * system, finds none, says so and resets the machine. That is about as far as a kernel goes by itself.
 */
export const PROBE_CMDLINE_REST = 'panic=-1 root=/dev/none rdinit=/none loglevel=4';

export function sawKernelGiveUp(serial: string): boolean {
  return /Kernel panic - not syncing: (VFS: Unable to mount root|No working init|Requested init)/.test(
    serial,
  );
}
