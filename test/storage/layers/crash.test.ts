/**
 * Power cuts: a history of writes, trims, flushes, snapshots and pauses is recorded on the disk of disk.ts, cut after every
 * operation, what was not synced is lost, reordered and torn, and each disk that may be left is opened: every sector
 * is what its last flush promised or something later, no checksum refuses what is right, finished snapshots are what they were,
 * and the volume goes on from there. Short histories are tried all, long ones by seed: WEFT_SEED=n runs one.
 */
import t from 'tap';
import { random } from './disk.js';
import { BLOCK, History, type Step } from './history.js';
import { verifyFrozen } from './frozen.js';
import { Rig, type Shape } from './rig.js';
import { firstSeed } from '../../seed.js';

const SIZE = 34 * 1024 * 1024;
/** In two groups and three regions, neighbours among them, and the last one. */
const BLOCKS = [0, 1, 2, 1023, 1024, 8191, 8192, SIZE / BLOCK - 1];

/** Enough for short histories. */
const FEW = [0, 1];

/** Of what the disk may be after each event; the first fault found, in words. */
function cut(
  history: History,
  shape: Shape,
  seed: number,
  more: number,
  kill: boolean,
  from = 0,
): string | null {
  const { disk } = history.rig;
  const pick = random(seed + 1);
  for (let moment = from; moment <= disk.events.length; moment++) {
    let n = 0;
    const states = kill ? [disk.killed(moment)] : disk.cuts(moment, seed + moment, more);
    for (const files of states) {
      const where = `after event ${moment} of ${disk.events.length}, state ${n++}`;
      const rig = Rig.after(files, history.layersAt(moment), shape, seed, kill ? 1 : 2);
      const fault =
        history.judge(rig, moment, kill) ?? (pick(12) === 0 ? goOn(history, rig, moment, kill) : null);
      if (fault !== null) return `${where}: ${fault}`;
      for (const snapshot of history.snapshots) {
        if (snapshot.doneAt > moment) continue;
        const alone = Rig.after(files, snapshot.layers, shape, seed, 2, false);
        const wrong = history.judgeSnapshot(alone, snapshot);
        if (wrong !== null) return `${where}: ${wrong}`;
      }
    }
  }
  return null;
}

/** The survivor is used, and closed; what it then holds is the same, and what was written since. */
function goOn(history: History, rig: Rig, moment: number, kill: boolean): string | null {
  const spare = SIZE / BLOCK - 2;
  const later = new History(rig, [spare]);
  const failed = [
    ...later.run({ kind: 'write', sector: spare * 8, count: 8 }),
    ...later.run({ kind: 'flush' }),
  ];
  if (failed.length > 0) return `going on: ${failed.join()}`;
  if (rig.shut() !== 0) return 'it does not shut';
  // What the dead process had not finished, this one has.
  const unfinished = verifyFrozen(rig);
  if (unfinished !== null) return unfinished;
  if (
    rig.volume.chain.layers.some(layer => !layer.plain && !layer.clean && layer.nextWritten(0) !== Infinity)
  )
    return 'a layer was shut and is not clean';
  rig.open();
  return history.judge(rig, moment, kill) ?? later.judge(rig, later.now, false);
}

function play(
  seed: number,
  shape: Shape,
  blocks: readonly number[],
  steps: readonly (readonly Step[])[],
  cold: number,
): History {
  const rig = Rig.make(seed, shape);
  rig.disk.cold_percent = cold;
  const history = new History(rig, blocks);
  for (const together of steps) {
    for (const step of together) history.begin(step);
    const failed = history.end();
    if (failed.length > 0) throw new Error(`${history.steps.join(' ')}: ${failed.join()}`);
  }
  // Layers that were frozen are finished in moments that are cut too.
  rig.until(() => !rig.volume.busy, 'the end');
  return history;
}

const ALPHABET: Step[] = [
  { kind: 'write', sector: 0, count: 8 },
  { kind: 'write', sector: 3, count: 2 },
  { kind: 'trim', block: 0, count: 1 },
  { kind: 'flush' },
  { kind: 'snapshot' },
  { kind: 'idle' },
  { kind: 'kill' },
];

const asSteps = (steps: readonly Step[]): Step[][] => steps.map(step => [step]);

function* sequences(length: number): Generator<Step[]> {
  if (length === 0) return yield [];
  for (const first of ALPHABET) for (const rest of sequences(length - 1)) yield [first, ...rest];
}

function randomSteps(seed: number): Step[][] {
  const pick = random(seed);
  const steps: Step[][] = [];
  for (let n = 6 + pick(10); n > 0; n--) {
    const together: Step[] = [];
    const free = new Set(BLOCKS);
    for (let k = 1 + pick(3); k > 0; k--) {
      const block = BLOCKS[pick(BLOCKS.length)]!;
      if (!free.delete(block)) continue;
      const kind = pick(10);
      if (kind < 4) together.push({ kind: 'write', sector: block * 8, count: 8 });
      else if (kind < 6) together.push({ kind: 'write', sector: block * 8 + pick(7), count: 1 });
      else if (kind < 7) together.push({ kind: 'zero', block, count: 1 });
      else if (kind < 8) together.push({ kind: 'trim', block, count: 1 });
      else if (!together.some(step => step.kind === 'flush')) together.push({ kind: 'flush' });
    }
    const other = pick(8);
    if (other === 0) steps.push([{ kind: 'snapshot' }]);
    else if (other === 1) steps.push([{ kind: 'idle' }]);
    else if (other === 2) steps.push([{ kind: 'reopen' }]);
    else if (other === 3) steps.push([{ kind: 'kill' }]);
    if (together.length > 0) steps.push(together);
  }
  return steps;
}

/** A block of each region, and twice in the same order: the second time regions are opened before they are written. */
const EVERY = Array.from({ length: Math.ceil(SIZE / BLOCK / 1024) }, (_, region) => region * 1024);

function sweeps(seed: number): Step[][] {
  const pick = random(seed);
  const writes = asSteps(EVERY.map(block => ({ kind: 'write', sector: block * 8 + pick(8), count: 1 })));
  const begun: Step[] = [{ kind: 'flush' }, { kind: 'idle' }];
  const between: Step[] = [{ kind: 'snapshot' }, { kind: 'reopen' }, { kind: 'kill' }, { kind: 'flush' }];
  const steps = [...writes, ...asSteps(begun), ...writes];
  // A flush, and something else, somewhere in the second time.
  const at = writes.length + begun.length + 2 + pick(writes.length - 2);
  steps.splice(at, 0, [{ kind: 'flush' }], [between[pick(between.length)]!]);
  return steps;
}

const only = process.env['WEFT_SEED'];

for (const kill of [false, true]) {
  const what = kill ? 'kill -9' : 'a power cut';
  void t.test(`${what} in every short history`, async t => {
    let count = 0;
    for (const checksums of [true, false]) {
      for (const steps of sequences(checksums && !kill ? 3 : 2)) {
        // On a block that is committed, closed, and known to be on disk already.
        const before: Step[] = [ALPHABET[0]!, { kind: 'flush' }, { kind: 'idle' }];
        const shape = { size_bytes: SIZE, checksums };
        const begun = play(1, shape, FEW, asSteps(before), 0).now;
        const history = play(1, shape, FEW, asSteps([...before, ...steps]), 0);
        // What all have in common is looked at once.
        const fault = cut(history, shape, 1, 1, kill, count === 0 ? 0 : begun);
        if (fault !== null) return t.fail(`${history.steps.join(' ')}: ${fault}`);
        count++;
      }
    }
    t.pass(`${count} histories`);
  });

  void t.test(`${what} in random histories`, async t => {
    const first = only === undefined ? firstSeed : Number(only);
    const until = first + (only === undefined ? 4 : 1);
    for (let seed = first; seed < until; seed++) {
      const shape = { size_bytes: SIZE, checksums: seed % 4 !== 0 };
      const history = play(seed, shape, BLOCKS, randomSteps(seed), seed % 3 === 0 ? 30 : 0);
      const fault = cut(history, shape, seed, 4, kill);
      if (fault !== null) return t.fail(`WEFT_SEED=${seed}: ${history.steps.join(' ')}: ${fault}`);
    }
    t.pass(`seeds ${first} to ${until - 1}`);
  });

  void t.test(`${what} while regions are opened ahead`, async t => {
    const first = only === undefined ? firstSeed : Number(only);
    for (let seed = first; seed < first + (only === undefined ? 2 : 1); seed++) {
      const shape = { size_bytes: SIZE, checksums: true };
      const steps = sweeps(seed);
      const begun = play(seed, shape, EVERY, steps.slice(0, EVERY.length + 2), 0).now;
      const history = play(seed, shape, EVERY, steps, seed % 2 === 0 ? 30 : 0);
      const fault = cut(history, shape, seed, 3, kill, begun);
      if (fault !== null) return t.fail(`WEFT_SEED=${seed}: ${history.steps.join(' ')}: ${fault}`);
    }
    t.pass(`seeds from ${first}`);
  });
}
