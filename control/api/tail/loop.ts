/**
 * The end of a log, and what is added to it: polled, since a file may be replaced by a new one (a plane's log when
 * it has grown too long) and inotify would go on watching the old.
 */
import * as fs from 'node:fs/promises';

/** Of a log's end, so much is looked through for the lines asked for. */
export const TAIL_MAX_BYTES = 8 * 2 ** 20;
const PIECE_BYTES = 64 * 1024;
const POLL_MS = 200;

/** Offset of the first of the last `lines` lines; of the first byte looked at when there are fewer. */
export function startOfLast(bytes: Uint8Array, lines: number): number {
  if (lines === 0) return bytes.length;
  let found = 0;
  // The newline at the very end closes the last line, it does not begin one.
  for (let at = bytes.length - 2; at >= 0; at--) if (bytes[at] === 0x0a && ++found === lines) return at + 1;
  return 0;
}

async function startOffset(
  file: fs.FileHandle,
  size_bytes: number,
  lines: number | undefined,
): Promise<number> {
  const from = Math.max(0, size_bytes - TAIL_MAX_BYTES);
  if (lines === undefined) return from;
  const bytes = Buffer.alloc(size_bytes - from);
  const { bytesRead } = await file.read(bytes, 0, bytes.length, from);
  return from + startOfLast(bytes.subarray(0, bytesRead), lines);
}

function pause(signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, POLL_MS);
    signal.addEventListener('abort', done);
  });
}

async function opened(path: string): Promise<fs.FileHandle | undefined> {
  try {
    return await fs.open(path, 'r');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Pieces of the log; a log that is not there yet is empty. With `follow` it ends by `signal` only. */
export async function* tail(
  path: string,
  lines: number | undefined,
  follow: boolean,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  let file = await opened(path);
  let offset = 0;
  try {
    if (file !== undefined) {
      const { size } = await file.stat();
      offset = await startOffset(file, size, lines);
    }
    for (;;) {
      const piece = Buffer.alloc(PIECE_BYTES);
      const bytesRead = file === undefined ? 0 : (await file.read(piece, 0, piece.length, offset)).bytesRead;
      if (bytesRead > 0) {
        offset += bytesRead;
        yield piece.subarray(0, bytesRead);
        continue;
      }
      if (!follow || signal.aborted) return;
      await pause(signal);
      if (await wasReplaced(path, file, offset)) {
        await file?.close();
        file = await opened(path);
        offset = 0;
      }
    }
  } finally {
    await file?.close();
  }
}

async function wasReplaced(path: string, file: fs.FileHandle | undefined, offset: number): Promise<boolean> {
  const now = await fs.stat(path).catch(() => undefined);
  if (now === undefined) return false;
  if (file === undefined) return true;
  const ours = await file.stat();
  return now.ino !== ours.ino || now.dev !== ours.dev || now.size < offset;
}
