/**
 * weftd put together from its edges: store, planes, guests, images, loop, API. main.ts gives the real ones; tests
 * give doubles. Here is the order of things: what is running is taken over before anything is planned.
 */
import { randomBytes } from 'node:crypto';
import {
  Applied as DataplaneApplied,
  DataplaneEvent,
  DataplaneStatus,
  Health as DataplaneHealth,
} from '../dataplane/contract.js';
import type { DataplaneConfig } from '../dataplane/contract.js';
import {
  Applied as StorageApplied,
  Health as StorageHealth,
  StorageEvent,
  StorageStatus,
} from '../storage/contract.js';
import type { JobStatus, StorageConfig } from '../storage/contract.js';
import type { Doctor, ShutdownRequest } from './api/contract.js';
import type { System } from './api/system.js';
import type { Clock } from './clock.js';
import type { ImageHost } from './image/host.js';
import type { Layout } from './model/layout.js';
import { isAlive } from './reconcile/observed.js';
import { keyOf } from './model/resource.js';
import type { Specs } from './model/resource.js';
import { Reconciler } from './reconcile/loop.js';
import { MachineVerbs } from './reconcile/verbs.js';
import { EverythingEnds } from './shutdown.js';
import { Journal } from './store/journal.js';
import { Keeper } from './store/keeper.js';
import type { Store } from './store/store.js';
import { Plane } from './supervise/process.js';
import type { PlaneInfo, PlaneListener, PlaneSpec } from './supervise/process.js';
import { storageEdge } from './supervise/storageEdge.js';
import { Transfers } from './transfer/transfers.js';
import type { GuestHost, ObservedGuest } from './vmm/host.js';

export interface Parts {
  version: string;
  pid: number;
  layout: Layout;
  clock: Clock;
  store: Store;
  guests: GuestHost;
  images: ImageHost;
  /** Arguments of node for each plane. */
  programs: { dataplane: readonly string[]; storage: readonly string[] };
  doctor(specs: Specs): Promise<Doctor>;
  figures(): { residentMemory_bytes: number; cpu_s: number };
  log: System['log'] & { warn(fields: object, message: string): void };
  /** weftd itself is to end, after the answer has left. */
  onEnd(): void;
}

type DataplanePlane = Plane<DataplaneConfig, DataplaneApplied, DataplaneStatus, DataplaneEvent>;
type StoragePlane = Plane<StorageConfig, StorageApplied, StorageStatus, StorageEvent>;

const MOVES_EVERY_MS = 10_000;

/** `spanningTree.rootChanged` -> `SpanningTreeRootChanged`. */
function reasonOf(what: string): string {
  return what.replace(/(?:^|[^A-Za-z0-9]+)([A-Za-z0-9])/g, (_, first: string) => first.toUpperCase());
}
export class Weftd {
  readonly system: System;
  readonly #parts: Parts;
  readonly #keeper: Keeper;
  readonly #journal: Journal;
  readonly #dataplane: DataplanePlane;
  readonly #storage: StoragePlane;
  readonly #reconciler: Reconciler;
  readonly #ends: EverythingEnds;
  readonly #transfers: Transfers;
  readonly #moves = new Map<string, { at_ms: number; more: number }>();

  private constructor(parts: Parts, keeper: Keeper, journal: Journal) {
    this.#parts = parts;
    this.#keeper = keeper;
    this.#journal = journal;
    const { guests, images, layout, clock } = parts;
    this.#dataplane = this.#makeDataplane();
    this.#storage = this.#makeStorage();
    this.#reconciler = new Reconciler({
      keeper,
      journal,
      guests,
      images,
      layout,
      clock,
      dataplane: this.#dataplane,
      storage: storageEdge(this.#storage),
      onError: (error, doing) => {
        // An edge's own refusal says all in its words; anything else is a mistake of ours, to be found.
        const known = error instanceof Error && 'code' in error;
        const fields = known ? { doing, code: error.code } : { doing, err: error };
        parts.log.warn(fields, `${doing} failed: ${error instanceof Error ? error.message : String(error)}`);
      },
    });
    this.#ends = new EverythingEnds({
      guests,
      clock,
      holdReconciler: () => this.#reconciler.pause(),
      stopPlanes: async () => {
        await Promise.all([this.#dataplane.stop(), this.#storage.stop()]);
      },
      note: (level, name, reason, message) => journal.add({ level, kind: 'machine', name, reason, message }),
    });
    this.#transfers = new Transfers({
      client: this.#storage.client,
      status: () => this.#storage.status(),
      // Beside the sockets by which volumes are filled from images; no volume is called so.
      socketPath: slot => `${layout.run}/fill/.${slot}.sock`,
      newId: () => randomBytes(4).toString('hex'),
      note: message => {
        journal.add({ level: 'warning', kind: 'weftd', name: '', reason: 'Transfer', message });
      },
    });
    this.system = {
      version: parts.version,
      pid: parts.pid,
      layout,
      clock,
      keeper,
      journal,
      reconciler: this.#reconciler,
      verbs: new MachineVerbs(keeper, guests, this.#reconciler, clock),
      guests,
      images,
      dataplane: this.#dataplane,
      storage: this.#storage,
      transfers: this.#transfers,
      doctor: () => parts.doctor(keeper.desired.specs),
      shutdown: request => this.#shutdown(request),
      figures: () => parts.figures(),
      log: parts.log,
    };
  }

  static async open(parts: Parts): Promise<Weftd> {
    const contents = await parts.store.read();
    const now = (): string => new Date(parts.clock.now_ms()).toISOString();
    const journal = new Journal(parts.store, contents.events, now, error =>
      parts.log.error({ err: error }, 'events could not be written'),
    );
    const made: { weftd?: Weftd } = {};
    const keeper = new Keeper(
      parts.store,
      contents,
      {
        layout: parts.layout,
        volumeSizes() {
          const seen = made.weftd?.system.reconciler.observed?.storage?.volumes;
          return new Map([...(seen ?? [])].map(([key, { size_bytes }]) => [key, size_bytes]));
        },
        activeMachines: () =>
          new Set(
            parts.guests
              .list()
              .filter(isAlive)
              .map(({ name }) => name),
          ),
        endedBoot(name) {
          const guest = guestOf(parts.guests, name);
          return guest === undefined || isAlive(guest) ? null : guest.bootId;
        },
      },
      now,
    );
    const weftd = new Weftd(parts, keeper, journal);
    made.weftd = weftd;
    return weftd;
  }

  /** Takes over what runs, and begins. */
  async start(): Promise<void> {
    const { guests, log } = this.#parts;
    this.#journal.add({
      level: 'info',
      kind: 'weftd',
      name: '',
      reason: 'Started',
      message: `weftd ${this.#parts.version}, process ${this.#parts.pid}, revision ${this.#keeper.revision}`,
    });
    // A plane that is not there is started at once: while it is away, guests stand still.
    this.#dataplane.start();
    this.#storage.start();
    await guests.adopt();
    const alive = guests.list().filter(isAlive);
    for (const { name } of alive) this.#noteOrphan(name);
    log.info({ guests: alive.length, revision: this.#keeper.revision }, 'guests taken over');
    guests.onChange(() => this.#reconciler.wake());
    this.#keeper.onChange(() => this.#reconciler.wake());
    this.#reconciler.start();
  }

  /** It is left alone: better a guest too many than one ended because a store was lost. */
  #noteOrphan(name: string): void {
    const key = keyOf('machine', name);
    if (this.#keeper.resources.has(key) || this.#keeper.tombstones.has(key)) return;
    this.#journal.add({
      level: 'warning',
      kind: 'machine',
      name,
      reason: 'Orphan',
      message: `a guest of this name runs, but the configuration has no such machine: apply its configuration, and it is taken over`,
    });
  }

  /** weftd alone: planes and guests go on. */
  async end(): Promise<void> {
    await this.#reconciler.stop();
    await Promise.all([this.#dataplane.detach(), this.#storage.detach(), this.#parts.guests.detach()]);
    await this.#journal.flush();
    await this.#parts.store.close();
  }

  async #shutdown({ everything, timeout_ms }: ShutdownRequest): Promise<void> {
    this.#journal.add({
      level: 'info',
      kind: 'weftd',
      name: '',
      reason: 'ShuttingDown',
      message: everything ? 'machines, planes and weftd' : 'weftd alone; planes and machines go on',
    });
    if (everything) await this.#ends.run(timeout_ms);
    this.#parts.onEnd();
  }

  #makeDataplane(): DataplanePlane {
    const words = {
      health: DataplaneHealth,
      applied: DataplaneApplied,
      status: DataplaneStatus,
      event: DataplaneEvent,
    };
    return new Plane(
      { ...this.#planeSpec('dataplane', this.#parts.layout.dataplaneSocket), words },
      this.#parts.clock,
      this.#listener('dataplane', event => {
        if (event.type === 'port') this.#reconciler.wake();
        else if (event.type === 'macMoved') this.#noteMove(event);
        else this.#noteSwitch(event);
      }),
    );
  }

  /** A loop in the network moves addresses thousands of times a second: one word in a while is enough. */
  #noteMove({ switch: name, mac, vlan, from, to }: Extract<DataplaneEvent, { type: 'macMoved' }>): void {
    const now_ms = this.#parts.clock.now_ms();
    const told = this.#moves.get(name) ?? { at_ms: Number.NEGATIVE_INFINITY, more: 0 };
    this.#moves.set(name, told);
    if (now_ms - told.at_ms < MOVES_EVERY_MS) {
      told.more += 1;
      return;
    }
    const more = told.more === 0 ? '' : `; ${told.more} more moves since the last word on this`;
    told.at_ms = now_ms;
    told.more = 0;
    this.#journal.add({
      level: 'warning',
      kind: 'switch',
      name,
      reason: 'MacMoved',
      message: `${mac} on VLAN ${vlan} moved from port ${from} to ${to}${more}`,
    });
  }

  /** What a switch says of itself; it bounds by itself how often. A port that was closed is a word on its state as well. */
  #noteSwitch({ switch: name, what, port, message }: Extract<DataplaneEvent, { type: 'switchEvent' }>): void {
    const where = port === null ? '' : `port ${port}: `;
    this.#journal.add({
      level: 'info',
      kind: 'switch',
      name,
      reason: reasonOf(what),
      message: where + message,
    });
  }

  /** The end of a job that somebody asked for, or that found something or failed. */
  #noteJob({ id, request, state, message, findings, endedAt_ms }: JobStatus): void {
    if (endedAt_ms === null || (request.kind === 'merge' && state !== 'failed')) return;
    const found =
      findings.length === 0 ? '' : `; ${findings.length} damaged places found, see weft job watch ${id}`;
    this.#journal.add({
      level: state === 'failed' || findings.length > 0 ? 'warning' : 'info',
      kind: 'pool' in request ? 'pool' : 'backup',
      name: 'pool' in request ? request.pool : request.source.directory,
      reason: `Job${reasonOf(state)}`,
      message: `${request.kind}${'volume' in request && request.volume !== undefined ? ` of ${request.volume}` : ''} (job ${id}) ${state}${message === null ? '' : `: ${message}`}${found}`,
    });
  }

  #makeStorage(): StoragePlane {
    const words = {
      health: StorageHealth,
      applied: StorageApplied,
      status: StorageStatus,
      event: StorageEvent,
    };
    return new Plane(
      { ...this.#planeSpec('storage', this.#parts.layout.storageSocket), words },
      this.#parts.clock,
      this.#listener('storage', event => {
        if (event.type === 'job') this.#noteJob(event.job);
        else this.#reconciler.wake();
      }),
    );
  }

  #planeSpec(
    name: 'dataplane' | 'storage',
    socketPath: string,
  ): Omit<PlaneSpec<never, never, never>, 'words'> {
    const { layout, version, programs } = this.#parts;
    return {
      name,
      version,
      socketPath,
      program: programs[name],
      logPath: `${layout.logs}/${name}.log`,
      pidPath: `${layout.run}/${name}.pid`,
    };
  }

  #listener<Event>(name: string, onEvent: (event: Event) => void): PlaneListener<Event> {
    let before: PlaneInfo['state'] | undefined;
    return {
      onState: ({ state }) => {
        if (state !== before) this.#reconciler.wake();
        if (state === 'up' && name === 'storage') void this.#transfers.tidy().catch(() => {});
        before = state;
      },
      onEvent,
      onNote: (level, reason, message) => {
        this.#journal.add({ level, kind: 'plane', name, reason, message });
        this.#parts.log[level === 'warning' ? 'warn' : level]({ plane: name, reason }, message);
      },
    };
  }
}

function guestOf(guests: GuestHost, name: string): ObservedGuest | undefined {
  return guests.list().find(guest => guest.name === name);
}
