/**
 * Whose a thing of the lab is. Names of namespaces and directories, and the environment of every process that
 * the lab starts, carry the owner's pid and start time; a thing whose owner is gone is a leftover of a run
 * that was killed before it could clean up, and may be removed by anybody.
 *
 * The start time is there because pids come around again.
 */
import { readFileSync, readdirSync } from 'node:fs';

/** Both are inherited by whatever is started below us, detached guests included. */
export const OWNER_VARIABLE = 'WEFT_LAB_OWNER';
/** Of the one lab among the owner's. */
export const DIRECTORY_VARIABLE = 'WEFT_LAB_DIRECTORY';
export const PREFIX = 'weftlab-';

export interface Owner {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat, in clock ticks since boot. */
  readonly startTime: string;
}

/** proc(5): fields 3 and on of /proc/PID/stat, that is after the command's name, which may hold spaces. */
export function statFields(pid: number): string[] | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return text.slice(text.lastIndexOf(')') + 2).split(' ');
  } catch {
    return null;
  }
}

const STATE = 3 - 3;
const START_TIME = 22 - 3;

/** A zombie counts as gone: all that it held is released. */
export function isRunning(pid: number): boolean {
  const state = statFields(pid)?.[STATE];
  return state !== undefined && state !== 'Z' && state !== 'X';
}

function ownerOf(pid: number): Owner {
  return { pid, startTime: statFields(pid)?.[START_TIME] ?? '0' };
}

export const owner: Owner = ownerOf(process.pid);

export const ownerTag = (of: Owner): string => `${of.pid}-${of.startTime}`;

/** `weftlab-PID-STARTTIME-label`; unique on this machine as long as labels are unique in one program. */
export const ownedName = (label: string): string => `${PREFIX}${ownerTag(owner)}-${label}`;

/** Who made a thing of this name; null when it is not the lab's. */
export function parseOwnedName(name: string): Owner | null {
  const match = new RegExp(`^${PREFIX}(\\d+)-(\\d+)-`).exec(name);
  return match === null ? null : { pid: Number(match[1]), startTime: match[2] ?? '' };
}

export function isAlive(of: Owner): boolean {
  return isRunning(of.pid) && ownerOf(of.pid).startTime === of.startTime;
}

export interface SeenProcess {
  readonly pid: number;
  readonly command: string;
  /** Who started it and in which lab, by its environment; null for what has nothing to do with labs. */
  readonly owner: Owner | null;
  readonly directory: string | null;
}

/** Every running process of this machine that we may look at. */
export function seenProcesses(): SeenProcess[] {
  const seen: SeenProcess[] = [];
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || !isRunning(pid)) continue;
    try {
      const environment = readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0');
      const variable = (name: string): string | null =>
        environment.find(text => text.startsWith(`${name}=`))?.slice(name.length + 1) ?? null;
      const match = /^(\d+)-(\d+)$/.exec(variable(OWNER_VARIABLE) ?? '');
      seen.push({
        pid,
        command: readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ').trim(),
        owner: match === null ? null : { pid: Number(match[1]), startTime: match[2] ?? '' },
        directory: variable(DIRECTORY_VARIABLE),
      });
    } catch {
      // Gone meanwhile, or not ours to look at.
    }
  }
  return seen;
}
