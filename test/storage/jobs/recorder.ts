/**
 * The calls of jobs/calls.ts, carried out on real files and recorded, each of which may be made to fail; and what a power cut,
 * or the end of the process, may leave of all that after any of them, as real files again.
 *
 * The rules of what a cut leaves are those of the disk of ../layers/disk.ts, page by page. A file's length is a page of a file
 * beside it, and all that a directory lists is one page too, of an index into `#listings`: so what was not synced of either may be
 * lost, also when the file's content is not, and names come and go in the order in which they did.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { seekData } from '../../../host/file.js';
import { kernelCalls, type FileCalls } from '../../../storage/jobs/calls.js';
import type { LayerOpening } from '../../../storage/volume/opening.js';
import { Disk, PAGE, type Image } from '../layers/disk.js';
import type { Catalogue, Rig } from './rig.js';

type Listing = ReadonlyMap<string, { readonly id: number; readonly isDirectory: boolean }>;

const CONTENT = 0;
const LENGTH = 1;
const NAMES = 2;
const KINDS = 3;
const of = (id: number, kind: number): number => id * KINDS + kind;

const wordOf = (value: number): Uint8Array => {
  const page = new Uint8Array(8);
  new DataView(page.buffer).setFloat64(0, value);
  return page;
};
const valueOf = (image: Image | undefined): number => {
  const page = image?.pages.get(0);
  return page === undefined ? 0 : new DataView(page.buffer, page.byteOffset).getFloat64(0);
};

export class Recorder {
  readonly disk = new Disk(1);
  /** What changed, for each moment that the catalogue did. */
  readonly catalogues: { readonly at: number; readonly catalogue: Catalogue }[] = [];
  /** Calls so far that may fail. */
  callCount = 0;
  /** The job began after so many events. */
  beganAt = 0;
  /** The code of what call `number` throws. */
  fail: (number: number, what: string) => string | null = () => null;
  #rig: Rig;
  #root: string;
  #nextId = 1;
  #layers = new Map<string, { data: number; map: number }>();
  #byInode = new Map<number, number>();
  #directories = new Map<string, number>();
  #listings: Listing[] = [new Map()];

  constructor(rig: Rig) {
    this.#rig = rig;
    this.#root = rig.directory;
    for (const { opening } of rig.layers.values()) this.#addLayer(opening);
    this.#directories.set(this.#root, this.#newDirectory());
    rig.onLayer = opening => this.#addLayer(opening);
    rig.onCommit = () => this.#note();
    this.#note();
  }

  get moments(): number {
    return this.disk.events.length;
  }

  /** What was there before is durable, the catalogue too. */
  begin(): void {
    this.beganAt = this.moments;
    this.callCount = 0;
    this.catalogues.length = 0;
    this.#note();
  }

  /** What is done from now on is not recorded, and nothing fails. */
  end(): void {
    this.fail = () => null;
    this.#rig.onLayer = () => undefined;
    this.#rig.onCommit = () => undefined;
  }

  readonly calls: FileCalls = {
    ...kernelCalls,
    read: (fd, into, at, offset) => this.#call('read', () => kernelCalls.read(fd, into, at, offset)),
    write: (fd, bytes, at, offset) =>
      this.#call('write', () => {
        const n = kernelCalls.write(fd, bytes, at, offset);
        this.#wrote(fd, bytes.subarray(at, at + n), offset);
        return n;
      }),
    copy: (from, to, offset, length) =>
      this.#call('copy', () => {
        const n = kernelCalls.copy(from, to, offset, length);
        if (n <= 0) return n;
        const bytes = new Uint8Array(n);
        fs.readSync(to, bytes, 0, n, offset);
        this.#wrote(to, bytes, offset);
        return n;
      }),
    punch: (fd, offset, length) =>
      this.#call('punch', () => {
        const done = kernelCalls.punch(fd, offset, length);
        if (done) this.disk.punch(of(this.#idOf(fd), CONTENT), offset, length);
        return done;
      }),
    truncate: (fd, length) =>
      this.#call('truncate', () => {
        const id = this.#idOf(fd);
        const before = valueOf(this.disk.files.get(of(id, LENGTH)));
        kernelCalls.truncate(fd, length);
        const from = Math.ceil(length / PAGE) * PAGE;
        if (before > from) this.disk.punch(of(id, CONTENT), from, Math.ceil((before - from) / PAGE) * PAGE);
        this.disk.put(of(id, LENGTH), wordOf(length), 0);
      }),
    sync: fd =>
      this.#call('sync', () => {
        kernelCalls.sync(fd);
        const id = this.#idOf(fd);
        this.#synced(of(id, CONTENT), of(id, LENGTH));
      }),
    create: file =>
      this.#call('create', () => {
        const fd = kernelCalls.create(file);
        const id = this.#newFile(0);
        this.#byInode.set(fs.fstatSync(fd).ino, id);
        this.#list(path.dirname(file), names => names.set(path.basename(file), { id, isDirectory: false }));
        return fd;
      }),
    open: file => this.#call('open', () => kernelCalls.open(file)),
    openWritable: file => this.#call('open', () => kernelCalls.openWritable(file)),
    makeDirectory: directory =>
      this.#call('makeDirectory', () => {
        kernelCalls.makeDirectory(directory);
        const id = this.#newDirectory();
        this.#directories.set(directory, id);
        this.#list(path.dirname(directory), names =>
          names.set(path.basename(directory), { id, isDirectory: true }),
        );
      }),
    rename: (from, to) =>
      this.#call('rename', () => {
        kernelCalls.rename(from, to);
        const id = this.#directories.get(from);
        if (id !== undefined) this.#directories.set(to, id);
        this.#directories.delete(from);
        this.#list(path.dirname(from), names => {
          names.set(path.basename(to), names.get(path.basename(from))!);
          names.delete(path.basename(from));
        });
      }),
    removeFile: file =>
      this.#call('removeFile', () => {
        kernelCalls.removeFile(file);
        this.#list(path.dirname(file), names => names.delete(path.basename(file)));
      }),
    removeDirectory: directory =>
      this.#call('removeDirectory', () => {
        kernelCalls.removeDirectory(directory);
        this.#directories.delete(directory);
        this.#list(path.dirname(directory), names => names.delete(path.basename(directory)));
      }),
    syncDirectory: directory =>
      this.#call('syncDirectory', () => {
        kernelCalls.syncDirectory(directory);
        const id = this.#directories.get(directory);
        if (id !== undefined) this.#synced(of(id, NAMES));
      }),
  };

  /** As the catalogue may be after so many events: the last that was answered, and one whose answer is due at this very moment. */
  cataloguesAt(moment: number): Catalogue[] {
    const until = this.catalogues.filter(({ at }) => at <= moment);
    const before = until.filter(({ at }) => at < moment).at(-1);
    return [...new Set([before, ...until.filter(({ at }) => at === moment)])]
      .filter(one => one !== undefined)
      .map(({ catalogue }) => catalogue);
  }

  /** Everything as a cut may leave it, made in an empty directory. */
  put(files: ReadonlyMap<number, Image>, catalogue: Catalogue, directory: string): void {
    for (const uuid of catalogue.layers.keys()) {
      const { data, map } = this.#layers.get(uuid)!;
      const room = path.join(directory, 'layers', uuid);
      fs.mkdirSync(room, { recursive: true });
      putFile(files, data, path.join(room, 'data'));
      if (map > 0) putFile(files, map, path.join(room, 'map'));
    }
    this.#putNames(files, this.#directories.get(this.#root)!, directory);
  }

  #putNames(files: ReadonlyMap<number, Image>, id: number, directory: string): void {
    for (const [name, one] of this.#listings[valueOf(files.get(of(id, NAMES)))]!) {
      const at = path.join(directory, name);
      if (!one.isDirectory) putFile(files, one.id, at);
      else {
        fs.mkdirSync(at);
        this.#putNames(files, one.id, at);
      }
    }
  }

  #call<T>(what: string, run: () => T): T {
    const code = this.fail(this.callCount++, what);
    if (code === null) return run();
    if (what === 'copy') return -5 as T;
    throw Object.assign(new Error(`${code}: so it was wanted`), { code });
  }

  #note(): void {
    this.catalogues.push({ at: this.moments, catalogue: this.#rig.catalogue() });
  }

  #wrote(fd: number, bytes: Uint8Array, offset: number): void {
    const id = this.#idOf(fd);
    this.disk.put(of(id, CONTENT), bytes, offset);
    const length = of(id, LENGTH);
    if (offset + bytes.length > valueOf(this.disk.files.get(length)))
      this.disk.put(length, wordOf(offset + bytes.length), 0);
  }

  #synced(...ids: number[]): void {
    for (const synced of ids) {
      const { events } = this.disk;
      events.push({ puts: [], synced, since: events.length });
    }
  }

  #idOf(fd: number): number {
    return this.#byInode.get(fs.fstatSync(fd).ino)!;
  }

  #newFile(length: number): number {
    const id = this.#nextId++;
    this.disk.add(of(id, CONTENT), 0);
    this.disk.add(of(id, LENGTH), PAGE, { size: PAGE, pages: new Map([[0, pageOf(length)]]) });
    return id;
  }

  #newDirectory(): number {
    const id = this.#nextId++;
    this.disk.add(of(id, NAMES), PAGE);
    return id;
  }

  #list(directory: string, change: (names: Map<string, { id: number; isDirectory: boolean }>) => void): void {
    const file = of(this.#directories.get(directory)!, NAMES);
    const names = new Map(this.#listings[valueOf(this.disk.files.get(file))]);
    change(names);
    this.#listings.push(names);
    this.disk.put(file, wordOf(this.#listings.length - 1), 0);
  }

  /** What it has is durable. */
  #addLayer({ uuid, dataFd, mapFd }: LayerOpening): void {
    const add = (fd: number): number => {
      const { size, ino } = fs.fstatSync(fd);
      const id = this.#newFile(size);
      const pages = new Map<number, Uint8Array>();
      for (let at = seekData(fd, 0); at >= 0; at = seekData(fd, at + PAGE)) {
        const page = Math.floor(at / PAGE);
        const bytes = new Uint8Array(PAGE);
        fs.readSync(fd, bytes, 0, PAGE, page * PAGE);
        if (bytes.some(byte => byte !== 0)) pages.set(page, bytes);
      }
      this.disk.add(of(id, CONTENT), 0, { size: 0, pages });
      this.#byInode.set(ino, id);
      return id;
    };
    this.#layers.set(uuid, { data: add(dataFd), map: mapFd < 0 ? 0 : add(mapFd) });
  }
}

function pageOf(value: number): Uint8Array {
  const page = new Uint8Array(PAGE);
  page.set(wordOf(value));
  return page;
}

function putFile(files: ReadonlyMap<number, Image>, id: number, name: string): void {
  const size = valueOf(files.get(of(id, LENGTH)));
  const fd = fs.openSync(name, 'w');
  fs.ftruncateSync(fd, size);
  for (const [page, bytes] of files.get(of(id, CONTENT))!.pages)
    if (page * PAGE < size) fs.writeSync(fd, bytes, 0, Math.min(PAGE, size - page * PAGE), page * PAGE);
  fs.closeSync(fd);
}
