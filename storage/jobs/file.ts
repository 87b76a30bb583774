/**
 * The jobs' edge to files: blocking calls for the jobs thread, in pieces that its tasks keep short. What fails throws a JobError
 * that says where. Files that are opened here are opened by node:fs, not by host/ as elsewhere: Node closes them, and with them
 * their locks go, when the thread dies. The fds of layers are the main thread's and never closed here.
 */
import * as crypto from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { copyFileRange } from '../../host/copyRange.js';
import {
  O_CREAT,
  O_DIRECT,
  O_DIRECTORY,
  O_EXCL,
  O_NOFOLLOW,
  O_RDONLY,
  O_RDWR,
  flock,
  ftruncate,
  punchHole,
  renameDurably,
  seekData,
  seekHole,
  syncDirectory,
} from '../../host/file.js';
import { JobError } from './errors.js';

export { bootId } from '../pool/file.js';
export { ftruncate, renameDurably, seekData, seekHole, syncDirectory };

/** Of what was opened here. */
export function closeFile(fd: number): void {
  fs.closeSync(fd);
}

function failed(what: string, error: unknown): JobError {
  const { code, message } = error as { code?: string; message?: string };
  const why =
    code === 'ENOSPC' ? 'the file system is full: make room and begin again' : (message ?? String(error));
  return new JobError('JOB_IO', `${what}: ${why}`, { cause: error });
}

/** Returns how much was read: less than all only at the end of the file. */
export function readAt(fd: number, into: Uint8Array, offset_bytes: number): number {
  let done = 0;
  try {
    while (done < into.length) {
      const n = fs.readSync(fd, into, done, into.length - done, offset_bytes + done);
      if (n === 0) break;
      done += n;
    }
  } catch (error) {
    throw failed(`reading ${into.length} bytes at ${offset_bytes}`, error);
  }
  return done;
}

/** What lies behind the end of the file reads as zeroes. */
export function readFilled(fd: number, into: Uint8Array, offset_bytes: number): void {
  const done = readAt(fd, into, offset_bytes);
  if (done < into.length) into.fill(0, done);
}

export function writeAt(fd: number, bytes: Uint8Array, offset_bytes: number): void {
  try {
    for (let done = 0; done < bytes.length;)
      done += fs.writeSync(fd, bytes, done, bytes.length - done, offset_bytes + done);
  } catch (error) {
    throw failed(`writing ${bytes.length} bytes at ${offset_bytes}`, error);
  }
}

/**
 * `bytes` are what `from` holds there. The kernel copies, sharing blocks where it can; where it cannot, they are written.
 */
export function copyAt(from: number, to: number, bytes: Uint8Array, offset_bytes: number): void {
  let done = 0;
  while (done < bytes.length) {
    const n = copyFileRange(from, to, offset_bytes + done, bytes.length - done);
    if (n <= 0) break;
    done += n;
  }
  if (done < bytes.length) writeAt(to, bytes.subarray(done), offset_bytes + done);
}

/** After an error what was written may be lost though it can be read: the job must not go on with this file. */
export function syncData(fd: number): void {
  try {
    fs.fdatasyncSync(fd);
  } catch (error) {
    throw failed('fdatasync', error);
  }
}

/** Zeroes, as a hole where the file system has such; else written out. */
export function zeroAt(fd: number, offset_bytes: number, length_bytes: number): void {
  const { size } = fs.fstatSync(fd);
  const length = Math.min(length_bytes, size - offset_bytes);
  if (length <= 0) return;
  try {
    if (punchHole(fd, offset_bytes, length)) return;
  } catch (error) {
    throw failed(`zeroing ${length} bytes at ${offset_bytes}`, error);
  }
  const zeroes = new Uint8Array(Math.min(length, 1024 * 1024));
  for (let at = 0; at < length; at += zeroes.length)
    writeAt(fd, zeroes.subarray(0, Math.min(zeroes.length, length - at)), offset_bytes + at);
}

export function sizeOf(fd: number): number {
  return fs.fstatSync(fd).size;
}

/** The same file, read past the page cache; -1 where the file system has no such thing. The caller closes it. */
export function reopenDirect(fd: number): number {
  try {
    return fs.openSync(`/proc/self/fd/${fd}`, O_RDONLY | O_DIRECT);
  } catch {
    return -1;
  }
}

export function openRead(file: string): number {
  try {
    return fs.openSync(file, O_RDONLY | O_NOFOLLOW);
  } catch (error) {
    throw failed(`opening ${file}`, error);
  }
}

export function createFile(file: string): number {
  try {
    return fs.openSync(file, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  } catch (error) {
    throw failed(`making ${file}`, error);
  }
}

/** null: there is none. '' when it is longer than it may be, or no plain file. */
export function readText(file: string, limit_bytes: number): string | null {
  const status = fs.lstatSync(file, { throwIfNoEntry: false });
  if (status === undefined) return null;
  if (!status.isFile() || status.size > limit_bytes) return '';
  try {
    return fs.readFileSync(file, 'utf8');
  } catch (error) {
    throw failed(`reading ${file}`, error);
  }
}

export function writeText(file: string, text: string): void {
  const fd = createFile(file);
  try {
    writeAt(fd, Buffer.from(text), 0);
    fs.fsyncSync(fd);
  } finally {
    closeFile(fd);
  }
}

/** Names of the directories in a directory; none when it is not there. */
export function directoriesIn(directory: string): string[] {
  try {
    return fs
      .readdirSync(directory, { withFileTypes: true })
      .filter(entry => entry.isDirectory())
      .map(entry => entry.name)
      .sort();
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return [];
    throw failed(`reading the directory ${directory}`, error);
  }
}

export function isDirectory(directory: string): boolean {
  return fs.lstatSync(directory, { throwIfNoEntry: false })?.isDirectory() === true;
}

export function makeDirectory(directory: string): void {
  try {
    fs.mkdirSync(directory, { mode: 0o700 });
    syncDirectory(path.dirname(directory));
  } catch (error) {
    throw failed(`making the directory ${directory}`, error);
  }
}

/** With what is in it; nothing is said where it is not there. */
export function removeDirectory(directory: string): void {
  fs.rmSync(directory, { recursive: true, force: true });
}

export function exists(name: string): boolean {
  return fs.lstatSync(name, { throwIfNoEntry: false }) !== undefined;
}

export function sha256(bytes: Uint8Array | string): string {
  return crypto.createHash('sha256').update(bytes).digest('hex');
}

export function newUuid(): string {
  return crypto.randomUUID();
}

/** Nobody else gets it until the returned function was called; throws JOB_IO when somebody has it. */
export function lockDirectory(directory: string): () => void {
  const fd = fs.openSync(directory, O_RDONLY | O_DIRECTORY);
  try {
    flock(fd, true, directory);
  } catch (error) {
    closeFile(fd);
    throw failed(`locking ${directory}`, error);
  }
  return () => closeFile(fd);
}

/** SHA-256 of several pieces, one after the other. */
export function newHash(): { update(bytes: Uint8Array): void; hex(): string } {
  const hash = crypto.createHash('sha256');
  return { update: bytes => void hash.update(bytes), hex: () => hash.digest('hex') };
}
