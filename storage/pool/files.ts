/**
 * Every file operation by which a pool changes, as one object, so that tests can record them, cut them short and let each of
 * them fail. Each is durable or not as its comment says; all throw what node or host/ throws.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import {
  MODE_DIRECTORY,
  MODE_FILE,
  O_CREAT,
  O_EXCL,
  O_NOFOLLOW,
  O_RDWR,
  allocateFile,
  closeFile,
  fsync,
  ftruncate,
  makeDirectory,
  openFile,
  renameDurably,
  replaceFile,
  syncDirectory,
} from './file.js';

export interface PoolFiles {
  exists(file: string): boolean;
  readAll(file: string): Uint8Array;
  open(file: string): number;
  close(fd: number): void;
  write(fd: number, bytes: Uint8Array, offset_bytes: number): void;
  truncate(fd: number, length_bytes: number): void;
  sync(fd: number): void;
  /** Blocks behind the end too, so that writing there meets no full disk. The length stays. */
  reserve(fd: number, offset_bytes: number, length_bytes: number): void;
  /** Whole or not at all, durable. */
  replace(file: string, text: string, suffix?: string): void;
  /** A small file, written over in place. Not durable, and not whole after a crash. */
  jot(file: string, text: string): void;
  /** With its parents, durable. */
  makeDirectory(directory: string): void;
  /** A new file of zeroes, so long, synced; its name is durable after `syncDirectory`. */
  makeFile(file: string, length_bytes: number, allocated: boolean): void;
  syncDirectory(directory: string): void;
  /** A second name for a file, durable. */
  link(file: string, second: string): void;
  /** Durable. */
  rename(from: string, to: string): void;
}

export const kernelFiles: PoolFiles = {
  exists: file => fs.existsSync(file),
  readAll: file => fs.readFileSync(file),
  open: file => openFile(file, O_RDWR | O_NOFOLLOW),
  close: fd => closeFile(fd),
  write: (fd, bytes, offset_bytes) => {
    for (let done = 0; done < bytes.length;)
      done += fs.writeSync(fd, bytes, done, bytes.length - done, offset_bytes + done);
  },
  truncate: (fd, length_bytes) => ftruncate(fd, length_bytes),
  sync: fd => fsync(fd),
  reserve: (fd, offset_bytes, length_bytes) => allocateFile(fd, offset_bytes, length_bytes, true),
  replace: (file, text) => replaceFile(file, text),
  jot: (file, text) => {
    const fd = openFile(file, O_RDWR | O_CREAT | O_NOFOLLOW, MODE_FILE);
    try {
      const bytes = Buffer.from(text);
      if (fs.writeSync(fd, bytes, 0, bytes.length, 0) === bytes.length) fs.ftruncateSync(fd, bytes.length);
    } finally {
      closeFile(fd);
    }
  },
  makeDirectory: directory => makeDirectory(directory),
  makeFile: (file, length_bytes, allocated) => {
    const fd = openFile(file, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, MODE_FILE);
    try {
      ftruncate(fd, length_bytes);
      if (allocated) allocateFile(fd, 0, length_bytes);
      fsync(fd);
    } finally {
      closeFile(fd);
    }
  },
  syncDirectory: directory => syncDirectory(directory),
  link: (file, second) => {
    fs.linkSync(file, second);
    syncDirectory(path.dirname(second));
  },
  rename: (from, to) => renameDurably(from, to),
};

/** A directory of ours alone, not durable yet. */
export function makeOwnDirectory(directory: string): void {
  fs.mkdirSync(directory, { mode: MODE_DIRECTORY });
}

export function namesIn(directory: string): string[] {
  return fs.existsSync(directory) ? fs.readdirSync(directory) : [];
}
