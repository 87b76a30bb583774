/**
 * What else may happen while a layer is being put in order, which goes on after its snapshot was answered: another snapshot, a
 * clone, an export, a rollback, a merge, a flatten, shrinking, growing, the end of the volume, the death of the process. Each begins
 * after every turn of that work, as the desk would do it (changeLayers of dataThread/build.ts, jobs of jobs/copyTask.ts), with
 * clients writing. Then:
 *
 *   the volume, the snapshot and what was made of it read as they should, and what was frozen is in order
 *   nobody uses a file that was given back, nor writes to one that is somebody else's to write
 *   the disk, cut at any moment of it, opens as it should
 *
 * WEFT_SEED=n has one again.
 */
import t from 'tap';
import { kernelCalls, useCalls } from '../../../storage/jobs/calls.js';
import { copyChain, mergeLayers } from '../../../storage/jobs/copyTask.js';
import { LayerFile } from '../../../storage/jobs/layerFile.js';
import { SLICE_BYTES } from '../../../storage/jobs/slices.js';
import { Built, changeLayers } from '../../../storage/dataThread/build.js';
import type { LayerIo } from '../../../storage/layers/io.js';
import type { LayersHow } from '../../../storage/nbd/messages.js';
import type { LayerOpening } from '../../../storage/volume/opening.js';
import { random } from './disk.js';
import { BLOCK, History, readBlock } from './history.js';
import { verifyFrozen } from './frozen.js';
import { Rig, sums } from './rig.js';
import { firstSeed } from '../../seed.js';

// Seconds of work; a machine with much to do takes longer.
t.setTimeout(300_000);

const SIZE = 34 * 1024 * 1024;
const SHORT = 33 * 1024 * 1024;
const LAST = SIZE / BLOCK - 1;
/** In two groups and several regions. */
const BLOCKS = [0, 1, 2, 1023, 1024, 5000, 8191, 8192, LAST];
const PER_BLOCK = 8;

const buffer = new Uint8Array(SLICE_BYTES);
const slices = { moved: async () => undefined, expect: () => undefined, found: () => undefined };

type Values = ReadonlyMap<number, number>;

class World {
  readonly rig: Rig;
  readonly history: History;
  readonly seed: number;
  /** All that are open, or were. */
  readonly others: Rig[] = [];
  readonly forbidden: string[] = [];
  /** Where the volume has another content than its history tells: from which moment on, and what. */
  replaced: { at: number; layers: readonly LayerOpening[]; values: Values } | null = null;
  /** From which moment on its snapshot has the layers that it has now, and which it had before. */
  merged: { at: number; before: readonly LayerOpening[] } | null = null;

  constructor(seed: number) {
    this.seed = seed;
    this.rig = Rig.make(seed, { size_bytes: SIZE, checksums: seed % 4 !== 0 });
    this.rig.disk.cold_percent = seed % 3 === 0 ? 30 : 0;
    this.history = new History(this.rig, BLOCKS);
  }

  get snapshot() {
    return this.history.snapshots[0]!;
  }

  /** Some that is closed on the disk, some that is open there, some that is new, some that was not flushed. */
  prepare(): void {
    const { history } = this;
    for (const block of [0, 1023, 8191, LAST]) history.run({ kind: 'write', sector: block * 8, count: 8 });
    history.run({ kind: 'flush' });
    history.run({ kind: 'idle' });
    for (const block of [1, 1023, 8192]) history.run({ kind: 'write', sector: block * 8, count: 8 });
    history.run({ kind: 'flush' });
    for (const block of [1, 5000]) history.run({ kind: 'write', sector: block * 8, count: 8 });
    history.run({ kind: 'trim', block: 0, count: 1 });
  }

  /** The main thread asks; `then` when its reply has come. */
  change(how: LayersHow, rig: Rig, layers: readonly LayerOpening[], then: () => void): void {
    const before = rig.layers;
    rig.layers = [...layers];
    const held = new Built(1);
    held.layered = rig.volume;
    const change = changeLayers(how, [{ held, base: rig.opening() }]);
    const look = (): void => {
      if (!change.over()) return rig.later.answer({ completed: look }, 0, 0);
      this.#giveBack(before);
      then();
    };
    look();
  }

  /** Files of layers that nobody has open any more: their numbers may be others' by now. */
  #giveBack(layers: readonly LayerOpening[]): void {
    const needed = new Set(
      [this.rig, ...this.others].flatMap(({ layers }) => layers.map(({ dataFd }) => dataFd)),
    );
    for (const { dataFd } of this.snapshot.layers) needed.add(dataFd);
    for (const { dataFd, mapFd } of layers)
      if (!needed.has(dataFd)) this.rig.disk.closed.add(dataFd).add(mapFd);
  }

  /** The disk as one sees it who may not write to these files. */
  without(layers: readonly LayerOpening[]): LayerIo {
    const { disk } = this.rig;
    const fds = new Set(layers.flatMap(({ dataFd, mapFd }) => [dataFd, mapFd]));
    return new Proxy(disk as LayerIo, {
      get: (_, name) => {
        const value: unknown = Reflect.get(disk, name);
        if (typeof value !== 'function') return value;
        const changes = name === 'pwrite' || name === 'write' || name === 'fallocate';
        return (fd: number, ...rest: unknown[]) => {
          if (changes && fds.has(fd)) this.forbidden.push(`${name} of file ${fd}`);
          return Reflect.apply(value, disk, [fd, ...rest]) as unknown;
        };
      },
    });
  }

  open(layers: readonly LayerOpening[], writable: boolean, io: LayerIo): Rig {
    const rig = this.rig.beside(layers, io);
    rig.open(writable);
    this.others.push(rig);
    return rig;
  }

  /** None of these is put in order: then a job may have them. */
  finished(layers: readonly LayerOpening[], what: string): void {
    this.until(() => !layers.some(({ uuid }) => this.rig.budget.finishing.has(uuid)), what);
  }

  until(over: () => boolean, what: string): void {
    this.rig.until(over, what);
  }

  quiet(): void {
    this.until(
      () =>
        ![this.rig, ...this.others].some(({ volume }) => volume.busy) &&
        this.rig.later.pending === 0 &&
        this.rig.disk.pending === 0,
      'quiet',
    );
  }
}

/** What is wrong with what it reads as; null: nothing. */
function differs(rig: Rig, values: Values, what: string): string | null {
  let wrong: string | null = null;
  for (const block of BLOCKS) {
    if ((block + 1) * BLOCK > rig.volume.size_bytes) continue;
    const result = readBlock(rig, rig.volume, block, bytes => {
      for (let i = 0; i < PER_BLOCK; i++) {
        const wanted = values.get(block * PER_BLOCK + i)!;
        if (bytes[i * 512 + 9] !== wanted)
          wrong ??= `${what}: block ${block} is ${bytes[i * 512 + 9]}, not ${wanted}`;
      }
    });
    if (result !== 0) return `${what}: block ${block} cannot be read: ${result} (${rig.volume.reason})`;
  }
  return wrong;
}

/** With the calls of jobs on the disk in memory. */
async function job<T>({ rig: { disk } }: World, work: () => Promise<T>): Promise<T> {
  useCalls({
    ...kernelCalls,
    read: (fd, into, at, offset) => disk.get(fd, into.subarray(at), offset),
    write: (fd, bytes, at, offset) => {
      disk.put(fd, bytes.subarray(at), offset);
      return bytes.length - at;
    },
    copy: () => -95,
    seekData: (fd, offset) => disk.seek(fd, offset, 3),
    seekHole: (fd, offset) => disk.seek(fd, offset, 4),
    size: fd => disk.files.get(fd)!.size,
    punch: (fd, offset, length) => {
      disk.punch(fd, offset, length);
      return true;
    },
    truncate: (fd, length) => disk.lengthen(fd, length),
    sync: fd => void disk.syncNow(fd),
  });
  try {
    return await work();
  } finally {
    useCalls(kernelCalls);
  }
}

/** Writes into the volume, at once and beside what is under way. */
function writeSome({ history }: World, blocks: readonly number[] = [2, 1024, 8192]): void {
  for (const block of blocks) history.begin({ kind: 'write', sector: block * 8, count: 8 });
  history.begin({ kind: 'flush' });
}

interface Act {
  readonly name: string;
  /** Begins before the snapshot was answered, too: from its instant on, or before it, when only the catalogue has the new top. */
  readonly from?: 'catalogue' | 'instant';
  /** What else is wrong, in words. */
  readonly run: (world: World) => Promise<string | null> | string | null;
  /** The volume's own history tells no more what it holds. */
  readonly ends?: boolean;
}

const ACTS: readonly Act[] = [
  {
    name: 'writing goes on, and another snapshot',
    run: world => {
      const { history } = world;
      writeSome(world);
      // What waits while it is taken would be behind it.
      history.end();
      history.begin({ kind: 'snapshot' });
      world.until(() => history.snapshots.length === 2, 'the instant');
      writeSome(world);
      history.begin({ kind: 'trim', block: 1, count: 1 });
      return null;
    },
  },
  {
    name: 'a clone is made, written, closed and opened again',
    run: world => {
      const { layers, values } = world.snapshot;
      const copy = world.open(
        [world.rig.newLayer(SIZE), ...layers],
        true,
        world.without([...layers, ...world.rig.layers]),
      );
      writeSome(world);
      const wrong = differs(copy, values, 'the clone');
      const own = new History(copy, [0, 5000]);
      const failed = [
        ...own.run({ kind: 'write', sector: 0, count: 8 }),
        ...own.run({ kind: 'write', sector: 5000 * 8, count: 8 }),
        ...own.run({ kind: 'trim', block: 1, count: 1 }),
        ...own.run({ kind: 'flush' }),
      ];
      if (failed.length > 0) return `the clone answers ${failed.join()}`;
      const fault = wrong ?? own.judge(copy, own.now, false);
      if (copy.shut() !== 0) return 'the clone cannot be shut';
      copy.open();
      return fault ?? own.judge(copy, own.now, false);
    },
  },
  {
    name: 'the snapshot is exported',
    run: world => {
      const { layers, values } = world.snapshot;
      const shown = world.open(layers, false, world.without([...layers, ...world.rig.layers]));
      writeSome(world);
      const wrong = differs(shown, values, 'the export');
      if (wrong !== null) return wrong;
      world.quiet();
      return differs(shown, values, 'the export, later') ?? (shown.shut() === 0 ? null : 'it cannot be shut');
    },
  },
  {
    name: 'it is rolled back',
    ends: true,
    run: world => {
      const { rig, snapshot } = world;
      for (const block of [2, 1024]) world.history.run({ kind: 'write', sector: block * 8, count: 8 });
      world.history.run({ kind: 'trim', block: 2, count: 1 });
      // Nobody flushed; regions are on their way to be closed when their layer goes.
      rig.now_ms += 60_000;
      rig.volume.tick(rig.now_ms);
      const layers = [rig.newLayer(SIZE), ...snapshot.layers];
      let over = false;
      world.replaced = { at: world.history.now, layers, values: snapshot.values };
      world.change('content', rig, layers, () => (over = true));
      world.until(() => over, 'the rollback');
      return null;
    },
  },
  {
    name: 'the volume is closed, and its files with it',
    from: 'instant',
    run: world => {
      const { rig } = world;
      world.history.end();
      if (rig.shut() !== 0) return 'it cannot be shut';
      // As mail.ts does it: nothing of it may be with the kernel.
      world.until(() => !rig.volume.busy, 'the end');
      for (const { dataFd, mapFd } of rig.layers) rig.disk.closed.add(dataFd).add(mapFd);
      for (let i = 0; i < 20; i++) rig.turn();
      const misused = [...rig.disk.misused];
      rig.disk.closed.clear();
      if (misused.length > 0) return misused.join();
      rig.open();
      return rig.budget.finishing.size === 0 ? null : 'something is left to be put in order';
    },
  },
  {
    name: 'the process dies; the volume and a clone of the snapshot are opened, in this order',
    from: 'catalogue',
    run: world => {
      world.rig.kill();
      const layers = world.rig.layers.slice(1);
      const values = world.history.values();
      const io = world.without([...layers, ...world.rig.layers]);
      const copy = world.open([world.rig.newLayer(SIZE), ...layers], true, io);
      const own = new History(copy, [2]);
      const failed = [...own.run({ kind: 'write', sector: 16, count: 8 }), ...own.run({ kind: 'flush' })];
      if (failed.length > 0) return `the clone answers ${failed.join()}`;
      return differs(
        copy,
        new Map([...values, ...Array.from({ length: 8 }, (_, i) => [16 + i, 1] as const)]),
        'the clone',
      );
    },
  },
  {
    name: 'the process dies; a clone of the snapshot and the volume are opened, in this order',
    from: 'catalogue',
    run: world => {
      const { rig } = world;
      const layers = rig.layers.slice(1);
      const values = world.history.values();
      const own = rig.newLayer(SIZE);
      // What the volume had is not its any more: whoever comes first puts the frozen ones in order.
      const before = rig.layers;
      rig.layers = [own, ...layers];
      rig.kill();
      const copy = rig.beside(rig.layers);
      copy.volume = rig.volume;
      world.others.push(copy);
      rig.layers = before;
      rig.io = world.without([own, ...layers]);
      rig.open();
      rig.io = rig.disk;
      return differs(copy, values, 'the clone');
    },
  },
  {
    name: 'a snapshot without a name is merged',
    run: async world => {
      const { rig, history } = world;
      writeSome(world);
      history.end();
      history.run({ kind: 'snapshot' });
      const [top, upper, lower] = rig.layers;
      writeSome(world);
      // The first one was deleted.
      world.finished([upper!, lower!], 'both are in order');
      const merged = await job(world, () =>
        mergeLayers(new LayerFile(lower!, sums), new LayerFile(upper!, sums), true, buffer, slices),
      );
      const { kept, size_bytes, inherits_bytes } = merged;
      const one = { ...(kept === 'upper' ? upper! : lower!), size_bytes, inherits_bytes };
      history.snapshots.shift();
      world.merged = { at: history.now, before: history.snapshots[0]!.layers };
      Object.assign(history.snapshots[0]!, { layers: [one] });
      let over = false;
      world.change('replace', rig, [top!, one], () => (over = true));
      writeSome(world);
      world.until(() => over, 'the exchange');
      return null;
    },
  },
  {
    name: 'what it shares is copied',
    run: async world => {
      const { rig } = world;
      const [top, ...shared] = rig.layers;
      const into = rig.newLayer(SIZE);
      world.finished(shared, 'what is shared is in order');
      await job(world, () =>
        copyChain(
          shared.map(layer => new LayerFile(layer, sums)),
          SIZE,
          new LayerFile(into, sums),
          buffer,
          slices,
        ),
      );
      let over = false;
      world.change('replace', rig, [top!, into], () => (over = true));
      writeSome(world);
      world.until(() => over, 'the exchange');
      return null;
    },
  },
  {
    name: 'it is made longer',
    from: 'instant',
    run: ({ rig, history }) => {
      const block = SIZE / BLOCK + 3;
      rig.grow(SIZE + 1024 * 1024);
      const behind = new History(rig, [block]);
      const failed = [
        ...behind.run({ kind: 'write', sector: block * 8, count: 8 }),
        ...history.run({ kind: 'flush' }),
      ];
      return failed.length > 0 ? `answers ${failed.join()}` : behind.judge(rig, behind.now, true);
    },
  },
  {
    name: 'it is made shorter, and longer again',
    ends: true,
    run: world => {
      const { rig } = world;
      const top = rig.newLayer(SHORT);
      const layers = [top, ...rig.layers];
      let over = false;
      const values = new Map(world.snapshot.values);
      for (let i = 0; i < PER_BLOCK; i++) values.set(LAST * PER_BLOCK + i, 0);
      world.change('snapshot', rig, layers, () => (over = true));
      world.until(() => over, 'the shorter top');
      over = false;
      world.change('content', rig, layers, () => (over = true));
      world.until(() => over, 'the shorter volume');
      if (rig.volume.size_bytes !== SHORT) return `it has ${rig.volume.size_bytes} bytes`;
      rig.grow(SIZE);
      world.replaced = { at: world.history.now, layers: rig.layers, values };
      return null;
    },
  },
];

/** What is wrong; null: nothing. 'over': the layer was in order before this turn. */
async function play(act: Act, seed: number, turns: number, cuts: boolean): Promise<string | null> {
  const world = new World(seed);
  const { rig, history } = world;
  world.prepare();
  history.begin({ kind: 'snapshot' });
  if (act.from === 'instant') world.until(() => history.snapshots.length > 0, 'the instant');
  else if (act.from === undefined) history.end();
  for (let turn = 0; turn < turns; turn++) {
    if (history.snapshots.length > 0 && rig.budget.finishing.size === 0) return 'over';
    rig.turn();
  }
  const begun = history.now;
  const fault = await act.run(world);
  if (fault !== null) return fault;
  if (!act.name.startsWith('the process dies')) {
    const failed = history.end();
    if (failed.length > 0) return `answers ${failed.join()}`;
  }
  world.quiet();
  if (rig.disk.misused.length > 0) return `given back already: ${rig.disk.misused.join()}`;
  if (world.forbidden.length > 0) return `not its own: ${world.forbidden.join()}`;
  if (rig.budget.finishing.size > 0) return 'something is still being put in order';
  return judge(world, rig, history.now, true) ?? (cuts ? cut(world, begun) : null);
}

function judge(world: World, rig: Rig, moment: number, kill: boolean): string | null {
  const { replaced, history, merged } = world;
  const wrong =
    replaced !== null && moment >= replaced.at
      ? differs(rig, replaced.values, 'the volume')
      : history.judge(rig, moment, kill);
  if (wrong !== null) return wrong;
  const { disk, shape } = rig;
  for (const snapshot of history.snapshots) {
    if (snapshot.doneAt > moment) continue;
    const layers = merged !== null && moment < merged.at ? merged.before : snapshot.layers;
    const alone = Rig.after(disk.killed(disk.events.length), layers, shape, 3, 2, false);
    const fault = history.judgeSnapshot(alone, snapshot) ?? (rig === world.rig ? verifyFrozen(alone) : null);
    if (fault !== null) return fault;
  }
  return null;
}

/** The same, of disks that a crash may leave from `begun` on; where it is the catalogue's turn, it has had it. */
function cut(world: World, begun: number): string | null {
  const { rig, history, seed, replaced } = world;
  const pick = random(seed + 5);
  for (let moment = begun; moment <= history.now; moment++) {
    const layers = replaced !== null && moment >= replaced.at ? replaced.layers : history.layersAt(moment);
    for (const kill of [true, false])
      for (const files of kill ? [rig.disk.killed(moment)] : rig.disk.cuts(moment, seed + moment, 1)) {
        if (pick(3) !== 0) continue;
        const survivor = Rig.after(files, layers, rig.shape, seed, kill ? 1 : 2);
        const wrong = judge(world, survivor, moment, kill);
        if (wrong !== null) return `after event ${moment - begun} of ${history.now - begun}: ${wrong}`;
      }
  }
  return null;
}

const only = process.env['WEFT_SEED'];
const first = only === undefined ? firstSeed : Number(only);
const SEEDS = only === undefined ? Number(process.env['WEFT_SEEDS'] ?? 2) : 1;

for (const act of ACTS)
  void t.test(act.name, async t => {
    let count = 0;
    for (let seed = first; seed < first + SEEDS; seed++) {
      const pick = random(seed);
      for (let turns = 0; ; turns++) {
        const fault = await play(act, seed, turns, pick(8) === 0).catch(
          (error: unknown) => (error as Error).stack ?? String(error),
        );
        if (fault === 'over') break;
        if (fault !== null) return t.fail(`WEFT_SEED=${seed}, after ${turns} turns: ${fault}`);
        count++;
      }
    }
    t.pass(`${count} moments, from seed ${first} on`);
  });
