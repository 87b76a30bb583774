/**
 * Disks with `undo: discard`: what a guest wrote since its start is thrown away when it has ended.
 *
 *   start    armDisks: a snapshot of all of them at one instant, remembered as `armed`
 *            startMachine: remembered as `ran`, then QEMU
 *   the end  undoDisks: back to the snapshot, the snapshot removed, nothing remembered
 *
 * Each step is remembered before the next and harmless when done twice, so weftd may die anywhere: `ran` without a
 * guest that lives is gone back on, `armed` is as it was, and a snapshot without a word on it is of an attempt that
 * came to nothing. What counts for keeping or discarding is the spec at the end, not at the start.
 */
import type { SpecOf } from '../model/spec.js';
import { keyOf } from '../model/resource.js';
import { idOf } from './action.js';
import type { DiskOf } from './desired.js';
import { bad } from './report.js';
import type { Report, Verdict } from './report.js';
import { isPoolOpen } from './storagePlane.js';
import type { Turn } from './turn.js';

type Spec = SpecOf['machine'];
type Outcome = Partial<Report> & { ready: Verdict };

export const UNDO_LABEL = 'weft.undo';

/** A machine's name has no dot, and nobody else's snapshot is called so. */
export function undoSnapshotName(machine: string): string {
  return `undo.${machine}`;
}

function disksToArm(turn: Turn, spec: Spec): DiskOf[] {
  return spec.disks
    .filter(({ undo }) => undo === 'discard')
    .map(({ volume }) => ({ pool: turn.at.desired.specs.volume.get(volume)?.pool ?? '', volume }));
}

/** Before a start, when its disks are served: what is still to be done for them; undefined when nothing is. */
export function armDisks(turn: Turn, name: string, spec: Spec): Outcome | undefined {
  const fact = turn.at.desired.undoFacts.get(name);
  const disks = disksToArm(turn, spec);
  if (fact !== undefined && JSON.stringify(fact.disks) !== JSON.stringify(disks))
    return goBack(turn, name, spec);
  if (fact !== undefined || disks.length === 0) return undefined;
  const [ready, lastError] = turn.acting(
    { type: 'armDisks', name, disks },
    turn.generation(keyOf('machine', name)),
    ['Starting', 'SnapshotFailed'],
    'a snapshot of its disks is made, to go back to at power-off',
  );
  return { ready, lastError };
}

/** Of a machine that is not there: whether its disks are still to be put back. `willStart`: it is about to. */
export function undoDisks(turn: Turn, name: string, spec: Spec, willStart: boolean): Outcome | undefined {
  const fact = turn.at.desired.undoFacts.get(name);
  if (fact === undefined || turn.at.attempts.isRunning(idOf('startMachine', name))) return undefined;
  if (fact.state === 'armed' && willStart) return undefined;
  return goBack(turn, name, spec);
}

function goBack(turn: Turn, name: string, spec: Spec): Outcome {
  const disks = turn.at.desired.undoFacts.get(name)?.disks ?? [];
  const { storage, storageReason } = turn.at.observed;
  const closed = disks.find(({ pool }) => !isPoolOpen(turn.at.observed, pool));
  if (storage === null || closed !== undefined) {
    const why = storage === null ? storageReason : `pool "${closed?.pool}" is not open`;
    return { ready: bad('Discarding', `the changes of its disks are to be thrown away: ${why}`) };
  }
  const kept = new Set(spec.disks.filter(({ undo }) => undo === 'keep').map(({ volume }) => volume));
  const [ready, lastError] = turn.acting(
    { type: 'undoDisks', name, disks: disks.map(disk => ({ ...disk, discard: !kept.has(disk.volume) })) },
    turn.generation(keyOf('machine', name)),
    ['Discarding', 'DiscardFailed'],
    'the changes of its disks are thrown away',
  );
  return { ready, lastError };
}
