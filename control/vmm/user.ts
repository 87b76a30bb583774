/**
 * Which user a guest's QEMU runs as when weftd is root. Each guest has a user and a group of its own, both of
 * one number, so that a guest that breaks out of its QEMU finds nothing of the others and nothing of weft.
 *
 * The numbers lie in 1900000000-1901048575, which distributions leave unassigned (systemd's UIDS-GIDS lists
 * 1879048192-2147483647 as unused), and have no entry in /etc/passwd. A number follows from the state directory
 * and the machine's name, so it is the same again after the run directory was removed; when another machine
 * has it already, the next free one is taken. The run directory's group is the record of what was given.
 */
import { createHash } from 'node:crypto';

export const FIRST_USER = 1_900_000_000;
export const USER_COUNT = 2 ** 20;
/** Never given to a machine: KVM is tried out as this one. */
export const PROBE_USER = FIRST_USER;

export function isGuestUser(id: number): boolean {
  return id > FIRST_USER && id < FIRST_USER + USER_COUNT;
}

export function chooseUser(stateKey: string, name: string, taken: ReadonlySet<number>): number {
  const digest = createHash('sha256').update(`${stateKey}\0${name}`).digest();
  const places = USER_COUNT - 1;
  const start = digest.readUInt32BE(0) % places;
  for (let turn = 0; turn < places; turn++) {
    const id = FIRST_USER + 1 + ((start + turn) % places);
    if (!taken.has(id)) return id;
  }
  throw new RangeError(`all ${places} users for guests are taken`);
}
