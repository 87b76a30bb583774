/**
 * The guests' run directories on disk: STATE/run/machines/NAME. As root such a directory belongs to
 * root with the guest's own group, mode 1770: QEMU can make its sockets and its serial log in it, but, the
 * sticky bit says, cannot remove or replace what is ours (plan.json, pid, qemu.log, a disk's socket). What a
 * QEMU that was broken into can replace are its own files, so we never follow a symbolic link here.
 * As an ordinary user it is simply ours, mode 0700.
 *
 * Calls are synchronous: files are small, calls are rare, and nothing can come between two of them.
 */
import * as fs from 'node:fs';
import { dirname, join } from 'node:path';
import { VmmError } from '../errors.js';
import { emitIdentity, parseIdentity, type ProcessIdentity } from '../identity.js';
import { parseRecord, type BootRecord } from '../record.js';
import { chooseUser, isGuestUser } from '../user.js';

const { O_NOFOLLOW, O_RDONLY, O_RDWR, O_WRONLY, O_CREAT, O_EXCL, O_APPEND, O_NONBLOCK } = fs.constants;

export interface Owner {
  uid: number;
  gid: number;
}

/** What QEMU and the guest can make grow; beyond it the file moves to NAME.1, and begins again. */
export const MAX_LOG_BYTES = 4 * 2 ** 20;
const MAX_RECORD_BYTES = 2 ** 20;

export class RunDirectories {
  readonly root: string;
  /** Whether guests get users of their own. */
  readonly isolated: boolean;
  #owners = new Map<string, Owner | null>();

  constructor(root: string, isolated: boolean) {
    this.root = root;
    this.isolated = isolated;
  }

  path(name: string, file = ''): string {
    return file === '' ? join(this.root, name) : join(this.root, name, file);
  }

  /** Names of the directories that are there. */
  names(): string[] {
    try {
      return fs
        .readdirSync(this.root, { withFileTypes: true })
        .filter(entry => entry.isDirectory())
        .map(entry => entry.name);
    } catch (error) {
      if (isCode(error, 'ENOENT')) return [];
      throw error;
    }
  }

  /** Make it, or see that it is as it must be. The same again is no change. */
  prepare(name: string): void {
    if (this.#owners.has(name) && fs.existsSync(this.path(name))) return;
    const directory = this.path(name);
    try {
      fs.mkdirSync(this.root, { recursive: true, mode: 0o700 });
      if (this.isolated) {
        for (const passed of [dirname(this.root), this.root]) fs.chmodSync(passed, 0o711);
        this.#mustBePassable();
      }
      try {
        fs.mkdirSync(directory, { mode: 0o700 });
      } catch (error) {
        if (!isCode(error, 'EEXIST')) throw error;
      }
      this.#owners.set(name, this.#settleOwner(name, directory));
    } catch (error) {
      if (error instanceof VmmError) throw error;
      const words = error instanceof Error ? error.message : String(error);
      throw new VmmError('VMM_DIRECTORY', `machine ${name}: cannot make its run directory: ${words}`, {
        cause: error,
      });
    }
  }

  /** Throws VMM_UNKNOWN before `prepare`. */
  owner(name: string): Owner | null {
    const owner = this.#owners.get(name);
    if (owner === undefined) throw new VmmError('VMM_UNKNOWN', `machine ${name} has not been prepared`);
    return owner;
  }

  remove(name: string): void {
    fs.rmSync(this.path(name), { recursive: true, force: true });
    this.#owners.delete(name);
  }

  /** Sockets of an earlier QEMU would only be mistaken for those of the next. */
  removeFiles(paths: readonly string[]): void {
    for (const path of paths) fs.rmSync(path, { force: true });
  }

  readRecord(name: string): BootRecord | undefined {
    const text = this.#readOwn(this.path(name, 'plan.json'));
    return text === undefined ? undefined : parseRecord(text);
  }

  writeRecord(name: string, record: BootRecord): void {
    this.#replace(this.path(name, 'plan.json'), `${JSON.stringify(record, null, 2)}\n`);
  }

  readIdentity(name: string): ProcessIdentity | undefined {
    const text = this.#readOwn(this.path(name, 'pid'));
    return text === undefined ? undefined : parseIdentity(text);
  }

  writeIdentity(name: string, identity: ProcessIdentity): void {
    this.#replace(this.path(name, 'pid'), emitIdentity(identity));
  }

  removeIdentity(name: string): void {
    fs.rmSync(this.path(name, 'pid'), { force: true });
  }

  /** For QEMU's standard output and error. */
  openLog(path: string): number {
    this.#keepOld(path);
    return fs.openSync(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW, 0o600);
  }

  closeLog(fd: number): void {
    fs.closeSync(fd);
  }

  /** The log of the boot before stays as NAME.1. */
  keepOldLog(path: string): void {
    this.#keepOld(path);
  }

  /** When a log has grown too large: copy it to NAME.1 and cut it. Its writer appends, and goes on at the start. */
  boundLog(path: string): void {
    let fd;
    try {
      fd = fs.openSync(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK);
    } catch {
      return;
    }
    try {
      const stat = fs.fstatSync(fd);
      if (!stat.isFile() || stat.size <= MAX_LOG_BYTES) return;
      const kept = Buffer.alloc(MAX_LOG_BYTES);
      const length = fs.readSync(fd, kept, 0, kept.length, stat.size - kept.length);
      const old = `${path}.1`;
      fs.rmSync(old, { force: true });
      fs.writeFileSync(old, kept.subarray(0, length), { flag: 'wx', mode: 0o600 });
      fs.ftruncateSync(fd, 0);
    } finally {
      fs.closeSync(fd);
    }
  }

  /** The last bytes of a log, as text; empty when there is none. */
  tail(path: string, length_bytes: number): string {
    let fd;
    try {
      fd = fs.openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    } catch {
      return '';
    }
    try {
      const stat = fs.fstatSync(fd);
      if (!stat.isFile()) return '';
      const bytes = Buffer.alloc(Math.min(stat.size, length_bytes));
      const length = fs.readSync(fd, bytes, 0, bytes.length, stat.size - bytes.length);
      return bytes.toString('utf8', 0, length);
    } finally {
      fs.closeSync(fd);
    }
  }

  #settleOwner(name: string, directory: string): Owner | null {
    const stat = fs.lstatSync(directory);
    if (!stat.isDirectory())
      throw new VmmError('VMM_DIRECTORY', `${directory} is not a directory; remove it`);
    const self = process.getuid?.() ?? 0;
    if (stat.uid !== self)
      throw new VmmError(
        'VMM_DIRECTORY',
        `${directory} belongs to user ${stat.uid}, not to ${self}: another weftd's state? Use another state directory, or remove it`,
      );
    if (!this.isolated) {
      fs.chmodSync(directory, 0o700);
      return null;
    }
    let id = stat.gid;
    if (!isGuestUser(id)) {
      const others = this.names().filter(other => other !== name);
      const taken = new Set(others.map(other => fs.lstatSync(this.path(other)).gid));
      id = chooseUser(this.root, name, taken);
      fs.lchownSync(directory, self, id);
    }
    fs.chmodSync(directory, 0o1770);
    return { uid: id, gid: id };
  }

  /** A guest's user must be able to walk to its own directory. */
  #mustBePassable(): void {
    for (let at = dirname(this.root); at !== dirname(at); at = dirname(at)) {
      const stat = fs.statSync(at);
      if ((stat.mode & 0o001) !== 0) continue;
      throw new VmmError(
        'VMM_DIRECTORY',
        `${at} (mode ${(stat.mode & 0o7777).toString(8).padStart(4, '0')}) lets no other user pass, and guests ` +
          `run as users of their own: \`chmod o+x ${at}\`, or use a state directory elsewhere`,
      );
    }
  }

  /** A file that only we can have written. */
  #readOwn(path: string): string | undefined {
    let fd;
    try {
      fd = fs.openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    } catch {
      return undefined;
    }
    try {
      const stat = fs.fstatSync(fd);
      const isOurs = stat.isFile() && stat.uid === process.getuid?.() && stat.size <= MAX_RECORD_BYTES;
      return isOurs ? fs.readFileSync(fd, 'utf8') : undefined;
    } finally {
      fs.closeSync(fd);
    }
  }

  /** Whole or not at all. */
  #replace(path: string, text: string): void {
    const next = `${path}.next`;
    fs.rmSync(next, { force: true });
    const fd = fs.openSync(next, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    try {
      fs.writeFileSync(fd, text);
    } finally {
      fs.closeSync(fd);
    }
    fs.renameSync(next, path);
  }

  #keepOld(path: string): void {
    try {
      fs.renameSync(path, `${path}.1`);
    } catch (error) {
      if (!isCode(error, 'ENOENT')) throw error;
    }
  }
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
