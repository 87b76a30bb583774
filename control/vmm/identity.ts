/**
 * Who a process is. A number alone is not enough: the kernel gives it to another process later. The number,
 * the start time in clock ticks since boot (field 22 of /proc/PID/stat) and the kernel's boot id together
 * name one process for ever.
 */

export interface ProcessIdentity {
  pid: number;
  /** As the kernel prints it; compared, never counted with. */
  startTicks: string;
  /** /proc/sys/kernel/random/boot_id: pids and ticks begin anew with each boot of the host. */
  hostBootId: string;
}

export interface ProcessStat {
  command: string;
  /** proc(5): R S D T t Z X … */
  state: string;
  startTicks: string;
}

/** proc(5), /proc/PID/stat. The command may hold spaces and parentheses; the last `)` ends it. */
export function parseStat(text: string): ProcessStat | undefined {
  const open = text.indexOf('(');
  const close = text.lastIndexOf(')');
  if (open < 0 || close < open) return undefined;
  // Field 3 is the first after the command.
  const fields = text
    .slice(close + 1)
    .trim()
    .split(/\s+/);
  const state = fields[0];
  const startTicks = fields[22 - 3];
  if (state === undefined || startTicks === undefined || !/^\d+$/.test(startTicks)) return undefined;
  return { command: text.slice(open + 1, close), state, startTicks };
}

/** A zombie has ended; only its parent has not looked yet. */
export function isAlive(stat: ProcessStat | undefined): boolean {
  return stat !== undefined && stat.state !== 'Z' && stat.state !== 'X';
}

export function emitIdentity(identity: ProcessIdentity): string {
  return `${identity.pid} ${identity.startTicks} ${identity.hostBootId}\n`;
}

export function parseIdentity(text: string): ProcessIdentity | undefined {
  const match = /^(\d{1,10}) (\d{1,20}) ([0-9a-f-]{36})\n?$/.exec(text);
  if (match === null) return undefined;
  const pid = Number(match[1]);
  return pid > 1 ? { pid, startTicks: match[2]!, hostBootId: match[3]! } : undefined;
}
