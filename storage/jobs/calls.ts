/**
 * The system calls by which jobs change files, read them and make them durable: file.ts makes words of their errors, nothing else
 * in this room calls them. They are in one table so that a test can put another in its place, which records them (to cut a job
 * off at any of them) or has one of them fail. Each throws an error with the `code` of its errno.
 */
import * as fs from 'node:fs';
import { copyFileRange } from '../../host/copyRange.js';
import { ftruncate, punchHole, seekData, seekHole, syncDirectory } from '../../host/file.js';

export interface FileCalls {
  /** How much was read, 0 at the end. */
  read(fd: number, into: Uint8Array, at: number, offset_bytes: number): number;
  write(fd: number, bytes: Uint8Array, at: number, offset_bytes: number): number;
  /** Bytes, or -errno: then they have to be written. */
  copy(from: number, to: number, offset_bytes: number, length_bytes: number): number;
  /** The first byte from `offset_bytes` on that is data, or in a hole (the end is one); negative: there is none. */
  seekData(fd: number, offset_bytes: number): number;
  seekHole(fd: number, offset_bytes: number): number;
  size(fd: number): number;
  /** False: the file system has no holes. */
  punch(fd: number, offset_bytes: number, length_bytes: number): boolean;
  truncate(fd: number, length_bytes: number): void;
  /** After an error what was written may be lost though it can be read. */
  sync(fd: number): void;
  /** A new file, read and written by its owner. */
  create(file: string): number;
  open(file: string): number;
  /** One that is there. */
  openWritable(file: string): number;
  openDirectory(directory: string): number;
  close(fd: number): void;
  makeDirectory(directory: string): void;
  rename(from: string, to: string): void;
  removeFile(file: string): void;
  /** An empty one. */
  removeDirectory(directory: string): void;
  syncDirectory(directory: string): void;
}

const { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_RDONLY, O_RDWR } = fs.constants;

export const kernelCalls: FileCalls = {
  read: (fd, into, at, offset_bytes) => fs.readSync(fd, into, at, into.length - at, offset_bytes),
  write: (fd, bytes, at, offset_bytes) => fs.writeSync(fd, bytes, at, bytes.length - at, offset_bytes),
  copy: copyFileRange,
  seekData,
  seekHole,
  size: fd => fs.fstatSync(fd).size,
  punch: punchHole,
  truncate: ftruncate,
  sync: fd => fs.fdatasyncSync(fd),
  create: file => fs.openSync(file, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600),
  open: file => fs.openSync(file, O_RDONLY | O_NOFOLLOW),
  openWritable: file => fs.openSync(file, O_RDWR | O_NOFOLLOW),
  openDirectory: directory => fs.openSync(directory, O_RDONLY | O_DIRECTORY),
  close: fd => fs.closeSync(fd),
  makeDirectory: directory => fs.mkdirSync(directory, { mode: 0o700 }),
  rename: (from, to) => fs.renameSync(from, to),
  removeFile: file => fs.unlinkSync(file),
  removeDirectory: directory => fs.rmdirSync(directory),
  syncDirectory,
};

/** Those that are used. */
export let calls: FileCalls = kernelCalls;

/** For tests. */
export function useCalls(others: FileCalls): void {
  calls = others;
}
