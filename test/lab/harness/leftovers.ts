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

/** Undo what is mounted at or below a directory, the innermost first. */
export function unmountBelow(directory: string): void {
  const points = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map(line => unescapeMount(line.split(' ')[4] ?? ''))
    .filter(point => point === directory || point.startsWith(`${directory}/`));
  for (const point of points.reverse()) runSync(['umount', '-l', point]);
}

export function removeDirectory(directory: string): void {
  unmountBelow(directory);
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
