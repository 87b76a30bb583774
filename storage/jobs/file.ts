/**
 * The jobs' edge to files: blocking calls for the jobs thread, in pieces that its tasks keep short. What fails throws a JobError
 * that says where. Files that are opened here are opened by node:fs, not by host/ as elsewhere: Node closes them, and with them
 * their locks go, when the thread dies. The fds of layers are the main thread's and never closed here.
 */
import * as crypto from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { O_DIRECT, O_RDONLY, flock } from '../../host/file.js';
import { calls } from './calls.js';
import { JobError, type JobErrorCode } from './errors.js';

export { bootId } from '../pool/file.js';

function failed(what: string, error: unknown, kind: JobErrorCode = 'JOB_IO'): JobError {
  const { code, message } = error as { code?: string; message?: string };
  const full = code === 'ENOSPC' || code === 'EDQUOT';
  const why = full ? 'the file system is full: make room and begin again' : (message ?? String(error));
  return new JobError(kind, `${what}: ${why}`, { cause: error });
}

/** `run`, with words for what it throws. */
function told<T>(what: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw failed(what, error);
  }
}

/** Of what was opened here. */
export function closeFile(fd: number): void {
  calls.close(fd);
}

/** Returns how much was read: less than all only at the end of the file. */
export function readAt(fd: number, into: Uint8Array, offset_bytes: number): number {
  return told(`reading ${into.length} bytes at ${offset_bytes}`, () => {
    let done = 0;
    while (done < into.length) {
      const n = calls.read(fd, into, done, offset_bytes + done);
      if (n === 0) break;
      done += n;
    }
    return done;
  });
}

/** What lies behind the end of the file reads as zeroes. */
export function readFilled(fd: number, into: Uint8Array, offset_bytes: number): void {
  const done = readAt(fd, into, offset_bytes);
  if (done < into.length) into.fill(0, done);
}

export function writeAt(fd: number, bytes: Uint8Array, offset_bytes: number): void {
  told(`writing ${bytes.length} bytes at ${offset_bytes}`, () => {
    for (let done = 0; done < bytes.length;) done += calls.write(fd, bytes, done, offset_bytes + done);
  });
}

/**
 * `bytes` are what `from` holds there. The kernel copies, sharing blocks where it can; where it cannot, they are written.
 */
export function copyAt(from: number, to: number, bytes: Uint8Array, offset_bytes: number): void {
  let done = 0;
  while (done < bytes.length) {
    const n = calls.copy(from, to, offset_bytes + done, bytes.length - done);
    if (n <= 0) break;
    done += n;
  }
  if (done < bytes.length) writeAt(to, bytes.subarray(done), offset_bytes + done);
}

/**
 * After an error (JOB_SYNC) what was written may be lost though it can be read: the job must not go on with this file, nor may
 * another go on where it was.
 */
export function syncData(fd: number): void {
  try {
    calls.sync(fd);
  } catch (error) {
    throw failed('fdatasync', error, 'JOB_SYNC');
  }
}

export function ftruncate(fd: number, length_bytes: number): void {
  told(`making a file ${length_bytes} bytes long`, () => calls.truncate(fd, length_bytes));
}

export function seekData(fd: number, offset_bytes: number): number {
  return told(`looking for data from ${offset_bytes} on`, () => calls.seekData(fd, offset_bytes));
}

export function seekHole(fd: number, offset_bytes: number): number {
  return told(`looking for a hole from ${offset_bytes} on`, () => calls.seekHole(fd, offset_bytes));
}

/** Zeroes, as a hole where the file system has such; else written out. */
export function zeroAt(fd: number, offset_bytes: number, length_bytes: number): void {
  const length = Math.min(length_bytes, sizeOf(fd) - offset_bytes);
  if (length <= 0) return;
  if (told(`zeroing ${length} bytes at ${offset_bytes}`, () => calls.punch(fd, offset_bytes, length))) return;
  const zeroes = new Uint8Array(Math.min(length, 1024 * 1024));
  for (let at = 0; at < length; at += zeroes.length)
    writeAt(fd, zeroes.subarray(0, Math.min(zeroes.length, length - at)), offset_bytes + at);
}

export function sizeOf(fd: number): number {
  return told('asking for the length of a file', () => calls.size(fd));
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
  return told(`opening ${file}`, () => calls.open(file));
}

export function openWritable(file: string): number {
  return told(`opening ${file}`, () => calls.openWritable(file));
}

export function createFile(file: string): number {
  return told(`making ${file}`, () => calls.create(file));
}

/** null: there is none. '' when it is longer than it may be, or no plain file. */
export function readText(file: string, limit_bytes: number): string | null {
  return told(`reading ${file}`, () => {
    const status = fs.lstatSync(file, { throwIfNoEntry: false });
    if (status === undefined) return null;
    if (!status.isFile() || status.size > limit_bytes) return '';
    return fs.readFileSync(file, 'utf8');
  });
}

/** Durable, but for its name. */
export function writeText(file: string, text: string): void {
  const fd = createFile(file);
  try {
    writeAt(fd, Buffer.from(text), 0);
    syncData(fd);
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
  told(`making the directory ${directory}`, () => {
    calls.makeDirectory(directory);
    calls.syncDirectory(path.dirname(directory));
  });
}

/** The names in it are durable. */
export function syncDirectory(directory: string): void {
  told(`fsync of ${directory}`, () => calls.syncDirectory(directory));
}

/** Replaces `to` atomically, durably; both are in one directory. */
export function renameDurably(from: string, to: string): void {
  told(`renaming ${from} to ${to}`, () => {
    calls.rename(from, to);
    calls.syncDirectory(path.dirname(to));
  });
}

/** Of files only; nothing is said where it is not there. */
export function removeDirectory(directory: string): void {
  if (!isDirectory(directory)) return;
  told(`removing ${directory}`, () => {
    for (const name of fs.readdirSync(directory)) calls.removeFile(path.join(directory, name));
    calls.removeDirectory(directory);
  });
}

export function removeFile(file: string): void {
  told(`removing ${file}`, () => calls.removeFile(file));
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
  const fd = told(`opening ${directory}`, () => calls.openDirectory(directory));
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
