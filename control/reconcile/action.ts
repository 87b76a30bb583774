/**
 * What the reconciler can do, as plain values: plan.ts makes them, loop.ts carries them out, the tests' simulator
 * pretends to. Each belongs to one resource, or to a plane as a whole.
 */
import type { DataplaneConfig } from '../../dataplane/contract.js';
import type { StorageConfig, VolumeSpec } from '../../storage/contract.js';
import type { ImageSpec } from '../model/spec.js';
import type { Key } from '../model/resource.js';
import type { BootPlan } from '../vmm/host.js';
import type { DiskOf, FillFact, MachineFact, MoveFact } from './desired.js';

export type Action =
  | { type: 'configureDataplane'; config: DataplaneConfig }
  | { type: 'configureStorage'; config: StorageConfig }
  | { type: 'buildImage'; name: string; spec: ImageSpec }
  | { type: 'forgetImage'; name: string }
  /** `mark` is remembered before the volume is made. */
  | { type: 'putVolume'; pool: string; name: string; spec: VolumeSpec; mark: FillFact | undefined }
  | { type: 'fillVolume'; pool: string; name: string; image: string; imageSpec: ImageSpec }
  /** With its snapshots. */
  | { type: 'destroyVolume'; pool: string; name: string }
  | { type: 'snapshotVolume'; pool: string; name: string; snapshot: string; labels: Record<string, string> }
  | { type: 'deleteSnapshot'; pool: string; name: string; snapshot: string }
  /** Snapshots of a machine's disks with `undo: discard`, before it is started. */
  | { type: 'armDisks'; name: string; disks: DiskOf[] }
  /** Back to them, or not, after it has ended; then they go. */
  | { type: 'undoDisks'; name: string; disks: (DiskOf & { discard: boolean })[] }
  | { type: 'rememberMove'; name: string; fact: MoveFact | null }
  /** Its mirror is closed: hands it over, if both sides are the same. */
  | { type: 'cutMove'; pool: string; name: string; to: string }
  | { type: 'prepareMachine'; name: string }
  | { type: 'startMachine'; plan: BootPlan }
  /** By index: disks whose volumes have grown since QEMU looked. */
  | { type: 'growDisks'; name: string; sizes_bytes: ReadonlyMap<number, number> }
  | { type: 'stopMachine'; name: string; timeout_ms: number }
  | { type: 'killMachine'; name: string }
  | { type: 'forgetMachine'; name: string }
  | { type: 'rememberMachine'; name: string; fact: MachineFact }
  /** A deletion is complete. */
  | { type: 'unbury'; key: Key };

export type Verb = Action['type'];

/** One at a time, and its failures counted, under this name. */
export function actionId(action: Action): string {
  switch (action.type) {
    case 'configureDataplane':
    case 'configureStorage':
      return action.type;
    case 'startMachine':
      return idOf(action.type, action.plan.name);
    case 'putVolume':
    case 'fillVolume':
    case 'destroyVolume':
    case 'snapshotVolume':
      return idOf(action.type, `${action.pool}/${action.name}`);
    case 'deleteSnapshot':
      return idOf(action.type, `${action.pool}/${action.name}@${action.snapshot}`);
    case 'unbury':
      return idOf(action.type, action.key);
    default:
      return idOf(action.type, action.name);
  }
}

export function idOf(verb: Verb, name: string): string {
  return `${verb} ${name}`;
}
