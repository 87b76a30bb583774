/**
 * A volume above another one, which is the same but for what its subclass says: `ask` for the calls that answer later
 * (asked.ts), and the quick ones by name. Where bytes below are not those above (encryption), `sendableFrom` must say -1.
 */
import { AskedVolume, handOn, type AskedKind } from './asked.js';
import type { BlockMeta, ExtentList, Memory, Volume, VolumeState, Waiter, ZeroHow } from './volume.js';

export abstract class WrapperVolume<Below extends Volume = Volume> extends AskedVolume {
  readonly below: Below;

  constructor(below: Below) {
    super();
    this.below = below;
  }

  get size_bytes(): number {
    return this.below.size_bytes;
  }
  get state(): VolumeState {
    return this.below.state;
  }
  get reason(): string | null {
    return this.below.reason;
  }
  get meta(): BlockMeta | null {
    return this.below.meta ?? null;
  }

  tryRead(offset: number, length: number, memory: Memory, at: number): number {
    return this.below.tryRead(offset, length, memory, at);
  }
  tryWrite(offset: number, length: number, memory: Memory, at: number): number {
    return this.below.tryWrite(offset, length, memory, at);
  }
  extents(offset: number, length: number, into: ExtentList): number {
    return this.below.extents(offset, length, into);
  }
  override sendableFrom(offset: number, length: number): number {
    return this.below.sendableFrom(offset, length);
  }
  override sendFailed(): void {
    this.below.sendFailed();
  }

  protected ask(
    kind: AskedKind,
    offset: number,
    length: number,
    memory: Memory | null,
    at: number,
    how: ZeroHow | null,
    waiter: Waiter,
    token: number,
  ): void {
    handOn(this.below, kind, offset, length, memory, at, how, waiter, token);
  }
}
