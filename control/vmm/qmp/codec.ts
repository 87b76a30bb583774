/**
 * QMP's wire form: one JSON object per line, CR LF at the end from QEMU, LF accepted. Pure.
 * Words and shapes are those of QEMU's docs/interop/qmp-spec.
 *
 *   -> {"QMP": {"version": …, "capabilities": ["oob"]}}                 greeting
 *   <- {"execute": "query-status", "arguments": {…}, "id": 7}           command (exec-oob: out of band)
 *   -> {"return": {…}, "id": 7}     {"error": {"class": …, "desc": …}, "id": 7}
 *   -> {"event": "STOP", "data": {…}, "timestamp": {…}}
 */

/** Longer than any reply we ask for (query-qmp-schema has about 200 kB); a QEMU that sends more is broken. */
export const MAX_LINE_BYTES = 4 * 2 ** 20;

export type QmpMessage =
  | { kind: 'greeting'; capabilities: readonly string[]; version: string }
  | { kind: 'return'; id: number | null; value: unknown }
  | { kind: 'error'; id: number | null; class: string; desc: string }
  | { kind: 'event'; event: string; data: Readonly<Record<string, unknown>> }
  /** Not JSON, or not of a shape we know. */
  | { kind: 'invalid' };

export interface QmpCommand {
  execute: string;
  arguments?: Readonly<Record<string, unknown>>;
  id: number;
  /** Out of band: answered even when QEMU's main loop stands still; few commands can. */
  oob?: boolean;
}

export function emitCommand(command: QmpCommand): string {
  const { execute, id } = command;
  const name = command.oob === true ? { 'exec-oob': execute } : { execute };
  const rest = command.arguments === undefined ? {} : { arguments: command.arguments };
  return `${JSON.stringify({ ...name, ...rest, id })}\n`;
}

export function parseMessage(line: string): QmpMessage {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return { kind: 'invalid' };
  }
  if (!isRecord(value)) return { kind: 'invalid' };
  const id = typeof value['id'] === 'number' ? value['id'] : null;
  if ('return' in value) return { kind: 'return', id, value: value['return'] };
  const error = value['error'];
  if (isRecord(error) && typeof error['class'] === 'string' && typeof error['desc'] === 'string')
    return { kind: 'error', id, class: error['class'], desc: error['desc'] };
  if (typeof value['event'] === 'string')
    return { kind: 'event', event: value['event'], data: isRecord(value['data']) ? value['data'] : {} };
  const greeting = value['QMP'];
  if (isRecord(greeting) && Array.isArray(greeting['capabilities']))
    return {
      kind: 'greeting',
      capabilities: greeting['capabilities'].filter(one => typeof one === 'string'),
      version: versionOf(greeting['version']),
    };
  return { kind: 'invalid' };
}

function versionOf(version: unknown): string {
  const qemu = isRecord(version) ? version['qemu'] : undefined;
  if (!isRecord(qemu)) return 'unknown';
  return [qemu['major'], qemu['minor'], qemu['micro']].map(Number).join('.');
}

export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Cuts what arrives into lines. Bytes of an unfinished line are kept, up to MAX_LINE_BYTES. */
export class LineCutter {
  #parts: Uint8Array[] = [];
  #length = 0;
  readonly #limit_bytes: number;
  /** A line was too long: nothing that follows can be trusted, the connection has to go. */
  overflowed = false;

  constructor(limit_bytes = MAX_LINE_BYTES) {
    this.#limit_bytes = limit_bytes;
  }

  push(chunk: Uint8Array): string[] {
    const lines: string[] = [];
    let at = 0;
    while (at < chunk.length && !this.overflowed) {
      const end = chunk.indexOf(0x0a, at);
      const part = chunk.subarray(at, end < 0 ? chunk.length : end);
      this.#length += part.length;
      if (this.#length > this.#limit_bytes) {
        this.overflowed = true;
        this.#parts = [];
        break;
      }
      if (end < 0) {
        // Copied: the caller may use its buffer again.
        this.#parts.push(part.slice());
        break;
      }
      const line = new TextDecoder().decode(Buffer.concat([...this.#parts, part])).trim();
      if (line !== '') lines.push(line);
      this.#parts = [];
      this.#length = 0;
      at = end + 1;
    }
    return lines;
  }
}
