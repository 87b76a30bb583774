/** Huge pages for programs that want them (DPDK): reserved for the lab and given back when it closes. */
import { readFileSync, writeFileSync } from 'node:fs';
import type { Lab } from './lab.js';
import { run, runSync } from './processes.js';

const RESERVED = '/proc/sys/vm/nr_hugepages';
const HUGE_PAGE_MIB = 2;

/** In words why there can be none; false when there can. */
export function missingHugePages(): string | false {
  try {
    return /^Hugepagesize:\s+2048 kB$/m.test(readFileSync('/proc/meminfo', 'utf8'))
      ? false
      : 'needs huge pages of 2 MiB';
  } catch {
    return 'needs /proc/meminfo';
  }
}

/** Where a file system of so much is mounted. Throws when memory is too scattered for it. */
export async function hugePages(lab: Lab, size_MiB: number): Promise<string> {
  const before = Number(readFileSync(RESERVED, 'utf8'));
  const wanted = before + Math.ceil(size_MiB / HUGE_PAGE_MIB);
  lab.undo.push('give huge pages back', () => writeFileSync(RESERVED, String(before)));
  writeFileSync(RESERVED, String(wanted));
  const got = Number(readFileSync(RESERVED, 'utf8'));
  if (got < wanted)
    throw new Error(`only ${(got - before) * HUGE_PAGE_MIB} of ${size_MiB} MiB of huge pages could be had`);
  const point = lab.path('huge');
  await run(['mkdir', point]);
  await run(['mount', '-t', 'hugetlbfs', '-o', 'pagesize=2M', 'weftlab', point]);
  lab.undo.push(`unmount ${point}`, () => void runSync(['umount', '-l', point]));
  return point;
}
