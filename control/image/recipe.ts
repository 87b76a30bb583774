/**
 * What the tiny image is made of, decided without touching a file: which modules, in which order, and the
 * entries of its initrd. Change RECIPE_VERSION when what comes out changes: cached images of an older recipe
 * are built anew.
 */
import { characterDevice, directory, file, link, type CpioEntry } from './cpio.js';
import { moduleName, type ModuleInfo } from './elf.js';

export const RECIPE_VERSION = 1;

/** Wanted in the guest; those built into the kernel, or absent on this architecture, are left out. */
export const WANTED_MODULES = [
  'virtio_pci',
  'virtio_blk',
  'virtio_net',
  'virtio_rng',
  // ext4 asks the kernel for "crc32c", which is not the name of a file.
  'crc32c_generic',
  'ext4',
  // The power button: ACPI's, and on arm64's virt machine the one on a GPIO line.
  'button',
  'evdev',
  'gpio_pl061',
  'gpio_keys',
  // Tells QEMU when the kernel panics.
  'pvpanic_pci',
] as const;

/** Without these there is no guest; each is a module or is named in the kernel's list of built-in ones. */
export const NEEDED_MODULES = ['virtio_pci', 'virtio_blk', 'virtio_net', 'ext4'] as const;

/**
 * The modules to load, each after what it depends on. `infoOf` gives undefined for one that is not a file
 * (built in, or unknown); a circle, which no kernel has, ends where it closes.
 */
export function loadOrder(
  wanted: readonly string[],
  infoOf: (name: string) => ModuleInfo | undefined,
): string[] {
  const order: string[] = [];
  const seen = new Set<string>();
  const visit = (name: string): void => {
    if (seen.has(name)) return;
    seen.add(name);
    const info = infoOf(name);
    if (info === undefined) return;
    for (const other of [...info.softPre, ...info.depends]) visit(other);
    order.push(name);
  };
  for (const name of wanted) visit(moduleName(name));
  return order;
}

/** What busybox must know to do for our scripts. */
export const NEEDED_APPLETS =
  'acpid awk cat cut dd grep init insmod ip mke2fs mkdir mount ping poweroff reboot rm sed sh sha256sum sleep stat sync tail touch tr umount usleep wc'.split(
    ' ',
  );

export interface Ingredients {
  busybox: Uint8Array;
  /** Names from `busybox --list`. */
  applets: readonly string[];
  /** In load order. */
  modules: readonly { name: string; bytes: Uint8Array }[];
  /** Our scripts, by their names in guest/. */
  scripts: ReadonlyMap<string, Uint8Array>;
  /** Shown by the guest as what it is. */
  version: string;
}

export function initrdEntries(from: Ingredients): CpioEntry[] {
  const text = (value: string): Uint8Array => new TextEncoder().encode(value);
  const entries = [
    'bin',
    'dev',
    'disk',
    'etc',
    'etc/acpi',
    'etc/acpi/PWRF',
    'lib',
    'lib/modules',
    'proc',
    'run',
    'sys',
    'weft',
  ].map(path => directory(path));
  // The kernel opens it before there is a /dev.
  entries.push(characterDevice('dev/console', 5, 1));
  entries.push(file('bin/busybox', from.busybox, 0o755));
  for (const applet of from.applets)
    if (/^[a-z0-9_[-]+$/i.test(applet) && applet !== 'busybox')
      entries.push(link(`bin/${applet}`, 'busybox'));
  for (const module of from.modules) entries.push(file(`lib/modules/${module.name}.ko`, module.bytes));
  entries.push(file('weft/modules', text(from.modules.map(module => `${module.name}.ko\n`).join(''))));
  entries.push(file('weft/version', text(`${from.version}\n`)));
  const placed: Record<string, string> = {
    'init.sh': 'init',
    'profile.sh': 'etc/profile',
    // Where acpid looks for the power button.
    'power.sh': 'etc/acpi/PWRF/00000080',
  };
  for (const [name, bytes] of from.scripts) entries.push(file(placed[name] ?? `weft/${name}`, bytes, 0o755));
  return entries;
}

/** The kernel's words that belong to the image; the machine's own follow. */
export function tinyCmdline(arch: string): string {
  const console = arch === 'arm64' ? 'ttyAMA0' : 'ttyS0';
  // Errors still show; what a kernel has to say about a sound machine would only slow the serial line.
  return `console=${console} quiet loglevel=4`;
}
