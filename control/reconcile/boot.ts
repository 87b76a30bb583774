/**
 * How a machine's spec becomes what QEMU is started with, and which differences between a running guest and its
 * spec need a restart. Everything in a BootPlan does; what is not in it (a card's VLAN, the switch that it hangs
 * on) is changed under the running guest.
 *
 * A disk's NBD name is `POOL/VOLUME`: so the plan says which volume a guest was booted with, and a guest that
 * reconnects can never be given another volume that has come to be behind the same socket.
 */
import type { SpecOf } from '../model/spec.js';
import { macOf } from '../model/mac.js';
import { sizeOf } from '../model/meaning.js';
import type { BootPlan } from '../vmm/host.js';
import type { Desired } from './desired.js';
import type { SeenImage } from './observed.js';

export interface Sockets {
  nicSocket(name: string, index: number): string;
  diskSocket(name: string, index: number): string;
}

export function nbdNameOf(pool: string, volume: string): string {
  return `${pool}/${volume}`;
}

/** The volume that a running guest's disk is, as `pool/volume` split. */
export function volumeOfNbdName(nbdName: string): { pool: string; volume: string } | undefined {
  const slash = nbdName.indexOf('/');
  if (slash < 1) return undefined;
  return { pool: nbdName.slice(0, slash), volume: nbdName.slice(slash + 1) };
}

/** Undefined while the image, or a volume's resource, is not known. */
export function bootPlanOf(
  name: string,
  spec: SpecOf['machine'],
  desired: Desired,
  image: SeenImage | undefined,
  sockets: Sockets,
): BootPlan | undefined {
  let kernel: BootPlan['kernel'] = null;
  if (spec.image !== undefined) {
    const boot = image?.boot;
    if (boot === undefined || boot === null || boot.kind !== 'kernel') return undefined;
    const cmdline = [boot.cmdline, spec.cmdline ?? ''].filter(words => words !== '').join(' ');
    kernel = { path: boot.kernel, initrd: boot.initrd, cmdline };
  }
  const disks: BootPlan['disks'][number][] = [];
  for (const [index, disk] of spec.disks.entries()) {
    const volume = desired.specs.volume.get(disk.volume);
    if (volume === undefined) return undefined;
    const block = disk.block ?? volume.block;
    disks.push({
      socketPath: sockets.diskSocket(name, index),
      nbdName: nbdNameOf(volume.pool, disk.volume),
      readOnly: disk.readOnly,
      ...(block === undefined ? {} : { block }),
      ...vhostOf(disk, spec),
    });
  }
  return {
    name,
    cpus: spec.cpus,
    memory_bytes: sizeOf(spec.memory),
    accel: spec.accel,
    kernel,
    disks,
    nics: spec.nics.map((nic, index) => ({
      socketPath: sockets.nicSocket(name, index),
      mac: macOf(name, index, nic.mac),
      transport: nic.transport ?? 'vhost',
      queues: nic.queues ?? 1,
    })),
  };
}

/** Queues that a disk gets which says nothing of them. */
const DISK_QUEUES_MAX = 8;

/** Empty: by NBD. */
export function vhostOf(
  disk: SpecOf['machine']['disks'][number],
  { cpus }: SpecOf['machine'],
): { vhost?: { queues: number } } {
  if (disk.attach !== 'vhost-user') return {};
  return { vhost: { queues: disk.queues ?? Math.min(cpus, DISK_QUEUES_MAX) } };
}

const MIB = 2 ** 20;

function diskWords(disk: BootPlan['disks'][number] | undefined): string {
  if (disk === undefined) return 'none';
  return `${disk.nbdName}${disk.readOnly ? ' (read-only)' : ''}${disk.block === undefined ? '' : ` (blocks of ${disk.block})`}${disk.vhost === undefined ? '' : ` (vhost-user, ${disk.vhost.queues} queues)`}`;
}

function nicWords(nic: BootPlan['nics'][number] | undefined): string {
  if (nic === undefined) return 'none';
  return `${nic.mac} (${nic.transport}${nic.queues > 1 ? `, ${nic.queues} queues` : ''})`;
}

/** In words, what differs between what runs and what is wanted; empty when a restart would change nothing. */
export function restartReasons(running: BootPlan, wanted: BootPlan): string[] {
  const reasons: string[] = [];
  const differ = (what: string, from: string | number, to: string | number): void => {
    if (from !== to) reasons.push(`${what} ${from} -> ${to}`);
  };
  differ('cpus', running.cpus, wanted.cpus);
  differ('memory', `${running.memory_bytes / MIB}MiB`, `${wanted.memory_bytes / MIB}MiB`);
  differ('accel', running.accel, wanted.accel);
  differ('kernel', running.kernel?.path ?? 'none', wanted.kernel?.path ?? 'none');
  differ('initrd', running.kernel?.initrd ?? 'none', wanted.kernel?.initrd ?? 'none');
  differ('cmdline', `"${running.kernel?.cmdline ?? ''}"`, `"${wanted.kernel?.cmdline ?? ''}"`);
  for (let i = 0; i < Math.max(running.disks.length, wanted.disks.length); i++)
    differ(`disk ${i}`, diskWords(running.disks[i]), diskWords(wanted.disks[i]));
  for (let i = 0; i < Math.max(running.nics.length, wanted.nics.length); i++)
    differ(`nic ${i}`, nicWords(running.nics[i]), nicWords(wanted.nics[i]));
  return reasons;
}
