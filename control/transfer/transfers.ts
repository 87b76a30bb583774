/**
 * Bytes of volumes for programs beside weft: `weft volume import` and `export` run qemu-img, here is what they read and
 * write. A transfer is a lease of the storage plane (an NBD export on a Unix socket of our own user) and what makes it
 * all or nothing:
 *
 *   import, new       a volume import.ID            --commit-->  renamed                 --else--> destroyed
 *   import, over      a snapshot before-import.ID   --commit-->  snapshot deleted        --else--> rolled back to it
 *   import, device    (no snapshots there)          --commit-->  nothing to do           --else--> what was written stays
 *   export            a snapshot for-export.ID, unless one was named; deleted in the end
 *
 * A transfer lives as long as the client that asked for it holds its answer open (api/transferring.ts), so that a client
 * that is killed leaves nothing. What a weftd that is killed leaves is found by its label and taken away by the next one
 * (`tidy`), before that one begins any of its own; likewise what could not be taken away because the plane was not there. Lease
 * names are few and fixed for the same reason.
 */
import { z } from 'zod';
import type { StorageStatus, VolumeStatus as VolumeStatusType } from '../../storage/contract.js';
import { SnapshotStatus, VolumeStatus } from '../../storage/contract.js';
import type { PlaneClient } from '../supervise/http/process.js';
import { PlaneError } from '../supervise/errors.js';
import { TransferError } from './errors.js';

export const TRANSFERS_MAX = 16;
/** What the plane does at most while it makes or takes away a snapshot. */
const DEADLINE_MS = 60_000;
/** A name of the configuration has no dot: these meet none. */
const IMPORT_PREFIX = 'import.';
const SNAPSHOT_PREFIX = { import: 'before-import.', export: 'for-export.' } as const;
const LABEL = 'weft.transfer';

const Nothing = z.object({});
const Deleted = z.object({ deleted: z.literal(true) });
const Snapshots = z.object({ snapshots: z.array(SnapshotStatus) });

export interface Edges {
  client: PlaneClient;
  status(): Promise<StorageStatus>;
  /** Where the socket of a lease is to be. */
  socketPath(slot: number): string;
  newId(): string;
  note(message: string): void;
}

export interface Transfer {
  readonly id: string;
  readonly socketPath: string;
  readonly nbdName: string;
  readonly size_bytes: number;
  readonly isEmpty: boolean;
}

interface Open extends Transfer {
  readonly slot: number;
  readonly writes: boolean;
  readonly pool: string;
  readonly volume: string;
  /** How it ends well, and how it ends otherwise; the lease is gone by then. */
  commit(): Promise<void>;
  abort(): Promise<void>;
}

type Ending = Pick<Open, 'commit' | 'abort'>;

const at = (pool: string, volume: string, more = ''): string =>
  `/pools/${encodeURIComponent(pool)}/volumes/${encodeURIComponent(volume)}${more}`;
const leaseName = (slot: number): string => `transfer-${slot}`;
const nothing = async (): Promise<void> => {};

export class Transfers {
  readonly #edges: Edges;
  readonly #open = new Map<string, Open>();
  readonly #slots = new Set<number>();
  /** The volumes that are being written: one at a time. */
  readonly #busy = new Set<string>();
  /** Ids of those that are not over: what has their label is theirs. */
  readonly #live = new Set<string>();
  /** undefined: something may be left that has to be taken away. */
  #tidied: Promise<void> | undefined;

  constructor(edges: Edges) {
    this.#edges = edges;
  }

  get count(): number {
    return this.#open.size;
  }

  /**
   * Takes away what a weftd before this one has left, or what could not be taken away because the plane was not there. To
   * be called whenever the plane has come up.
   */
  tidy(): Promise<void> {
    if (this.#tidied !== undefined) return this.#tidied;
    const work = this.#tidy().catch((error: unknown) => {
      if (this.#tidied === work) this.#tidied = undefined;
      throw error;
    });
    this.#tidied = work;
    return work;
  }

  async import(
    pool: string,
    volume: string,
    { size_bytes, overwrite, mayMake }: { size_bytes: number; overwrite: boolean; mayMake: boolean },
  ): Promise<Transfer> {
    await this.tidy();
    return this.#begin(pool, volume, true, async (slot, id) => {
      const { there, kind } = await this.#look(pool, volume);
      if (there === undefined && !mayMake)
        throw new TransferError(
          'VOLUME_UNKNOWN',
          `volume ${pool}/${volume} is in the configuration, and weft has not made it yet: wait until it is ready`,
        );
      if (there === undefined) return this.#importNew(slot, id, { pool, volume, kind, size_bytes });
      if (!overwrite)
        throw new TransferError(
          'VOLUME_EXISTS',
          `volume ${pool}/${volume} is there already; --overwrite replaces what is in it`,
        );
      if (there.size_bytes < size_bytes)
        throw new TransferError(
          'VOLUME_TOO_SMALL',
          `volume ${pool}/${volume} has ${there.size_bytes} bytes, the image needs ${size_bytes}: make it larger first`,
        );
      return this.#importOver(slot, id, there, kind);
    });
  }

  async export(pool: string, volume: string, snapshot: string | undefined): Promise<Transfer> {
    await this.tidy();
    return this.#begin(pool, volume, false, async (slot, id) => {
      const { there, kind } = await this.#look(pool, volume);
      if (there === undefined)
        throw new TransferError('VOLUME_UNKNOWN', `there is no volume ${pool}/${volume}`);
      const named = there.snapshots?.find(({ name }) => name === snapshot);
      if (snapshot !== undefined) {
        const size_bytes = named?.size_bytes ?? there.size_bytes;
        return this.#lease(
          slot,
          id,
          { pool, volume, snapshot, size_bytes },
          { commit: nothing, abort: nothing },
        );
      }
      // Where there are no snapshots, the volume as it is read: quiet only if nobody writes.
      if (kind !== 'directory')
        return this.#lease(
          slot,
          id,
          { pool, volume, size_bytes: there.size_bytes },
          { commit: nothing, abort: nothing },
        );
      const own = await this.#snapshot(pool, volume, `${SNAPSHOT_PREFIX.export}${id}`, id);
      const drop = (): Promise<void> => this.#deleteSnapshot(pool, volume, own.name);
      return this.#lease(
        slot,
        id,
        { pool, volume, snapshot: own.name, size_bytes: own.size_bytes },
        { commit: drop, abort: drop },
      );
    });
  }

  /** Rejects when it could not be kept; then it is ended as if it had not been asked for. */
  async commit(id: string): Promise<void> {
    await this.#end(id, async transfer => {
      try {
        await transfer.commit();
      } catch (error) {
        await this.#quietly(transfer.abort());
        throw error;
      }
    });
  }

  /** Does nothing when it has ended already. */
  async abort(id: string): Promise<void> {
    if (this.#open.has(id)) await this.#end(id, transfer => transfer.abort());
  }

  async #begin(
    pool: string,
    volume: string,
    writes: boolean,
    make: (slot: number, id: string) => Promise<Omit<Open, 'slot'>>,
  ): Promise<Transfer> {
    const key = `${pool}/${volume}`;
    if (writes && this.#busy.has(key))
      throw new TransferError('VOLUME_IN_USE', `volume ${key} is being imported already`);
    const slot = Array.from({ length: TRANSFERS_MAX }, (_, i) => i).find(one => !this.#slots.has(one));
    if (slot === undefined)
      throw new TransferError(
        'TRANSFER_LIMIT',
        `${TRANSFERS_MAX} imports and exports go on already: wait until one has ended`,
      );
    const id = this.#edges.newId();
    this.#slots.add(slot);
    this.#live.add(id);
    if (writes) this.#busy.add(key);
    try {
      const open = { ...(await make(slot, id)), slot };
      this.#open.set(open.id, open);
      return open;
    } catch (error) {
      this.#slots.delete(slot);
      this.#live.delete(id);
      if (writes) this.#busy.delete(key);
      throw error;
    }
  }

  async #end(id: string, how: (transfer: Open) => Promise<void>): Promise<void> {
    const transfer = this.#open.get(id);
    if (transfer === undefined)
      throw new TransferError('TRANSFER_UNKNOWN', `there is no transfer ${id}, or it has ended`);
    this.#open.delete(id);
    try {
      await this.#endLease(transfer.slot);
      await how(transfer);
    } catch (error) {
      this.#tidied = undefined;
      throw error;
    } finally {
      this.#slots.delete(transfer.slot);
      this.#live.delete(id);
      if (transfer.writes) this.#busy.delete(`${transfer.pool}/${transfer.volume}`);
    }
  }

  async #look(pool: string, volume: string) {
    const { pools, volumes } = await this.#edges.status();
    const kind = pools.find(({ name }) => name === pool);
    if (kind === undefined) throw new TransferError('POOL_UNKNOWN', `there is no pool "${pool}"`);
    if (kind.state === 'error')
      throw new TransferError('POOL_ERROR', `pool "${pool}" cannot be used: ${kind.reason ?? ''}`);
    return {
      there: volumes.find(one => one.pool === pool && one.name === volume),
      kind: kind.kind ?? 'directory',
    };
  }

  async #importNew(
    slot: number,
    id: string,
    to: { pool: string; volume: string; kind: string; size_bytes: number },
  ): Promise<Omit<Open, 'slot'>> {
    const { pool, volume, kind, size_bytes } = to;
    if (kind !== 'directory')
      throw new TransferError(
        'VOLUME_UNKNOWN',
        `pool "${pool}" is of kind ${kind}: no volume can be made in it`,
      );
    const made = `${IMPORT_PREFIX}${id}`;
    const { client } = this.#edges;
    const body = { size_bytes, labels: { [LABEL]: id } };
    await client.call({
      method: 'PUT',
      path: at(pool, made),
      body,
      reply: VolumeStatus,
      deadline_ms: DEADLINE_MS,
    });
    return this.#lease(
      slot,
      id,
      { pool, volume: made, size_bytes, writable: true, isEmpty: true },
      {
        commit: async () => {
          const asked = { method: 'POST', reply: VolumeStatus, deadline_ms: DEADLINE_MS } as const;
          // The name decides; a label that stays behind after a crash does no harm.
          await client.call({ ...asked, path: at(pool, made, '/rename'), body: { to: volume } });
          const plain = { size_bytes, labels: {} };
          await this.#quietly(client.call({ ...asked, method: 'PUT', path: at(pool, volume), body: plain }));
        },
        abort: () => this.#destroy(pool, made),
      },
      volume,
    );
  }

  async #importOver(
    slot: number,
    id: string,
    there: VolumeStatusType,
    kind: string,
  ): Promise<Omit<Open, 'slot'>> {
    const { pool, name: volume, size_bytes } = there;
    const what = { pool, volume, size_bytes, writable: true };
    if (kind !== 'directory') return this.#lease(slot, id, what, { commit: nothing, abort: nothing });
    const before = await this.#snapshot(pool, volume, `${SNAPSHOT_PREFIX.import}${id}`, id);
    return this.#lease(slot, id, what, {
      commit: () => this.#deleteSnapshot(pool, volume, before.name),
      abort: () => this.#rollBack(pool, volume, before.name),
    });
  }

  /** When it cannot be had, what was made for it is taken back. `of`: the volume that it is about, by its name to be. */
  async #lease(
    slot: number,
    id: string,
    what: {
      pool: string;
      volume: string;
      size_bytes: number;
      snapshot?: string;
      writable?: boolean;
      isEmpty?: boolean;
    },
    ending: Ending,
    of = what.volume,
  ): Promise<Omit<Open, 'slot'>> {
    const { pool, volume, snapshot, size_bytes, writable = false, isEmpty = false } = what;
    const path = this.#edges.socketPath(slot);
    const body = { pool, volume, ...(snapshot === undefined ? {} : { snapshot }), readOnly: !writable, path };
    const nbdName = leaseName(slot);
    try {
      await this.#edges.client.call({
        method: 'PUT',
        path: `/leases/${nbdName}`,
        body,
        reply: Nothing,
        deadline_ms: DEADLINE_MS,
      });
    } catch (error) {
      await this.#quietly(ending.abort());
      throw error;
    }
    return {
      id,
      socketPath: path,
      nbdName,
      size_bytes,
      isEmpty,
      writes: writable,
      pool,
      volume: of,
      ...ending,
    };
  }

  async #endLease(slot: number): Promise<void> {
    const path = `/leases/${leaseName(slot)}`;
    try {
      await this.#edges.client.call({ method: 'DELETE', path, reply: Nothing, deadline_ms: DEADLINE_MS });
    } catch (error) {
      // The plane was restarted: it has no leases any more, and its clients are gone.
      if (!(error instanceof PlaneError) || error.status !== 404) throw error;
    }
  }

  async #snapshot(pool: string, volume: string, name: string, id: string): Promise<SnapshotStatus> {
    const { snapshots } = await this.#edges.client.call({
      method: 'POST',
      path: '/snapshots',
      body: { name, volumes: [{ pool, volume }], labels: { [LABEL]: id } },
      reply: Snapshots,
      deadline_ms: DEADLINE_MS,
    });
    const made = snapshots.find(one => one.name === name);
    if (made === undefined)
      throw new TransferError('SNAPSHOT_FAILED', `no snapshot of ${pool}/${volume} was made`);
    return made;
  }

  async #deleteSnapshot(pool: string, volume: string, snapshot: string): Promise<void> {
    const path = at(pool, volume, `/snapshots/${encodeURIComponent(snapshot)}`);
    await this.#edges.client.call({ method: 'DELETE', path, reply: Deleted, deadline_ms: DEADLINE_MS });
  }

  async #rollBack(pool: string, volume: string, snapshot: string): Promise<void> {
    await this.#edges.client.call({
      method: 'POST',
      path: at(pool, volume, '/rollback'),
      body: { snapshot },
      reply: VolumeStatus,
      deadline_ms: DEADLINE_MS,
    });
    await this.#deleteSnapshot(pool, volume, snapshot);
  }

  async #destroy(pool: string, volume: string): Promise<void> {
    const path = `${at(pool, volume)}?snapshots=true`;
    await this.#edges.client.call({ method: 'DELETE', path, reply: Deleted, deadline_ms: DEADLINE_MS });
  }

  /** For what comes after something that counts more; it is told in the log and found again by `tidy`. */
  async #quietly(work: Promise<unknown>): Promise<void> {
    await work.catch((error: unknown) => {
      this.#tidied = undefined;
      this.#edges.note(`tidying after a transfer: ${error instanceof Error ? error.message : String(error)}`);
    });
  }

  async #tidy(): Promise<void> {
    const { volumes } = await this.#edges.status();
    const isLeft = (id: string | undefined): boolean => id !== undefined && !this.#live.has(id);
    const left = volumes.flatMap(({ pool, name, snapshots = [] }) =>
      snapshots
        .filter(one => isLeft(one.labels[LABEL]))
        .filter(one => Object.values(SNAPSHOT_PREFIX).some(prefix => one.name.startsWith(prefix)))
        .map(one => ({ pool, volume: name, snapshot: one.name })),
    );
    const half = volumes.filter(
      ({ name, labels }) => name.startsWith(IMPORT_PREFIX) && isLeft(labels?.[LABEL]),
    );
    for (let slot = 0; slot < TRANSFERS_MAX; slot++) if (!this.#slots.has(slot)) await this.#endLease(slot);
    for (const { pool, name } of half) {
      this.#edges.note(`an import into pool ${pool} was broken off: what had come of it is destroyed`);
      await this.#quietly(this.#destroy(pool, name));
    }
    for (const { pool, volume, snapshot } of left)
      await this.#quietly(this.#takeBack(pool, volume, snapshot));
  }

  /** An export's snapshot is deleted; what an import has overwritten comes back. */
  async #takeBack(pool: string, volume: string, snapshot: string): Promise<void> {
    if (snapshot.startsWith(SNAPSHOT_PREFIX.export)) return this.#deleteSnapshot(pool, volume, snapshot);
    this.#edges.note(`an import over ${pool}/${volume} was broken off: it is what it was before`);
    await this.#rollBack(pool, volume, snapshot);
  }
}
