/** What QEMU says of itself, read. Pure. */
import type { Arch } from '../arguments.js';

/** `-netdev stream` and `nbd` with open-timeout came with it. */
export const OLDEST_VERSION = '7.2';

/** `QEMU emulator version 7.2.22 (Debian 1:7.2+…)` -> `7.2.22`. */
export function parseVersion(text: string): string | undefined {
  return /\bversion (\d+\.\d+(?:\.\d+)?)/.exec(text)?.[1];
}

export function isNewEnough(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const [oldMajor = 0, oldMinor = 0] = OLDEST_VERSION.split('.').map(Number);
  return major > oldMajor || (major === oldMajor && minor >= oldMinor);
}

/**
 * The versioned name behind `q35` or `virt` in `-machine help`, so that what a guest was given can be given
 * again by a later QEMU: `q35   Standard PC … (alias of pc-q35-7.2)`.
 */
export function parseMachineType(help: string, arch: Arch): string | undefined {
  const alias = arch === 'x86_64' ? 'q35' : 'virt';
  for (const line of help.split('\n')) {
    const match = /^(\S+)\s.*\(alias of ([^\s)]+)\)/.exec(line);
    if (match?.[1] === alias) return match[2];
  }
  return undefined;
}

/** Node's `process.arch` in QEMU's word; undefined where we know no machine. */
export function qemuArch(nodeArch: string): Arch | undefined {
  if (nodeArch === 'x64') return 'x86_64';
  return nodeArch === 'arm64' ? 'aarch64' : undefined;
}

/** The last words of a log, for a message: a few lines, without QEMU's timestamps, without control characters. */
export function lastWords(log: string, lineCount = 3): string {
  const lines = log
    .split('\n')
    .map(line =>
      line
        .replace(/^\d{4}-\d\d-\d\dT[\d:.]+Z /, '')
        .replace(/[^\x20-\x7e]+/g, ' ')
        .trim(),
    )
    .filter(line => line !== '');
  return lines.slice(-lineCount).join(' | ').slice(-600);
}
