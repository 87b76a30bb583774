/**
 * Volumes as the data thread holds them: put together from a VolumeOpening, changed while clients use them, and taken apart.
 *
 *   limits( encryption( mirror | layers | file | remote ) )
 *
 * A Held is what the loop keeps of a volume; what clients see is its `volume`.
 */
import { Xts } from '../../host/evp.js';
import type { Checksum } from '../checksum/checksum.js';
import { EncryptedVolume } from '../cipher/encryptedVolume.js';
import type { KernelIo } from '../layers/kernelIo.js';
import { LayeredVolume } from '../layers/layeredVolume.js';
import type { RegionBudget } from '../layers/regions.js';
import type { HeldVolume, LayersChange } from '../nbd/mail.js';
import type { LayersHow } from '../nbd/messages.js';
import { FileVolume } from '../pool/fileVolume.js';
import { AlignedVolume } from '../remote/aligned.js';
import { openRemote } from '../remote/loop.js';
import type { Later } from '../volume/later.js';
import { LimitedVolume, type Limits } from '../volume/limited.js';
import { MirrorVolume } from '../volume/mirror.js';
import type { MirrorLeg, MirrorStatus } from '../volume/mirrorParts.js';
import type { LayersOpening, MirrorOpening, SingleOpening, VolumeOpening } from '../volume/opening.js';
import type { Reactor } from '../volume/reactor.js';
import type { SlowIo } from '../volume/slowIo.js';
import { ERRNO, type Memory, type Volume, type VolumeState } from '../volume/volume.js';

export interface BuilderParts {
  readonly io: KernelIo;
  /** Of a mirror's journal, and its memory. */
  readonly slow: SlowIo;
  readonly allocate: (length_bytes: number) => Memory & { unmap(): void };
  readonly later: Later;
  readonly checksum: Checksum;
  readonly budget: RegionBudget;
  readonly now_ms: () => number;
  readonly limits: Limits;
  /** What is told of a volume changed. */
  readonly onState: (held: Built) => void;
}

/** A volume at the bottom: it has a state of its own, and may have work when nobody asks. */
interface Base extends Volume {
  readonly busy: boolean;
  grow(size_bytes: number): void;
  tick?(now_ms: number): void;
  shut?(done: (result: number) => void): void;
  close?(): void;
}

export class Built implements HeldVolume {
  readonly volumeId: number;
  volume!: Volume;
  limited!: LimitedVolume;
  encrypted: EncryptedVolume | null = null;
  /** The layers among it, if there are any; of a mirror those of its first side, and those of its second. */
  layered: LayeredVolume | null = null;
  second: LayeredVolume | null = null;
  bases: Base[] = [];
  mirror: MirrorVolume | null = null;
  /** It is that and nothing else. */
  remote: AlignedVolume | null = null;

  constructor(volumeId: number) {
    this.volumeId = volumeId;
  }

  get busy(): boolean {
    return this.limited.busy || this.encrypted?.busy === true || this.bases.some(base => base.busy);
  }

  get state(): VolumeState {
    return this.volume.state;
  }
  get reason(): string | null {
    return this.volume.reason;
  }
  get mirrorStatus(): MirrorStatus | null {
    return this.mirror?.mirrorStatus ?? null;
  }
  get checksumErrors(): number {
    return this.layered?.checksumErrors ?? 0;
  }

  grow(size_bytes: number): void {
    for (const base of this.bases) base.grow(size_bytes);
  }

  tick(now_ms: number): void {
    for (const base of this.bases) base.tick?.(now_ms);
  }

  shut(done: (result: number) => void): void {
    // What a client left behind that is gone.
    this.limited.lift();
    let left = this.bases.length;
    let worst = 0;
    const one = (result: number): void => {
      if (result < 0) worst = result;
      if (--left === 0) done(worst);
    };
    for (const base of this.bases) {
      if (base.shut !== undefined) base.shut(one);
      else base.flush({ completed: (_, result) => one(result) }, 0);
    }
  }

  close(): void {
    this.encrypted?.close();
    for (const base of this.bases) base.close?.();
  }
}

export class Builder {
  #parts: BuilderParts;

  constructor(parts: BuilderParts) {
    this.#parts = parts;
  }

  open(volumeId: number, opening: VolumeOpening, reactor: Reactor): Built {
    const built = new Built(volumeId);
    const base = this.#base(built, opening.base, reactor);
    // Always there, so that limits can come while clients are connected.
    const below = opening.encryptionKey === null ? base : this.#encrypted(built, base, opening.encryptionKey);
    built.limited = new LimitedVolume(below, this.#parts.limits, opening.limits, opening.throttled);
    built.volume = built.limited;
    return built;
  }

  #encrypted(built: Built, base: Volume, key: Uint8Array): EncryptedVolume {
    const { later, allocate } = this.#parts;
    built.encrypted = new EncryptedVolume(base, new Xts(key), later, allocate);
    // OpenSSL has it now; this copy came by message and is ours.
    key.fill(0);
    return built.encrypted;
  }

  #base(built: Built, base: VolumeOpening['base'], reactor: Reactor): Volume {
    const volume =
      base.kind === 'mirror' ? this.#mirror(built, base, reactor) : this.#make(built, base, reactor);
    built.bases.push(volume);
    if (volume instanceof AlignedVolume) built.remote = volume;
    return volume;
  }

  #mirror(built: Built, opening: MirrorOpening, reactor: Reactor): MirrorVolume {
    const { slow, allocate, later, now_ms } = this.#parts;
    const first: MirrorLeg = this.#make(built, opening.first, reactor);
    const second: MirrorLeg = this.#make(built, opening.second, reactor);
    if (second instanceof LayeredVolume) built.second = second;
    const { journalFd, partner } = opening;
    const onState = (): void => this.#parts.onState(built);
    const sides = { first, second, journalFd, partner };
    built.mirror = new MirrorVolume({ ...sides, io: slow, allocate, later, now_ms, onState });
    return built.mirror;
  }

  #make(built: Built, opening: SingleOpening, reactor: Reactor): Base {
    const { io, later, now_ms, checksum, budget } = this.#parts;
    const onState = (): void => this.#parts.onState(built);
    switch (opening.kind) {
      case 'file': {
        const { fd, size_bytes } = opening;
        return new FileVolume({ fd, size_bytes, slow: io, later, now_ms, onState });
      }
      case 'layers': {
        const volume = new LayeredVolume({ opening, io, later, checksum, budget, now_ms, onState });
        built.layered ??= volume;
        return volume;
      }
      case 'remote':
        return openRemote(opening, reactor, onState);
    }
  }
}

/** See `changeLayers` of nbd/messages.ts. What changes together is held still together. */
export function changeLayers(
  how: LayersHow,
  changes: readonly { held: Built; base: LayersOpening }[],
): LayersChange {
  const mirrors = changes.map(({ held }) => held.mirror);
  if (how === 'look') return answersOf(mirrors.map(mirror => () => mirror?.firstHasAll ?? 0));
  if (how === 'expect' || how === 'expectCut') {
    const what = how === 'expect' ? 'all' : 'cut';
    return answersOf(mirrors.map(mirror => () => mirror?.expectContent(what) ?? 0));
  }
  const ofSecond = how === 'secondSnapshot' || how === 'secondReplace';
  const change = {
    result: 0,
    over: () =>
      left === 0 && readers.every(ended => ended()) && !volumes.some(({ volume }) => volume.upkeep.isLeaving),
  };
  /** Volumes that are not still yet; then, layers that are not frozen yet, or volumes whose commits of before go on. */
  let left = changes.length;
  let readers: (() => boolean)[] = [];
  const volumes = changes.map(({ held, base }) => {
    const volume = ofSecond ? held.second : held.layered;
    if (volume === null) throw new Error(`volume ${held.volumeId} has no layers`);
    return { volume, base };
  });
  const frozen = (result: number): void => {
    if (result < 0) change.result = result;
    left--;
  };
  const exchange = (): void => {
    if (how === 'snapshot' || how === 'secondSnapshot') {
      left = volumes.length;
      for (const { volume, base } of volumes) volume.push(base, frozen);
    } else {
      readers = volumes.map(({ volume }) => volume.readersOfNow());
      // What of the old layers is on its way to the disk, is done with files that the sender may close then.
      left = volumes.length;
      for (const { volume } of volumes) volume.commits.after(() => left--);
      for (const { volume, base } of volumes) volume.replace(base);
    }
    for (const { volume } of volumes) volume.resume();
    if (how === 'content') for (const { held } of changes) held.mirror?.contentChanged();
  };
  for (const { volume } of volumes)
    volume.pause(() => {
      if (--left === 0) exchange();
    });
  return change;
}

/** Asked until nobody says -EAGAIN. */
function answersOf(asked: readonly (() => number)[]): LayersChange {
  const change = {
    result: 0,
    over: () => {
      const results = asked.map(ask => ask());
      change.result = results.find(result => result < 0) ?? 0;
      return change.result !== -ERRNO.EAGAIN;
    },
  };
  return change;
}
