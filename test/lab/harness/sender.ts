/** Sends frames out of an interface in a namespace, by send-frames.ts in a process of its own. */
import { fileURLToPath } from 'node:url';
import { toHex } from './frames.js';
import type { Namespace } from './network.js';
import type { RunningProgram } from './processes.js';

const PROGRAM = fileURLToPath(new URL('./send-frames.js', import.meta.url));

export interface SenderCounts {
  readonly accepted: number;
  /** The interface had no room for these. */
  readonly refused: number;
  readonly seconds: number;
}

/** Each once and in order, and no more than `rate_pps` in a second. */
export async function sendFrames(
  where: Namespace,
  ifname: string,
  frames: readonly Uint8Array[],
  rate_pps?: number,
): Promise<SenderCounts> {
  const input = frames.map(frame => `${toHex(frame)}\n`).join('');
  const { stdout } = await where.run(
    [process.execPath, PROGRAM, ifname, ...(rate_pps === undefined ? [] : ['--rate', String(rate_pps)])],
    { input },
  );
  return JSON.parse(stdout) as SenderCounts;
}

/** The same frames over and over, as fast as the kernel takes them; it ends by itself. */
export function startFlood(
  where: Namespace,
  ifname: string,
  frames: readonly Uint8Array[],
  seconds: number,
): RunningProgram {
  const program = where.start([process.execPath, PROGRAM, ifname, '--for', String(seconds)]);
  program.child.stdin?.end(frames.map(frame => `${toHex(frame)}\n`).join(''));
  return program;
}

export async function floodCounts(program: RunningProgram): Promise<SenderCounts> {
  const { status, stdout, stderr } = await program.ended;
  if (status !== 0) throw new Error(`the sender of frames failed: ${stderr}`);
  return JSON.parse(stdout) as SenderCounts;
}
