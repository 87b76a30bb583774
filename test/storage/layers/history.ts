/**
 * What clients of a volume were told, so that what is found after a crash can be judged: of each sector every value it was
 * given, which of these had been acknowledged when a flush was asked for, and when that flush was answered. Moments are counts
 * of the disk's events.
 */
import { mapAnonymous } from '../../../host/memory.js';
import type { LayerOpening } from '../../../storage/volume/opening.js';
import type { LayeredVolume } from '../../../storage/layers/layeredVolume.js';
import type { Rig } from './rig.js';

export const BLOCK = 4096;
export const SECTOR = 512;
const PER_BLOCK = BLOCK / SECTOR;

export const memory = mapAnonymous(64 * BLOCK);
const probe = mapAnonymous(BLOCK);

interface Version {
  readonly value: number;
  readonly issuedAt: number;
  ackedAt: number;
}

interface Flush {
  /** Of each sector, the version that it promises at least. */
  readonly floors: ReadonlyMap<number, number>;
  readonly ackedAt: number;
}

interface Snapshot {
  /** The newest first: without what was put on top. */
  readonly layers: readonly LayerOpening[];
  readonly values: ReadonlyMap<number, number>;
  doneAt: number;
}

/** What can be done to a volume; blocks and sectors count from its beginning. */
export type Step =
  | { kind: 'write'; sector: number; count: number }
  | { kind: 'zero' | 'trim'; block: number; count: number }
  | { kind: 'flush' | 'snapshot' | 'idle' | 'reopen' | 'kill' };

export class History {
  readonly rig: Rig;
  /** Blocks that are looked at. */
  readonly blocks: readonly number[];
  readonly steps: string[] = [];
  readonly snapshots: Snapshot[] = [];
  #versions = new Map<number, Version[]>();
  #flushes: Flush[] = [];
  #chains: { at: number; layers: readonly LayerOpening[] }[];
  #nextValue = 1;
  #open = 0;
  #room = 0;
  #results: number[] = [];

  constructor(rig: Rig, blocks: readonly number[]) {
    this.rig = rig;
    this.blocks = blocks;
    this.#chains = [{ at: 0, layers: rig.layers }];
    for (const block of blocks)
      for (let i = 0; i < PER_BLOCK; i++)
        this.#versions.set(block * PER_BLOCK + i, [{ value: 0, issuedAt: -1, ackedAt: -1 }]);
  }

  get now(): number {
    return this.rig.disk.events.length;
  }

  /** What each sector was given last. */
  values(): Map<number, number> {
    const values = new Map<number, number>();
    for (const [sector, versions] of this.#versions) values.set(sector, versions.at(-1)!.value);
    return values;
  }

  layersAt(moment: number): readonly LayerOpening[] {
    return this.#chains.findLast(({ at }) => at <= moment)!.layers;
  }

  /** Begins it; several may be on their way when they touch different blocks. */
  begin(step: Step): void {
    this.steps.push(JSON.stringify(step));
    const { rig } = this;
    const { volume } = rig;
    switch (step.kind) {
      case 'write': {
        const value = this.#nextValue++;
        const at = this.#room;
        this.#room = (this.#room + step.count * SECTOR) % (32 * BLOCK);
        for (let i = 0; i < step.count; i++)
          memory.bytes
            .fill(0, at + i * SECTOR, at + (i + 1) * SECTOR)
            .set(valueBytes(value), at + i * SECTOR);
        const versions = this.#issue(step.sector, step.count, value);
        const length = step.count * SECTOR;
        const tried = volume.tryWrite(step.sector * SECTOR, length, memory, at);
        if (tried !== -11) return this.#ended(versions, tried);
        return this.#ask(versions, waiter =>
          volume.write(step.sector * SECTOR, length, memory, at, waiter, 0),
        );
      }
      case 'zero':
      case 'trim': {
        const versions = this.#issue(step.block * PER_BLOCK, step.count * PER_BLOCK, 0);
        const how = { mayUnmap: true, fastOnly: false };
        const [offset, length] = [step.block * BLOCK, step.count * BLOCK];
        return this.#ask(versions, waiter =>
          step.kind === 'zero'
            ? volume.zero(offset, length, how, waiter, 0)
            : volume.trim(offset, length, waiter, 0),
        );
      }
      case 'flush': {
        const floors = new Map<number, number>();
        for (const [sector, versions] of this.#versions)
          floors.set(
            sector,
            versions.findLastIndex(version => version.ackedAt < Infinity),
          );
        this.#open++;
        return volume.flush(
          {
            completed: (_token, result) => {
              this.#open--;
              this.#results.push(result);
              if (result === 0) this.#flushes.push({ floors, ackedAt: this.now });
            },
          },
          0,
        );
      }
      case 'snapshot': {
        this.#open++;
        const layers = rig.layers;
        rig.snapshot(
          () => {
            this.snapshots.push({ layers, values: this.values(), doneAt: Infinity });
          },
          result => {
            this.#open--;
            this.#results.push(result);
            if (result === 0) this.snapshots.at(-1)!.doneAt = this.now;
          },
        );
        this.#chains.push({ at: this.now, layers: rig.layers });
        return;
      }
      case 'idle':
        // Three times, so that what the first begins the others may end.
        for (let i = 0; i < 3; i++) {
          rig.now_ms += 60_000;
          volume.tick(rig.now_ms);
          rig.until(() => !volume.busy && rig.later.pending === 0, 'idle');
        }
        return;
      case 'kill':
        return rig.kill();
      case 'reopen':
        rig.shut();
        rig.open();
        return;
    }
  }

  /** All that was begun has ended; results that were not 0. */
  end(): number[] {
    this.rig.until(() => this.#open === 0, this.steps.join(' '));
    const failed = this.#results.filter(result => result !== 0);
    this.#results.length = 0;
    return failed;
  }

  run(step: Step): number[] {
    this.begin(step);
    return this.end();
  }

  /** What is wrong with a volume that was opened with what was left at `moment`; null: nothing. `kill`: only the process died. */
  judge(rig: Rig, moment: number, kill: boolean): string | null {
    const flush = this.#flushes.findLast(({ ackedAt }) => ackedAt <= moment);
    for (const block of this.blocks) {
      const result = readBlock(rig, rig.volume, block);
      if (result !== 0) return `block ${block} cannot be read: ${result} (${rig.volume.reason})`;
      for (let i = 0; i < PER_BLOCK; i++) {
        const sector = block * PER_BLOCK + i;
        const versions = this.#versions.get(sector)!;
        const floor = kill
          ? versions.findLastIndex(({ ackedAt }) => ackedAt <= moment)
          : (flush?.floors.get(sector) ?? 0);
        const found = valueAt(i * SECTOR);
        const may = versions.filter(({ issuedAt }, n) => n >= floor && (issuedAt <= moment || n === floor));
        if (!may.some(({ value }) => value === found))
          return `sector ${i} of block ${block} is ${found}, not one of ${may.map(({ value }) => value).join()}`;
      }
    }
    return rig.volume.state === 'ok' ? null : `it is ${rig.volume.state}: ${rig.volume.reason}`;
  }

  /** As judge, of a snapshot that is opened alone. */
  judgeSnapshot(rig: Rig, snapshot: Snapshot): string | null {
    for (const block of this.blocks) {
      const result = readBlock(rig, rig.volume, block);
      if (result !== 0)
        return `block ${block} of a snapshot cannot be read: ${result} (${rig.volume.reason})`;
      for (let i = 0; i < PER_BLOCK; i++) {
        const wanted = snapshot.values.get(block * PER_BLOCK + i);
        const found = valueAt(i * SECTOR);
        if (found !== wanted) return `sector ${i} of block ${block} of a snapshot is ${found}, not ${wanted}`;
      }
    }
    return null;
  }

  #issue(sector: number, count: number, value: number): Version[] {
    const versions: Version[] = [];
    for (let i = 0; i < count; i++) {
      const version = { value, issuedAt: this.now, ackedAt: Infinity };
      const known = this.#versions.get(sector + i);
      if (known === undefined) continue;
      known.push(version);
      versions.push(version);
    }
    return versions;
  }

  #ask(versions: Version[], ask: (waiter: { completed(token: number, result: number): void }) => void): void {
    this.#open++;
    ask({
      completed: (_token, result) => {
        this.#open--;
        this.#ended(versions, result);
      },
    });
  }

  #ended(versions: Version[], result: number): void {
    this.#results.push(result);
    // What failed may be there or not.
    if (result === 0) for (const version of versions) version.ackedAt = this.now;
  }
}

function valueBytes(value: number): Uint8Array {
  return new Uint8Array(new Uint32Array(SECTOR / 4).fill(value * 0x01010101).buffer);
}

/** -1: a mixture. */
function valueAt(at: number): number {
  const first = probe.bytes[at]!;
  for (let i = 0; i < SECTOR; i += 73) if (probe.bytes[at + i] !== first) return -1;
  return first;
}

/** Reads a block whole, and shows it; 0 or -errno. */
export function readBlock(
  rig: Rig,
  volume: LayeredVolume,
  block: number,
  show: (bytes: Uint8Array) => void = () => undefined,
): number {
  probe.bytes.fill(0xee);
  const tried = volume.tryRead(block * BLOCK, BLOCK, probe, 0);
  const result =
    tried !== -11
      ? tried
      : rig.wait((waiter, token) => volume.read(block * BLOCK, BLOCK, probe, 0, waiter, token));
  if (result === 0) show(probe.bytes);
  return result;
}
