/**
 * A world for the reconciler without processes: the planes are maps, the guests are records, every action takes
 * effect at once. What the plan decides is carried out here until it decides nothing more.
 */
import type { DataplaneConfig, SwitchStatus } from '../../../dataplane/contract.js';
import type {
  ExportStatus,
  PoolStatus,
  SnapshotStatus,
  StorageConfig,
  VolumeSpec,
  VolumeStatus,
} from '../../../storage/contract.js';
import type { BootFiles } from '../../../control/image/host.js';
import { layoutOf } from '../../../control/model/layout.js';
import { keyOf, readSpec } from '../../../control/model/resource.js';
import type { AnySpec, Key } from '../../../control/model/resource.js';
import { SPECS } from '../../../control/model/spec.js';
import type { ImageSpec, Kind } from '../../../control/model/spec.js';
import type { Action } from '../../../control/reconcile/action.js';
import { Attempts, BACKOFF_MAX_MS } from '../../../control/reconcile/attempts.js';
import {
  fillFactName,
  machineFactName,
  moveFactName,
  toDesired,
  undoFactName,
} from '../../../control/reconcile/desired.js';
import type { Desired } from '../../../control/reconcile/desired.js';
import { arrived, cutFailed } from '../../../control/reconcile/moving.js';
import { isActive } from '../../../control/reconcile/observed.js';
import type { Observed, SeenGuest, SeenImage } from '../../../control/reconcile/observed.js';
import { plan } from '../../../control/reconcile/plan.js';
import type { Planned } from '../../../control/reconcile/report.js';
import { undoSnapshotName } from '../../../control/reconcile/undo.js';
import type { BootPlan, ObservedGuest } from '../../../control/vmm/host.js';

export const LAYOUT = layoutOf('/s');

export const SOCKETS = {
  nicSocket: (name: string, index: number) => `/s/run/machines/${name}/nic${index}.sock`,
  diskSocket: (name: string, index: number) => `/s/run/machines/${name}/disk${index}.sock`,
};

export function guest(name: string, change: Partial<ObservedGuest> = {}): ObservedGuest {
  return {
    name,
    state: 'stopped',
    reason: null,
    ended: null,
    pid: null,
    bootId: null,
    startedAt_ms: null,
    accel: null,
    accelReason: null,
    plan: null,
    qemuStatus: null,
    diskErrors: null,
    diskSizes_bytes: [],
    ...change,
  };
}

function withSpec<T extends { kind: Kind; written: unknown }>(one: T): T & { spec: AnySpec } {
  return { ...one, spec: readSpec(one.kind, one.written) };
}

export interface SimulatedVolume {
  size_bytes: number;
  content: string;
  labels?: Record<string, string>;
  quota_bytes?: number | null;
  /** In the order in which they were made; each with what the volume held. */
  snapshots?: (SnapshotStatus & { content: string })[];
}

export class World {
  revision = 1;
  readonly resources = new Map<Key, { kind: Kind; name: string; generation: number; written: unknown }>();
  readonly tombstones = new Map<
    Key,
    { kind: Kind; name: string; generation: number; written: unknown; destroyData: boolean }
  >();
  readonly facts = new Map<string, unknown>();
  readonly attempts = new Attempts();
  readonly inEffect = new Map<Key, number>();
  readonly failedBoots = new Map<string, string | null>();
  now_ms = 1_000_000;
  dataplane: { up: boolean; config: DataplaneConfig } = { up: true, config: { generation: 0, switches: [] } };
  storage: { up: boolean; config: StorageConfig } = {
    up: true,
    config: { generation: 0, pools: [], exports: [] },
  };
  /** What lies in the pools' directories, whether they are open or not: by `pool/volume`. */
  readonly volumes = new Map<string, SimulatedVolume>();
  readonly built = new Set<string>();
  readonly guests = new Map<string, ObservedGuest>();
  readonly log: string[] = [];
  /** Actions of these ids fail with these words. */
  readonly failing = new Map<string, string>();
  boots = 0;
  /** What others do between two turns. */
  onTurn: (() => void) | undefined;

  add(kind: Kind, name: string, written: unknown = {}): this {
    // A test that writes nonsense should hear of it here.
    SPECS[kind].parse(written);
    const key = keyOf(kind, name);
    const generation = (this.resources.get(key)?.generation ?? 0) + 1;
    this.resources.set(key, { kind, name, generation, written });
    return this;
  }

  bury(key: Key, destroyData = false): this {
    const resource = this.resources.get(key)!;
    this.resources.delete(key);
    this.tombstones.set(key, { ...resource, destroyData });
    return this;
  }

  get desired(): Desired {
    return toDesired({
      revision: this.revision,
      resources: [...this.resources.values()].map(withSpec),
      tombstones: [...this.tombstones.values()].map(withSpec),
      facts: this.facts,
    });
  }

  get observed(): Observed {
    const { dataplane, storage } = this;
    const images = new Map<string, SeenImage>();
    const burials = [...this.tombstones.values()].filter(({ kind }) => kind === 'image');
    for (const { kind, name, written } of [...this.resources.values(), ...burials])
      if (kind === 'image') images.set(name, this.#seenImage(name, written as ImageSpec));
    const guests = new Map<string, SeenGuest>();
    for (const [name, one] of this.guests) guests.set(name, { guest: one, owner: { uid: 7, gid: 7 } });
    return {
      dataplane: dataplane.up
        ? { generation: dataplane.config.generation, switches: this.#switches() }
        : null,
      dataplaneReason: 'down in this world',
      storage: storage.up
        ? {
            generation: storage.config.generation,
            pools: this.#pools(),
            volumes: this.#openVolumes(),
            exports: this.#exports(),
          }
        : null,
      storageReason: 'down in this world',
      images,
      guests,
    };
  }

  plan(): Planned {
    return this.planFor(this.desired, this.observed);
  }

  planFor(desired: Desired, observed: Observed): Planned {
    const planned = plan({
      desired,
      observed,
      attempts: this.attempts,
      sockets: SOCKETS,
      layout: LAYOUT,
      now_ms: this.now_ms,
      inEffect: this.inEffect,
      failedBoots: this.failedBoots,
      progressOf: () => undefined,
    });
    const { generations } = desired;
    for (const key of planned.inEffect) this.inEffect.set(key, generations.get(key) ?? 0);
    return planned;
  }

  /** Carries out plans until one has no actions; time passes when there is only waiting left. */
  settle(turnsMax = 100): Planned {
    let hasWaited = false;
    for (let turn = 0; turn < turnsMax; turn++) {
      this.onTurn?.();
      const planned = this.plan();
      if (planned.actions.length === 0) {
        const { wakeAt_ms } = planned;
        // What is further away than a backoff is a schedule, and a wait that came to nothing waits for others.
        const isFar = wakeAt_ms !== null && wakeAt_ms > this.now_ms + BACKOFF_MAX_MS;
        if (wakeAt_ms === null || isFar || hasWaited || this.failing.size > 0) return planned;
        hasWaited = true;
        this.now_ms = wakeAt_ms;
        continue;
      }
      hasWaited = false;
      for (const { action, id, generation } of planned.actions) {
        this.log.push(id);
        const failure = this.failing.get(id);
        if (failure !== undefined) {
          this.attempts.fail(id, generation, failure, undefined, this.now_ms);
          continue;
        }
        this.#act(action);
        this.attempts.succeed(id);
      }
    }
    throw new Error(`not settled after ${turnsMax} turns: ${this.log.slice(-20).join(', ')}`);
  }

  verdict(key: Key): string {
    const ready = this.plan().reports.get(key)?.ready;
    return `${ready?.status} ${ready?.reason}`;
  }

  message(key: Key): string {
    return this.plan().reports.get(key)?.ready.message ?? '';
  }

  #act(action: Action): void {
    switch (action.type) {
      case 'configureDataplane':
        this.dataplane.config = action.config;
        return;
      case 'configureStorage':
        this.storage.config = action.config;
        return;
      case 'buildImage':
        this.built.add(action.name);
        return;
      case 'forgetImage':
        this.built.delete(action.name);
        return;
      case 'putVolume':
        if (action.mark !== undefined) this.facts.set(fillFactName(action.pool, action.name), action.mark);
        this.#put(`${action.pool}/${action.name}`, action.spec);
        return;
      case 'snapshotVolume':
        this.#snapshot(`${action.pool}/${action.name}`, action.snapshot, action.labels);
        return;
      case 'deleteSnapshot':
        this.#dropSnapshot(`${action.pool}/${action.name}`, action.snapshot);
        return;
      case 'armDisks':
        for (const { pool, volume } of action.disks) {
          this.#dropSnapshot(`${pool}/${volume}`, undoSnapshotName(action.name));
          this.#snapshot(`${pool}/${volume}`, undoSnapshotName(action.name), {});
        }
        this.facts.set(undoFactName(action.name), { state: 'armed', disks: action.disks });
        return;
      case 'undoDisks':
        if (isActive(this.guests.get(action.name))) throw new Error(`${action.name} runs`);
        for (const { pool, volume, discard } of action.disks) {
          const there = this.volumes.get(`${pool}/${volume}`);
          const taken = there?.snapshots?.find(({ name }) => name === undoSnapshotName(action.name));
          if (there !== undefined && taken !== undefined && discard) there.content = taken.content;
          this.#dropSnapshot(`${pool}/${volume}`, undoSnapshotName(action.name));
        }
        this.facts.delete(undoFactName(action.name));
        return;
      case 'fillVolume':
        this.#exported(action.pool, action.name, `fill/${action.name}`);
        this.volumes.get(`${action.pool}/${action.name}`)!.content = action.image;
        this.facts.set(fillFactName(action.pool, action.name), { state: 'filled', image: action.image });
        return;
      case 'destroyVolume':
        if (this.storage.config.exports.some(one => one.pool === action.pool && one.volume === action.name))
          throw new Error(`destroyed ${action.name} while exported`);
        this.volumes.delete(`${action.pool}/${action.name}`);
        this.facts.delete(fillFactName(action.pool, action.name));
        return;
      case 'rememberMove':
        if (action.fact === null) this.facts.delete(moveFactName(action.name));
        else this.facts.set(moveFactName(action.name), action.fact);
        return;
      case 'cutMove':
        this.#cut(action);
        return;
      case 'prepareMachine':
        this.guests.set(action.name, guest(action.name));
        return;
      case 'startMachine':
        this.#start(action.plan);
        return;
      case 'growDisks': {
        const told = this.guests.get(action.name)!;
        for (const [index, size_bytes] of action.sizes_bytes)
          if (this.volumes.get(told.plan!.disks[index]!.nbdName)!.size_bytes !== size_bytes)
            throw new Error('it is not so long');
        const diskSizes_bytes = told.diskSizes_bytes.map(
          (before, index) => action.sizes_bytes.get(index) ?? before,
        );
        this.guests.set(action.name, { ...told, diskSizes_bytes });
        return;
      }
      case 'stopMachine':
      case 'killMachine':
        this.guests.set(action.name, {
          ...this.guests.get(action.name)!,
          state: 'stopped',
          ended: 'stopped',
        });
        return;
      case 'forgetMachine':
        this.guests.delete(action.name);
        return;
      case 'rememberMachine':
        this.facts.set(machineFactName(action.name), action.fact);
        return;
      case 'unbury':
        this.tombstones.delete(action.key);
        return;
    }
  }

  /** The second side of a mirror that is open, because something of it is exported. */
  secondSideOf(pool: string, name: string): SimulatedVolume | undefined {
    const { volumes = [], exports } = this.storage.config;
    const isOpen = exports.some(one => one.pool === pool && one.volume === name);
    const mirror = volumes.find(one => one.pool === pool && one.name === name)?.mirror;
    return isOpen && mirror !== undefined ? this.volumes.get(`${mirror.pool}/${mirror.volume}`) : undefined;
  }

  #cut({ pool, name, to }: Extract<Action, { type: 'cutMove' }>): void {
    if (this.storage.config.exports.some(one => one.volume === name)) throw new Error('cut while exported');
    const fact = this.desired.moveFacts.get(name)!;
    const isSame =
      this.volumes.get(`${pool}/${name}`)!.content === this.volumes.get(`${to}/${name}`)?.content;
    if (!isSame) {
      this.facts.set(moveFactName(name), cutFailed(fact, this.now_ms));
      return;
    }
    this.facts.set(moveFactName(name), arrived(fact, pool, to, fact.keepSource === true));
    const resource = this.resources.get(`volume/${name}`)!;
    this.add('volume', name, { ...(resource.written as object), pool: to });
  }

  #put(key: string, { size_bytes, shrink, from, labels, quota_bytes }: VolumeSpec): void {
    const volume = this.volumes.get(key);
    if (volume !== undefined && volume.size_bytes > size_bytes && !shrink) throw new Error('shrunk');
    const source = this.volumes.get(`${key.split('/')[0]}/${from?.volume}`);
    if (volume === undefined && from !== undefined && source === undefined) throw new Error('no source');
    const snapshot = source?.snapshots?.find(({ name }) => name === from?.snapshot);
    this.volumes.set(key, {
      content: (snapshot ?? source)?.content ?? 'empty',
      ...volume,
      size_bytes,
      ...(labels === undefined ? {} : { labels }),
      ...(quota_bytes === undefined ? {} : { quota_bytes }),
    });
  }

  #snapshot(key: string, name: string, labels: Record<string, string>): void {
    const volume = this.volumes.get(key)!;
    if (volume.snapshots?.some(one => one.name === name)) throw new Error(`${key}@${name} twice`);
    const { size_bytes, content } = volume;
    (volume.snapshots ??= []).push({
      name,
      uuid: `${key}@${name}`,
      createdAt_ms: this.now_ms,
      size_bytes,
      allocated_bytes: 0,
      labels,
      clones: [],
      content,
    });
  }

  #dropSnapshot(key: string, name: string): void {
    const volume = this.volumes.get(key);
    if (volume?.snapshots !== undefined) volume.snapshots = volume.snapshots.filter(one => one.name !== name);
  }

  #start(bootPlan: BootPlan): void {
    const { name } = bootPlan;
    const undo = this.facts.get(undoFactName(name));
    if (undo !== undefined) this.facts.set(undoFactName(name), { ...undo, state: 'ran' });
    if (isActive(this.guests.get(name))) throw new Error(`${name} started twice`);
    for (const [index, disk] of bootPlan.disks.entries()) {
      const [pool = '', volume = ''] = disk.nbdName.split('/');
      this.#exported(pool, volume, `machine/${name}/disk${index}`);
    }
    this.boots += 1;
    const diskSizes_bytes = bootPlan.disks.map(({ nbdName, vhost }) =>
      vhost === undefined ? this.volumes.get(nbdName)!.size_bytes : null,
    );
    const bootId = `boot${this.boots}`;
    this.guests.set(name, guest(name, { state: 'running', plan: bootPlan, bootId, diskSizes_bytes }));
  }

  #exported(pool: string, volume: string, exportName: string): void {
    const found = this.storage.config.exports.find(one => one.name === exportName);
    if (found === undefined || found.pool !== pool || found.volume !== volume)
      throw new Error(`${pool}/${volume} is not served as ${exportName}`);
    if (!this.volumes.has(`${pool}/${volume}`)) throw new Error(`${pool}/${volume} is not there`);
  }

  #seenImage(name: string, spec: ImageSpec): SeenImage {
    const ready = !('tiny' in spec) || this.built.has(name);
    const boot: BootFiles | null = !ready
      ? null
      : 'disk' in spec
        ? { kind: 'disk', path: spec.disk, format: 'raw', virtualSize_bytes: 2 ** 20 }
        : { kind: 'kernel', kernel: `/k/${name}`, initrd: null, cmdline: 'console=ttyS0' };
    return {
      image: {
        name,
        state: ready ? 'ready' : 'absent',
        reason: null,
        made: null,
        virtualSize_bytes: 'disk' in spec ? 2 ** 20 : null,
      },
      boot,
    };
  }

  #switches(): Map<string, SwitchStatus> {
    return new Map(
      this.dataplane.config.switches.map(one => [
        one.name,
        {
          name: one.name,
          macCount: 0,
          counters: {},
          ports: one.ports.map(port => ({
            name: port.name,
            kind: port.device.kind,
            state: 'up' as const,
            reason: null,
            vlan: port.vlan,
            counters: {},
          })),
        },
      ]),
    );
  }

  #pools(): Map<string, PoolStatus> {
    return new Map(
      this.storage.config.pools.map(pool => [
        pool.name,
        {
          name: pool.name,
          directory: pool.directory ?? '',
          state: 'open' as const,
          reason: null,
          capacity_bytes: 0,
          free_bytes: 0,
          allocated_bytes: 0,
          provisioned_bytes: 0,
          volumeCount: 0,
        },
      ]),
    );
  }

  #openVolumes(): Map<string, VolumeStatus> {
    const open = new Set(this.storage.config.pools.map(pool => pool.name));
    const seen = new Map<string, VolumeStatus>();
    for (const [key, volume] of this.volumes) {
      const { size_bytes, content, labels = {}, quota_bytes = null, snapshots = [] } = volume;
      const [pool = '', name = ''] = key.split('/');
      if (open.has(pool))
        seen.set(key, {
          pool,
          name,
          uuid: key,
          size_bytes,
          allocated_bytes: 0,
          createdAt_ms: 0,
          state: 'ok',
          reason: null,
          labels,
          quota_bytes,
          snapshots,
          mirror: this.#mirrorStatus(pool, name, content),
        });
    }
    return seen;
  }

  #mirrorStatus(pool: string, name: string, content: string): VolumeStatus['mirror'] {
    const second = this.secondSideOf(pool, name);
    if (second === undefined) return null;
    const state = second.content === content ? 'in-sync' : 'resyncing';
    return { state, left_bytes: 0, reason: null };
  }

  #exports(): Map<string, ExportStatus> {
    return new Map(
      this.storage.config.exports.map(one => {
        const there = this.volumes.has(`${one.pool}/${one.volume}`);
        return [
          one.name,
          {
            name: one.name,
            state: there ? ('listening' as const) : ('error' as const),
            reason: there ? null : 'no such volume',
            connectionCount: 0,
            counters: {},
          },
        ];
      }),
    );
  }
}
