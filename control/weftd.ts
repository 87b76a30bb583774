/**
 * weftd put together from its edges: store, planes, guests, images, loop, API. main.ts gives the real ones; tests
 * give doubles. Here is the order of things: what is running is taken over before anything is planned.
 */
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
  VolumeStatus,
} from '../storage/contract.js';
import type { StorageConfig } from '../storage/contract.js';
import { z } from 'zod';
import type { Doctor, ShutdownRequest } from './api/contract.js';
import type { System } from './api/system.js';
import type { Clock } from './clock.js';
import type { ImageHost } from './image/host.js';
import type { Layout } from './model/layout.js';
import { isActive } from './reconcile/observed.js';
import { Reconciler } from './reconcile/loop.js';
import type { StorageEdge } from './reconcile/loop.js';
import { MachineVerbs } from './reconcile/verbs.js';
import { EverythingEnds } from './shutdown.js';
import { Journal } from './store/journal.js';
import { Keeper } from './store/keeper.js';
import type { Store } from './store/store.js';
import { Plane } from './supervise/process.js';
import type { PlaneInfo, PlaneListener, PlaneSpec } from './supervise/process.js';
import type { GuestHost } from './vmm/host.js';

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
  doctor(): Promise<Doctor>;
  figures(): { residentMemory_bytes: number; cpu_s: number };
  log: System['log'] & { warn(fields: object, message: string): void };
  /** weftd itself is to end, after the answer has left. */
  onEnd(): void;
}

type DataplanePlane = Plane<DataplaneConfig, DataplaneApplied, DataplaneStatus, DataplaneEvent>;
type StoragePlane = Plane<StorageConfig, StorageApplied, StorageStatus, StorageEvent>;

const Deleted = z.object({ deleted: z.literal(true) });

export class Weftd {
  readonly system: System;
  readonly #parts: Parts;
  readonly #keeper: Keeper;
  readonly #journal: Journal;
  readonly #dataplane: DataplanePlane;
  readonly #storage: StoragePlane;
  readonly #reconciler: Reconciler;
  readonly #ends: EverythingEnds;

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
      doctor: () => parts.doctor(),
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
        get volumeSizes() {
          const seen = made.weftd?.system.reconciler.observed?.storage?.volumes;
          return new Map([...(seen ?? [])].map(([key, { size_bytes }]) => [key, size_bytes]));
        },
        isActive: name => isActive(parts.guests.list().find(guest => guest.name === name)),
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
    const alive = guests.list().filter(isActive);
    log.info({ guests: alive.length, revision: this.#keeper.revision }, 'guests taken over');
    guests.onChange(() => this.#reconciler.wake());
    this.#keeper.onChange(() => this.#reconciler.wake());
    this.#reconciler.start();
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
        if (event.type !== 'macMoved') return;
        this.#journal.add({
          level: 'warning',
          kind: 'switch',
          name: event.switch,
          reason: 'MacMoved',
          message: `${event.mac} on VLAN ${event.vlan} moved from port ${event.from} to ${event.to}`,
        });
      }),
    );
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
      this.#listener('storage', () => {}),
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
        before = state;
      },
      onEvent: event => {
        onEvent(event);
        this.#reconciler.wake();
      },
      onNote: (level, reason, message) => {
        this.#journal.add({ level, kind: 'plane', name, reason, message });
        this.#parts.log[level === 'warning' ? 'warn' : level]({ plane: name, reason }, message);
      },
    };
  }
}

function storageEdge(plane: StoragePlane): StorageEdge {
  const volumePath = (pool: string, name: string): string =>
    `/pools/${encodeURIComponent(pool)}/volumes/${encodeURIComponent(name)}`;
  return {
    get info() {
      return plane.info;
    },
    status: () => plane.status(),
    configure: config => plane.configure(config),
    remember: config => plane.remember(config),
    async putVolume(pool, name, size_bytes) {
      const path = volumePath(pool, name);
      await plane.client.call({ method: 'PUT', path, body: { size_bytes }, reply: VolumeStatus });
    },
    async destroyVolume(pool, name) {
      await plane.client.call({ method: 'DELETE', path: volumePath(pool, name), reply: Deleted });
    },
  };
}
