/**
 * From a plan to QEMU's argument list. Pure: equal inputs give equal lists, and nothing here looks at the
 * machine; what had to be found out (binary, machine type, accelerator, firmware) comes in as `Hardware`, which
 * is recorded with the plan, so that what a guest was booted with can be read later.
 *
 * What the choices are, and why:
 *
 *   pcie.0 0x08.j   root port of NIC j        Fixed places: adding a disk does not rename a card in the guest.
 *          0x10.i   root port of disk i       Root ports, since pcie.0 itself takes no hot-plugging.
 *          0x1c     virtio-rng   0x1d pvpanic
 *
 *   -nodefaults -no-user-config   the guest has what is listed here and nothing else
 *   -S                            the CPUs wait until both monitors are ours and the accelerator was checked
 *   -sandbox …=deny               a guest that breaks out of QEMU cannot start programs or gain rights
 *   -action shutdown=pause        QEMU stays after a power-off, so that weftd, even one that was not there when
 *                                 it happened, can tell a power-off (status `shutdown`) from a crash (no QEMU)
 *   -action panic=pause           likewise for a kernel's panic, which pvpanic tells (status `guest-panicked`)
 *   reconnect-delay               while weft-storage is away, requests wait this long before the guest sees an
 *                                 error: an hour, since an error makes file systems read-only and a wait does
 *                                 not. The price: a `stop` sent meanwhile keeps QEMU's monitor busy until the
 *                                 server is back (the guest is `unresponsive` then; it recovers by itself, and
 *                                 `kill` works all the same)
 *   open-timeout                  a guest may be started while weft-storage restarts
 *   vhost-user-blk                a disk may ask for it: no NBD and no copy in QEMU, which dials weft-storage (`reconnect`). A
 *                                 weft-storage that is away is waited for without end; after a kill it finds what was
 *                                 under way in memory that QEMU keeps
 *   werror=report, rerror=report  a disk's errors are the guest's to handle, as on hardware. virtio-blk has one
 *                                 code for all of them: a full pool is an I/O error (EIO) inside, and by name
 *                                 (ENOSPC) in `diskErrors`
 *   memory-backend-memfd,share=on what vhost-user needs; sealed against shrinking by default, which weft-dataplane insists on
 *   vhost-user, server=on         QEMU listens in its own directory and weft-dataplane dials: so a plane that was
 *                                 restarted comes back without the guest's doing, and QEMU, as the guest's user,
 *                                 can reach nothing of the plane's. QEMU waits for the plane before it starts the
 *                                 guest (it learns its features from it), up to the deadline of a start
 *   iothread                      none yet: with NBD the work is in weft-storage
 */
import { createHash } from 'node:crypto';
import type { BootPlan } from './host.js';

/** How long a guest's disk requests wait for weft-storage before they fail. */
export const RECONNECT_DELAY_s = 3600;
/** How long QEMU tries to reach a disk's server when it starts. */
export const OPEN_TIMEOUT_s = 30;
/** What translated code may take per guest under TCG; QEMU's default would be a gigabyte. */
export const TCG_CODE_CACHE_MiB = 128;

export const MAX_NICS = 16;
export const MAX_QUEUES = 16;
export const MAX_DISKS = 24;
/** `sun_path` has 108 bytes, one of them NUL. */
export const MAX_SOCKET_PATH_BYTES = 107;

export type Arch = 'x86_64' | 'aarch64';

export interface Hardware {
  arch: Arch;
  /** Versioned: `pc-q35-7.2`, `virt-7.2`. */
  machineType: string;
  accel: 'kvm' | 'tcg';
  /** UEFI for arm64's disk boot; null elsewhere. */
  firmware: string | null;
}

export interface GuestPaths {
  qmp: readonly [string, string];
  serialSocket: string;
  serialLog: string;
}

/** Where in its run directory a guest's QEMU listens and writes. */
export function guestPaths(directory: string): GuestPaths {
  return {
    qmp: [`${directory}/qmp0.sock`, `${directory}/qmp1.sock`],
    serialSocket: `${directory}/serial.sock`,
    serialLog: `${directory}/serial.log`,
  };
}

const hex = (value: number): string => `0x${value.toString(16)}`;

export function qemuArguments(plan: BootPlan, hardware: Hardware, paths: GuestPaths): string[] {
  const argv: string[] = [];
  const add = (option: string, value?: Readonly<Record<string, string | number | null>> | string): void => {
    argv.push(option);
    if (value !== undefined) argv.push(typeof value === 'string' ? value : keyValues(value));
  };

  add('-name', { guest: plan.name, 'debug-threads': 'on' });
  add('-uuid', guestUuid(plan.name));
  add('-nodefaults');
  add('-no-user-config');
  add('-S');
  add('-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny');
  add('-msg', 'timestamp=on');
  add('-machine', { type: hardware.machineType, 'memory-backend': 'memory', ...machineExtras(hardware) });
  add(
    '-accel',
    hardware.accel === 'kvm' ? 'kvm' : { tcg: null, thread: 'multi', 'tb-size': TCG_CODE_CACHE_MiB },
  );
  add('-cpu', cpuModel(hardware));
  add('-smp', { cpus: plan.cpus, sockets: 1, cores: plan.cpus, threads: 1 });
  add('-m', { size: `${plan.memory_bytes}B` });
  add('-object', { 'memory-backend-memfd': null, id: 'memory', size: plan.memory_bytes, share: 'on' });
  add('-rtc', 'base=utc');
  add('-action', 'reboot=reset,shutdown=pause,panic=pause');
  add('-display', 'none');
  if (hardware.arch === 'x86_64') {
    // A guest asleep in S3 looks like one that hangs; there is no key to wake it.
    add('-global', 'ICH9-LPC.disable_s3=1');
    add('-global', 'ICH9-LPC.disable_s4=1');
  }

  for (const [index, path] of paths.qmp.entries()) {
    add('-chardev', { socket: null, id: `qmp${index}`, path, server: 'on', wait: 'off' });
    add('-mon', { chardev: `qmp${index}`, mode: 'control' });
  }
  add('-chardev', {
    socket: null,
    id: 'serial',
    path: paths.serialSocket,
    server: 'on',
    wait: 'off',
    logfile: paths.serialLog,
    // Appending is what lets weftd cut the file while QEMU holds it.
    logappend: 'on',
  });
  add('-serial', 'chardev:serial');

  for (const [index, nic] of plan.nics.entries()) {
    add('-device', rootPort(`nic${index}`, 0x08, index, index));
    if (nic.transport === 'vhost') {
      add('-chardev', {
        socket: null,
        id: `vhost${index}`,
        path: nic.socketPath,
        server: 'on',
        wait: 'off',
      });
      add('-netdev', { 'vhost-user': null, id: `nic${index}`, chardev: `vhost${index}`, queues: nic.queues });
    } else
      add('-netdev', {
        stream: null,
        id: `nic${index}`,
        server: 'on',
        'addr.type': 'unix',
        'addr.path': nic.socketPath,
      });
    // No option ROM: guests do not boot from the network yet, and it costs time at each boot.
    add('-device', {
      'virtio-net-pci': null,
      id: `net${index}`,
      bus: `port-nic${index}`,
      netdev: `nic${index}`,
      mac: nic.mac,
      romfile: '',
      ...(nic.transport === 'vhost' ? vhostCard(nic.queues, hardware.accel) : {}),
    });
  }

  for (const [index, disk] of plan.disks.entries()) {
    add('-device', rootPort(`disk${index}`, 0x10, index, MAX_NICS + index));
    const isBoot = plan.kernel === null && index === 0;
    if (disk.vhost !== undefined) {
      add('-chardev', {
        socket: null,
        id: `disk${index}`,
        path: disk.socketPath,
        ...reconnect(hardware.machineType),
      });
      add('-device', {
        'vhost-user-blk-pci': null,
        id: `blk${index}`,
        bus: `port-disk${index}`,
        chardev: `disk${index}`,
        ...vhostDisk(disk.vhost.queues, hardware.accel),
        ...(isBoot ? { bootindex: 0 } : {}),
      });
      continue;
    }
    add(
      '-blockdev',
      JSON.stringify({
        driver: 'nbd',
        'node-name': `disk${index}`,
        server: { type: 'unix', path: disk.socketPath },
        export: disk.nbdName,
        'reconnect-delay': RECONNECT_DELAY_s,
        'open-timeout': OPEN_TIMEOUT_s,
        'read-only': disk.readOnly,
        discard: 'unmap',
        'detect-zeroes': 'off',
      }),
    );
    add('-device', {
      'virtio-blk-pci': null,
      id: `blk${index}`,
      bus: `port-disk${index}`,
      drive: `disk${index}`,
      serial: diskSerial(disk.nbdName, index),
      'write-cache': 'on',
      discard: 'on',
      werror: 'report',
      rerror: 'report',
      physical_block_size: 4096,
      ...(disk.block === undefined ? {} : { logical_block_size: disk.block }),
      ...(isBoot ? { bootindex: 0 } : {}),
    });
  }

  add('-object', 'rng-random,id=rng,filename=/dev/urandom');
  add('-device', 'virtio-rng-pci,id=rng0,rng=rng,bus=pcie.0,addr=0x1c');
  add('-device', 'pvpanic-pci,id=panic,bus=pcie.0,addr=0x1d');

  if (plan.kernel !== null) {
    add('-kernel', plan.kernel.path);
    if (plan.kernel.initrd !== null) add('-initrd', plan.kernel.initrd);
    add('-append', plan.kernel.cmdline);
  } else if (hardware.firmware !== null) add('-bios', hardware.firmware);
  return argv;
}

/** Eight root ports share a slot, one function each; function 0 must be there for the others to be found. */
function rootPort(
  name: string,
  firstSlot: number,
  index: number,
  chassis: number,
): Record<string, string | number | null> {
  return {
    'pcie-root-port': null,
    id: `port-${name}`,
    bus: 'pcie.0',
    addr: `${hex(firstSlot + (index >> 3))}.${hex(index & 7)}`,
    multifunction: 'on',
    chassis: chassis + 1,
  };
}

/**
 * Longer rings than QEMU's 256 take a burst of TCP whole. Several pairs need a vector per queue and two more. Without KVM
 * there are none: QEMU 7.2 ends with SIGSEGV when a driver starts a vhost card with MSI-X and nobody takes its
 * interrupts in the kernel (it looks into a table that was never made); an interrupt line does the same work.
 */
function vhostCard(queues: number, accel: Hardware['accel']): Record<string, string | number> {
  return {
    rx_queue_size: 1024,
    tx_queue_size: 1024,
    ...(queues > 1 ? { mq: 'on' } : {}),
    ...(accel === 'tcg' ? { vectors: 0 } : queues > 1 ? { vectors: queues * 2 + 2 } : {}),
  };
}

/**
 * As a card's, what interrupts want. What the disk can do, its size and its serial number come from weft-storage, which also
 * answers errors; QEMU's block layer is not there, so that `diskErrors` says nothing of it.
 */
function vhostDisk(queues: number, accel: Hardware['accel']): Record<string, string | number> {
  return { 'num-queues': queues, 'queue-size': 256, ...(accel === 'tcg' ? { vectors: 0 } : {}) };
}

/** How a socket that ends is dialled again, each second: QEMU 9.2 has another word for it. */
function reconnect(machineType: string): Record<string, number> {
  const [major = 0, minor = 0] = (/(\d+)\.(\d+)/.exec(machineType) ?? []).slice(1).map(Number);
  return major > 9 || (major === 9 && minor >= 2) ? { 'reconnect-ms': 1000 } : { reconnect: 1 };
}

function machineExtras(hardware: Hardware): Record<string, string> {
  if (hardware.arch === 'x86_64') return { vmport: 'off', hpet: 'off' };
  return { 'gic-version': hardware.accel === 'kvm' ? 'host' : '3' };
}

/**
 * Under KVM the host's own. Under TCG all that QEMU can emulate, which on arm64 is made bearable by a cheaper
 * pointer authentication.
 */
export function cpuModel(hardware: Pick<Hardware, 'arch' | 'accel'>): string {
  if (hardware.accel === 'kvm') return 'host';
  return hardware.arch === 'aarch64' ? 'max,pauth-impdef=on' : 'max';
}

/** `a=1,b=2`; a null value is a bare word; commas are doubled as QEMU wants them. */
function keyValues(values: Readonly<Record<string, string | number | null>>): string {
  return Object.entries(values)
    .map(([key, value]) => (value === null ? key : `${key}=${String(value).replaceAll(',', ',,')}`))
    .join(',');
}

/** The same for a name for ever: guests take their licences and DHCP leases by it. */
export function guestUuid(name: string): string {
  const digest = createHash('sha256').update(`weft machine ${name}`).digest();
  digest[6] = (digest[6]! & 0x0f) | 0x80; // RFC 9562 5.8: version 8, ours to define
  digest[8] = (digest[8]! & 0x3f) | 0x80;
  const text = digest.toString('hex');
  return [
    text.slice(0, 8),
    text.slice(8, 12),
    text.slice(12, 16),
    text.slice(16, 20),
    text.slice(20, 32),
  ].join('-');
}

/** virtio-blk has 20 bytes for it; the guest finds it as /dev/disk/by-id/virtio-SERIAL. */
export function diskSerial(nbdName: string, index: number): string {
  return /^[\w.-]{1,20}$/.test(nbdName) ? nbdName : `disk${index}`;
}

/** What makes a plan unbootable, in words; null when nothing does. Whether its files exist is not asked here. */
export function planProblem(plan: BootPlan, paths: GuestPaths): string | null {
  if (plan.nics.length > MAX_NICS) return `it has ${plan.nics.length} NICs, ${MAX_NICS} is the most`;
  if (plan.disks.length > MAX_DISKS) return `it has ${plan.disks.length} disks, ${MAX_DISKS} is the most`;
  if (!Number.isSafeInteger(plan.cpus) || plan.cpus < 1 || plan.cpus > 256)
    return `${plan.cpus} CPUs is not between 1 and 256`;
  if (!Number.isSafeInteger(plan.memory_bytes) || plan.memory_bytes < 16 * 2 ** 20)
    return `${plan.memory_bytes} bytes of memory is less than 16 MiB`;
  if (plan.memory_bytes % 4096 !== 0)
    return `${plan.memory_bytes} bytes of memory is not a multiple of 4 KiB`;
  if (plan.kernel === null && plan.disks.length === 0)
    return 'it has neither a kernel nor a disk to boot from';
  if (plan.kernel !== null && Buffer.byteLength(plan.kernel.cmdline) > 2047)
    return `its kernel command line has ${Buffer.byteLength(plan.kernel.cmdline)} bytes, 2047 is the most`;
  const sockets = [
    ...paths.qmp,
    paths.serialSocket,
    ...plan.nics.map(nic => nic.socketPath),
    ...plan.disks.map(disk => disk.socketPath),
  ];
  const long = sockets.find(path => Buffer.byteLength(path) > MAX_SOCKET_PATH_BYTES);
  if (long !== undefined)
    return `the socket path ${long} is longer than ${MAX_SOCKET_PATH_BYTES} bytes; use a state directory with a shorter path`;
  const tooMany = plan.nics.find(nic => nic.queues < 1 || nic.queues > MAX_QUEUES);
  if (tooMany !== undefined) return `a NIC has ${tooMany.queues} pairs of queues, ${MAX_QUEUES} is the most`;
  const queued = plan.disks.find(
    ({ vhost }) => vhost !== undefined && !(vhost.queues >= 1 && vhost.queues <= MAX_QUEUES),
  );
  if (queued !== undefined) return `a disk has ${queued.vhost?.queues} queues, ${MAX_QUEUES} is the most`;
  if (plan.nics.some(nic => !/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(nic.mac)))
    return 'a MAC address is malformed';
  return null;
}
