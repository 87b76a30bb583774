/**
 * Whether a mirror that is not open has the same on both sides, by its journal: what whoever takes one of its sides for the
 * volume from now on must know. Nothing is changed.
 */
import type { MirrorAtRest } from '../contract.js';
import type { Pool } from '../pool/pool.js';
import { JOURNAL_BYTES, parseJournal } from '../volume/mirrorJournal.js';

export function mirrorAtRest(first: Pool, second: Pool, name: string, isOpen: boolean): MirrorAtRest {
  const record = first.require(name);
  const reason = isOpen ? 'it is in use' : differenceOf(first, second, name);
  return { inSync: reason === null, reason, snapshotCount: first.view(record).snapshots.length };
}

/** In words; null: none is known of. */
function differenceOf(first: Pool, second: Pool, name: string): string | null {
  const [one, other] = [first.require(name), second.require(name)];
  const fault = first.fault(name) ?? second.fault(name);
  if (fault !== null) return fault;
  if (one.size_bytes !== other.size_bytes) return `they have ${one.size_bytes} and ${other.size_bytes} bytes`;
  const bytes = first.mirrors.readJournal(one.uuid);
  const journal = bytes.length < JOURNAL_BYTES ? 'new' : parseJournal(bytes);
  if (journal === 'new') return 'they were not mirrored yet';
  if (journal === 'damaged') return 'the journal of the mirror is damaged';
  if (journal.partner !== second.mirrors.nameOfSide(other.uuid)) return 'one of them was used by itself';
  if (journal.good !== 'both') return `only the ${journal.good} has all that was written`;
  const left = journal.marks.reduce((sum, byte) => sum + (byte === 0 ? 0 : 1), 0);
  return left === 0 ? null : `up to ${left * 8} regions of ${journal.region_bytes} bytes may differ`;
}
