/**
 * The loop: observe, plan, act, observe again. All knowledge of what to do is in plan.ts; here are only the
 * edges it needs, when to look, and which action runs. Woken by every change of the configuration, every event
 * of a plane or guest, the end of every action, the end of a backoff, and every 30 s all the same.
 *
 * Actions run side by side, each name (action.ts) once at a time; a turn never waits for one. So a guest that
 * takes a minute to power off, or a plane that does not answer, holds up nobody.
 */
import type {
  Applied as StorageApplied,
  MirrorAtRest,
  SnapshotRequest,
  StorageConfig,
  StorageStatus,
  VolumeSpec,
} from '../../storage/contract.js';
import type {
  Applied as DataplaneApplied,
  DataplaneConfig,
  DataplaneStatus,
} from '../../dataplane/contract.js';
import type { Clock } from '../clock.js';
import type { ImageHost } from '../image/host.js';
import type { Layout } from '../model/layout.js';
import { keyOf, splitKey } from '../model/resource.js';
import type { Key } from '../model/resource.js';
import type { ImageSpec } from '../model/spec.js';
import type { Journal } from '../store/journal.js';
import type { Keeper } from '../store/keeper.js';
import type { GuestHost } from '../vmm/host.js';
import type { Action, Verb } from './action.js';
import { idOf } from './action.js';
import type { PlannedAction } from './report.js';
import { Attempts, ENDED_BY_ITSELF, STABLE_MS } from './attempts.js';
import { act } from './acting.js';
import { isAlive, seenDataplane, seenStorage } from './observed.js';
import type { Observed, SeenGuest, SeenImage } from './observed.js';
import { Eye } from './eye.js';
import { plan } from './plan.js';
import { Statuses } from './status.js';
import type { Transition } from './status.js';

export interface PlaneEdge<Config, Applied, Status> {
  readonly info: { state: string; reason: string | null };
  status(): Promise<Status>;
  configure(config: Config): Promise<Applied>;
  /** What it is to be told when it is started again; it has it now. */
  remember(config: Config): void;
}

export interface StorageEdge extends PlaneEdge<StorageConfig, StorageApplied, StorageStatus> {
  putVolume(pool: string, name: string, spec: VolumeSpec): Promise<void>;
  /** And its snapshots. */
  destroyVolume(pool: string, name: string): Promise<void>;
  snapshot(request: SnapshotRequest): Promise<void>;
  deleteSnapshot(pool: string, name: string, snapshot: string): Promise<void>;
  rollback(pool: string, name: string, snapshot: string): Promise<void>;
  /** Of a mirror that is closed: whether its journal knows of no difference. */
  mirrorAtRest(pool: string, name: string, secondPool: string): Promise<MirrorAtRest>;
}

export interface Edges {
  keeper: Keeper;
  journal: Journal;
  guests: GuestHost;
  images: ImageHost;
  dataplane: PlaneEdge<DataplaneConfig, DataplaneApplied, DataplaneStatus>;
  storage: StorageEdge;
  layout: Layout;
  clock: Clock;
  /** For what an operator of weftd itself must know. */
  onError(error: unknown, doing: string): void;
}

const RESYNC_MS = 30_000;
/** Between two turns, so that a burst of events makes few turns; or as long as a turn takes, if that is more. */
const BREATH_MS = 20;
/** How old what is told of an action's progress may be. */
const PROGRESS_MS = 250;
/** What is heavy is begun so many at a time: more only make each other late. The next turn begins the next. */
const AT_ONCE: Readonly<Partial<Record<Verb, number>>> = { startMachine: 4, fillVolume: 2, buildImage: 2 };
/** Quick ones for a plane are all begun, and wait for each other, so that a thousand do not meet its deadline. */
const IN_LANES: ReadonlySet<Verb> = new Set([
  'putVolume',
  'destroyVolume',
  'snapshotVolume',
  'deleteSnapshot',
]);
const LANES = 8;
const IMAGE_AGE_MAX_MS = 3_000;
const READY_IMAGE_AGE_MAX_MS = 20_000;
/** How long a turn waits for a plane or a file to be looked at. */
const PATIENCE_MS = 1_000;

interface LookedAt {
  seen: SeenImage | undefined;
  spec: ImageSpec;
  at_ms: number;
  readonly eye: Eye<SeenImage>;
}

export class Reconciler {
  readonly edges: Edges;
  readonly statuses = new Statuses();
  readonly attempts = new Attempts();
  readonly #inEffect = new Map<Key, number>();
  readonly #imagesSeen = new Map<string, LookedAt>();
  readonly #dataplaneEye = new Eye<DataplaneStatus>();
  readonly #storageEye = new Eye<StorageStatus>();
  /** The boot of each guest whose end was already counted against it. */
  readonly #endsCounted = new Map<string, string>();
  readonly #failedBoots = new Map<string, string | null>();
  readonly #progress = new Map<string, string>();
  readonly #tasks = new Set<Promise<void>>();
  readonly #turnListeners = new Set<() => void>();
  readonly #abort = new AbortController();
  #observed: Observed | undefined;
  readonly #counts = new Map<Verb, number>();
  /** Never rejected: `#carryOut` never is. */
  readonly #lanes: Promise<void>[] = [];
  #nextLane = 0;
  #woken = false;
  #started = false;
  #paused = false;
  #stopped = false;
  #cancel: (() => void) | undefined;
  #dueAt_ms = Number.POSITIVE_INFINITY;
  #notBefore_ms = 0;
  #turning: Promise<void> | undefined;
  #turnCount = 0;
  #turnedDesired: unknown;
  #planesHaveTheirs = false;

  constructor(edges: Edges) {
    this.edges = edges;
  }

  /** Images are looked at anew in the next turn: one was built by other hands. */
  forgetImages(): void {
    this.#imagesSeen.clear();
    this.wake();
  }

  /** What was seen in the last turn. */
  get observed(): Observed | undefined {
    return this.#observed;
  }

  get turnCount(): number {
    return this.#turnCount;
  }

  /** Whether the last turn was made for the configuration as it is now, and the planes were seen to have theirs. */
  get isCurrent(): boolean {
    return this.#planesHaveTheirs && this.#turnedDesired === this.edges.keeper.desired;
  }

  /** Called after each turn. Returns how to stop listening. */
  onTurn(listener: () => void): () => void {
    this.#turnListeners.add(listener);
    return () => this.#turnListeners.delete(listener);
  }

  progressOf(id: string): string | undefined {
    return this.#progress.get(id);
  }

  /** The guests have been adopted: before that, absence would mean nothing. */
  start(): void {
    this.#started = true;
    this.wake();
  }

  wake(): void {
    // A turn that runs may have looked before whatever this is about: another follows it.
    if (this.#turning !== undefined) this.#woken = true;
    else this.#schedule(this.#notBefore_ms);
  }

  #schedule(at_ms: number): void {
    if (!this.#started || this.#stopped || at_ms >= this.#dueAt_ms) return;
    this.#cancel?.();
    this.#dueAt_ms = at_ms;
    this.#cancel = this.edges.clock.after(Math.max(0, at_ms - this.edges.clock.now_ms()), () => {
      this.#cancel = undefined;
      this.#dueAt_ms = Number.POSITIVE_INFINITY;
      if (this.#turning !== undefined) this.#woken = true;
      else this.#turning = this.#turn();
    });
  }

  /** No more actions are begun; those that run go on. For an orderly end. */
  pause(): void {
    this.#paused = true;
  }

  /** Ends the loop and calls off what can be called off. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancel?.();
    this.#abort.abort();
    await this.#turning;
  }

  async #turn(): Promise<void> {
    const { clock, keeper } = this.edges;
    const began_ms = clock.now_ms();
    let wakeAt_ms = began_ms + RESYNC_MS;
    this.#woken = false;
    try {
      const desired = keeper.desired;
      const observed = await this.#observe();
      // What was decided meanwhile is looked at in the next turn; this one must not mix the two.
      if (desired === keeper.desired) {
        this.#countEnds(observed);
        wakeAt_ms = Math.min(wakeAt_ms, this.#planAndAct(observed) ?? wakeAt_ms);
      } else this.#woken = true;
    } catch (error) {
      this.edges.onError(error, 'a turn of the reconciler');
    }
    this.#turnCount += 1;
    this.#turning = undefined;
    for (const listener of this.#turnListeners) listener();
    if (this.#stopped) return;
    const now_ms = clock.now_ms();
    this.#notBefore_ms = now_ms + Math.max(BREATH_MS, now_ms - began_ms);
    this.#schedule(this.#woken ? this.#notBefore_ms : Math.max(this.#notBefore_ms, wakeAt_ms));
  }

  async #observe(): Promise<Observed> {
    const { dataplane, storage, guests } = this.edges;
    const [dataplaneSeen, storageSeen, images] = await Promise.all([
      this.#observePlane(dataplane, this.#dataplaneEye),
      this.#observePlane(storage, this.#storageEye),
      this.#observeImages(),
    ]);
    const seenGuests = new Map<string, SeenGuest>();
    for (const guest of guests.list()) seenGuests.set(guest.name, { guest, owner: guests.owner(guest.name) });
    const observed: Observed = {
      dataplane: dataplaneSeen.status === null ? null : seenDataplane(dataplaneSeen.status),
      dataplaneReason: `weft-dataplane is not up: ${dataplaneSeen.reason}`,
      storage: storageSeen.status === null ? null : seenStorage(storageSeen.status),
      storageReason: `weft-storage is not up: ${storageSeen.reason}`,
      images,
      guests: seenGuests,
    };
    this.#observed = observed;
    return observed;
  }

  async #observePlane<Status>(
    plane: PlaneEdge<never, unknown, Status>,
    eye: Eye<Status>,
  ): Promise<{ status: Status | null; reason: string }> {
    const { state, reason } = plane.info;
    if (state !== 'up') return { status: null, reason: reason ?? state };
    try {
      const status = await eye.look(
        () => plane.status(),
        PATIENCE_MS,
        this.edges.clock,
        () => this.wake(),
      );
      return { status: status ?? null, reason: 'it does not answer' };
    } catch (error) {
      return { status: null, reason: error instanceof Error ? error.message : String(error) };
    }
  }

  /** Files do not tell when they change: they are looked at again after a while, and after an image was built. */
  async #observeImages(): Promise<Map<string, SeenImage>> {
    const { specs, burials } = this.edges.keeper.desired;
    const wanted = new Map<string, ImageSpec>(specs.image);
    for (const [key, burial] of burials) {
      const { kind, name } = splitKey(key);
      if (kind === 'image' && !wanted.has(name)) wanted.set(name, burial.spec as ImageSpec);
    }
    for (const name of this.#imagesSeen.keys()) if (!wanted.has(name)) this.#imagesSeen.delete(name);
    const seen = new Map<string, SeenImage>();
    await Promise.all(
      [...wanted].map(async ([name, spec]) => {
        const image = await this.#observeImage(name, spec);
        if (image !== undefined) seen.set(name, image);
      }),
    );
    return seen;
  }

  async #observeImage(name: string, spec: ImageSpec): Promise<SeenImage | undefined> {
    const { images, clock } = this.edges;
    let known = this.#imagesSeen.get(name);
    if (known === undefined || known.spec !== spec) {
      known = { seen: undefined, spec, at_ms: Number.NEGATIVE_INFINITY, eye: new Eye() };
      this.#imagesSeen.set(name, known);
    }
    const ageMax_ms = known.seen?.image.state === 'ready' ? READY_IMAGE_AGE_MAX_MS : IMAGE_AGE_MAX_MS;
    if (clock.now_ms() - known.at_ms < ageMax_ms) return known.seen;
    const look = async (): Promise<SeenImage> => {
      const image = await images.observe(name, spec);
      const boot = image.state === 'ready' ? await images.bootFiles(name, spec).catch(() => null) : null;
      return { image, boot };
    };
    const fresh = await known.eye.look(look, PATIENCE_MS, clock, () => this.wake());
    // What was seen before is better than nothing: a ready image does not vanish because a disk is slow.
    if (fresh === undefined) return known.seen;
    known.seen = fresh;
    known.at_ms = clock.now_ms();
    return fresh;
  }

  /** A guest that ended by itself counts as a failed start, so that a crash loop is slowed down. */
  #countEnds(observed: Observed): void {
    const { keeper, journal, clock } = this.edges;
    const now_ms = clock.now_ms();
    for (const [name, { guest }] of observed.guests) {
      if (isAlive(guest) || guest.bootId === null) continue;
      if (guest.ended !== 'guest-poweroff' && guest.ended !== 'crashed') continue;
      if (this.#endsCounted.get(name) === guest.bootId) continue;
      const id = idOf('startMachine', name);
      // A start that fails is counted when it has failed.
      if (this.attempts.isRunning(id)) continue;
      this.#endsCounted.set(name, guest.bootId);
      if (this.#failedBoots.get(name) === guest.bootId) continue;
      if (guest.startedAt_ms !== null && now_ms - guest.startedAt_ms > STABLE_MS) this.attempts.forget(id);
      const generation = keeper.desired.generations.get(keyOf('machine', name)) ?? 0;
      const how = guest.reason ?? (guest.ended === 'crashed' ? 'QEMU died' : 'the guest powered off');
      this.attempts.fail(id, generation, how, ENDED_BY_ITSELF, now_ms);
      journal.add({
        level: guest.ended === 'crashed' ? 'error' : 'info',
        kind: 'machine',
        name,
        reason: guest.ended === 'crashed' ? 'Crashed' : 'PoweredOff',
        message: how,
      });
    }
    for (const names of [this.#endsCounted, this.#failedBoots])
      for (const name of names.keys()) if (!observed.guests.has(name)) names.delete(name);
  }

  #planAndAct(observed: Observed): number | null {
    const { keeper, clock, guests, layout } = this.edges;
    const desired = keeper.desired;
    const now_ms = clock.now_ms();
    const planned = plan({
      desired,
      observed,
      attempts: this.attempts,
      sockets: guests,
      layout,
      now_ms,
      inEffect: this.#inEffect,
      failedBoots: this.#failedBoots,
      progressOf: id => this.#progress.get(id),
    });
    const generation = (key: Key): number =>
      desired.generations.get(key) ?? desired.burials.get(key)?.generation ?? 0;
    for (const key of this.#inEffect.keys()) if (!planned.reports.has(key)) this.#inEffect.delete(key);
    for (const key of planned.inEffect) this.#inEffect.set(key, generation(key));
    const now = new Date(now_ms).toISOString();
    for (const transition of this.statuses.update(planned.reports, generation, now)) this.#tell(transition);
    if (planned.configs.dataplane !== null) this.edges.dataplane.remember(planned.configs.dataplane);
    if (planned.configs.storage !== null) this.edges.storage.remember(planned.configs.storage);
    this.#turnedDesired = desired;
    this.#planesHaveTheirs = planned.planesHaveTheirs;
    if (!this.#paused) for (const one of planned.actions) this.#begin(one);
    return planned.wakeAt_ms;
  }

  #tell({ key, condition, reasonBefore }: Transition): void {
    const { type, status, reason, message } = condition;
    // That a plane ended is told once, not for each of thousands of resources, nor that it is back.
    // And that all is well with what a new weftd finds is no news either.
    if (reasonBefore === undefined && status === 'True') return;
    if (reason === 'PlaneDown' || (reasonBefore === 'PlaneDown' && status !== 'False')) return;
    const bad =
      type === 'SpaceLow'
        ? status === 'True'
        : status === 'False' &&
          /Failed|Error|Crashed|Refused|Timeout|Full|Damaged|Degraded|Differs/.test(reason);
    this.edges.journal.add({
      level: bad ? 'warning' : 'info',
      ...splitKey(key),
      reason: type === 'Ready' ? reason : `${type}${status}`,
      message,
    });
  }

  #begin({ action, id, generation }: PlannedAction): void {
    if (this.attempts.isRunning(id)) return;
    const verb = action.type;
    const count = this.#counts.get(verb) ?? 0;
    if (count >= (AT_ONCE[verb] ?? Number.POSITIVE_INFINITY)) return;
    this.#counts.set(verb, count + 1);
    this.attempts.begin(id);
    const run = (): Promise<void> => this.#carryOut(action, id, generation);
    const task = (IN_LANES.has(verb) ? this.#inLane(run) : run()).finally(() => {
      this.#counts.set(verb, (this.#counts.get(verb) ?? 1) - 1);
      this.#tasks.delete(task);
      this.#progress.delete(id);
      if (action.type === 'buildImage' || action.type === 'forgetImage') this.#imagesSeen.delete(action.name);
      this.wake();
    });
    this.#tasks.add(task);
  }

  #inLane(run: () => Promise<void>): Promise<void> {
    const index = this.#nextLane++ % LANES;
    const done = (this.#lanes[index] ?? Promise.resolve()).then(run);
    this.#lanes[index] = done;
    return done;
  }

  async #carryOut(action: Action, id: string, generation: number): Promise<void> {
    const signal = this.#abort.signal;
    try {
      await act(this.edges, action, signal, words => {
        this.#progress.set(id, words);
        this.#schedule(this.edges.clock.now_ms() + PROGRESS_MS);
      });
      this.attempts.succeed(id);
    } catch (error) {
      if (signal.aborted) {
        this.attempts.abandon(id);
        return;
      }
      if (action.type === 'startMachine') {
        const name = action.plan.name;
        const guest = this.edges.guests.list().find(one => one.name === name);
        this.#failedBoots.set(name, guest?.bootId ?? null);
      }
      const message = error instanceof Error ? error.message : String(error);
      const code = error instanceof Error && 'code' in error ? String(error.code) : undefined;
      this.attempts.fail(id, generation, message, code, this.edges.clock.now_ms());
      this.edges.onError(error, id);
    }
  }
}
