/**
 * Removes what runs of the lab left behind that were killed before they could clean up: their processes,
 * namespaces, mounts and directories. Told apart from those of a run that is still going by owner.ts.
 */
import { readFileSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { isAlive, parseOwnedName, seenProcesses } from './owner.js';
import { killSync, runSync } from './processes.js';
import { removeNamespace } from './network.js';

const list = (directory: string): string[] => {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
};

const isLeftover = (name: string): boolean => {
  const of = parseOwnedName(name);
  return of !== null && !isAlive(of);
};

/** proc(5) on mountinfo: space, tab, newline and backslash are written as octal. */
const unescapeMount = (path: string): string =>
  path.replace(/\\([0-7]{3})/g, (_all, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

/** What is mounted at or below a directory, in the order of mounting. */
function mountsBelow(directory: string): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map(line => unescapeMount(line.split(' ')[4] ?? ''))
    .filter(point => point === directory || point.startsWith(`${directory}/`));
}

/** Never deletes what is only mounted there: the checkout itself may be. */
export function removeDirectory(directory: string): void {
  for (const point of mountsBelow(directory).reverse()) runSync(['umount', '-l', point]);
  const left = mountsBelow(directory);
  if (left.length > 0) throw new Error(`still mounted: ${left.join(', ')}`);
  rmSync(directory, { recursive: true, force: true });
}

/** Called when a lab opens. `homes` are the directories in which labs make theirs. Says what it removed. */
export function removeLeftovers(homes: readonly string[]): string[] {
  const removed: string[] = [];
  for (const process of seenProcesses()) {
    if (process.owner === null || isAlive(process.owner)) continue;
    killSync(process.pid);
    removed.push(`process ${process.pid} (${process.command.slice(0, 60)})`);
  }
  for (const name of list('/run/netns').filter(isLeftover)) {
    removeNamespace(name);
    removed.push(`namespace ${name}`);
  }
  for (const home of homes) {
    for (const name of list(home).filter(isLeftover)) {
      removeDirectory(join(home, name));
      removed.push(join(home, name));
    }
  }
  return removed;
}
