/**
 * Layered volumes on the disk of disk.ts: made, changed as the desk would change them, and opened again after a crash.
 */
import { Checksum } from '../../../storage/checksum/checksum.js';
import { LayeredVolume } from '../../../storage/layers/layeredVolume.js';
import type { LayerIo } from '../../../storage/layers/io.js';
import { mapBytesOf } from '../../../storage/layers/map.js';
import { RegionBudget } from '../../../storage/layers/regions.js';
import { Later } from '../../../storage/volume/later.js';
import type { LayerOpening, LayersOpening } from '../../../storage/volume/opening.js';
import { Disk, type Image } from './disk.js';

export const sums = new Checksum();

export interface Shape {
  readonly size_bytes: number;
  readonly checksums: boolean;
  readonly preallocated?: boolean;
  readonly quotaLeft_bytes?: number;
}

/** One volume, and the catalogue that knows its layers: what is in `layers` is durable at once. */
export class Rig {
  readonly disk: Disk;
  later = new Later();
  readonly shape: Shape;
  /** The newest first. */
  layers: LayerOpening[] = [];
  volume!: LayeredVolume;
  now_ms = 0;
  /** Maps are never in the page cache, from the next open on. */
  coldMaps = false;
  /** Volumes of a thread share it. */
  budget = new RegionBudget();
  /** The disk, as this volume is allowed to see it. */
  io: LayerIo;

  constructor(disk: Disk, shape: Shape) {
    this.disk = disk;
    this.io = disk;
    this.shape = shape;
  }

  static make(seed: number, shape: Shape): Rig {
    const rig = new Rig(new Disk(seed), shape);
    rig.layers = [rig.newLayer(shape.size_bytes)];
    rig.open();
    return rig;
  }

  /** After a crash: with these files, of which the catalogue knows these layers. */
  static after(
    files: ReadonlyMap<number, Image>,
    layers: readonly LayerOpening[],
    shape: Shape,
    seed: number,
    boot: number,
    writable = true,
  ): Rig {
    const rig = new Rig(new Disk(seed), shape);
    rig.disk.bootId = new Uint8Array(16).fill(boot);
    for (const [fd, image] of files) rig.disk.add(fd, image.size, image);
    rig.layers = [...layers];
    rig.open(writable);
    return rig;
  }

  /** Another volume of the same thread, which is not open yet. */
  beside(layers: readonly LayerOpening[], io: LayerIo = this.disk): Rig {
    const rig = new Rig(this.disk, this.shape);
    rig.later = this.later;
    rig.budget = this.budget;
    rig.io = io;
    rig.layers = [...layers];
    return rig;
  }

  newLayer(size_bytes: number, inherits_bytes = size_bytes): LayerOpening {
    const dataFd = Math.max(9, ...this.disk.files.keys()) + 1;
    const mapFd = dataFd + 1;
    this.disk.add(dataFd, size_bytes);
    this.disk.add(mapFd, mapBytesOf(size_bytes));
    const { checksums } = this.shape;
    // Every other one has the sums of older layers.
    const sum = dataFd % 4 === 2 ? ('products' as const) : undefined;
    return { uuid: `layer${dataFd}`, dataFd, mapFd, size_bytes, inherits_bytes, checksums, sum };
  }

  /** The newest first. */
  get mapFds(): number[] {
    return this.layers.map(({ mapFd }) => mapFd);
  }

  opening(writable = true): LayersOpening {
    return {
      kind: 'layers',
      layers: this.layers,
      size_bytes: this.layers[0]!.size_bytes,
      writable,
      preallocated: this.shape.preallocated === true,
      quotaLeft_bytes: this.shape.quotaLeft_bytes ?? Infinity,
      checkpoints: [],
    };
  }

  open(writable = true): void {
    for (const { mapFd } of this.coldMaps ? this.layers : []) this.disk.neverCached.add(mapFd);
    this.volume = new LayeredVolume({
      opening: this.opening(writable),
      io: this.io,
      later: this.later,
      checksum: sums,
      budget: this.budget,
      now_ms: () => this.now_ms,
      onState: () => undefined,
    });
  }

  turn(): void {
    this.later.turn();
    this.disk.turn();
  }

  /** Turns until it holds. */
  until(over: () => boolean, what: string): void {
    for (let turns = 0; !over(); turns++) {
      if (turns > 20_000) throw new Error(`${what}: no end`);
      this.turn();
    }
  }

  /** The desk makes a new top, and has the data thread put it on. `taken` is called at the instant of the snapshot. */
  snapshot(taken: () => void = () => undefined, done: (result: number) => void = () => undefined): void {
    const { size_bytes } = this.volume;
    const top = this.newLayer(size_bytes);
    this.layers = [top, ...this.layers];
    this.volume.pause(() => {
      taken();
      this.volume.push(this.opening(), done);
      this.volume.resume();
    });
  }

  grow(size_bytes: number): void {
    const [top, ...rest] = this.layers;
    this.disk.lengthen(top!.dataFd, size_bytes);
    this.disk.lengthen(top!.mapFd, mapBytesOf(size_bytes));
    this.layers = [
      { ...top!, size_bytes, inherits_bytes: Math.max(top!.inherits_bytes, top!.inherits_bytes) },
      ...rest,
    ];
    this.volume.grow(size_bytes);
  }

  flush(): number {
    return this.wait((waiter, token) => this.volume.flush(waiter, token));
  }

  /** The process dies between two operations, and another opens the volume on the same machine. */
  kill(): void {
    this.disk.drop();
    this.later = new Later();
    this.budget = new RegionBudget();
    this.open();
  }

  /** Clean close. */
  shut(): number {
    let result = 1;
    this.volume.shut(r => (result = r));
    this.until(() => result !== 1, 'shut');
    return result;
  }

  wait(ask: (waiter: { completed(token: number, result: number): void }, token: number) => void): number {
    let result = 1;
    ask({ completed: (_token, r) => void (result = r) }, 0);
    this.until(() => result !== 1, 'an answer');
    return result;
  }
}
