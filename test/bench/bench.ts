/**
 * What a benchmark is made of, and how its runs are taken: in turn (ours, peer A, peer B, ours, …), so that
 * whatever else the machine does meanwhile falls on all alike; the median speaks for them.
 *
 * A benchmark (switch/, nbd/) has groups; a group brings cases and those who contend in them, and has a lab of
 * its own, which is closed before the next group's is opened. One contender is ours; there may be others of ours
 * under names of their own (`weft-engine`), which stand among the peers. This file knows nothing of switches or
 * disks.
 */
import { readFileSync } from 'node:fs';
import type { Lab } from '../lab/harness/lab.js';

export const OURS = 'weft';

export interface Sample {
  /** In the case's unit. */
  readonly value: number;
  /** How long the load ran. */
  readonly seconds: number;
  /** The same with the load generator's own start and end. */
  readonly elapsed_s: number;
  /** How much got through in all, in the case's `per`; the machine's processor time is shared out over it. */
  readonly work?: number;
  /** User and system time of the process under test during the run; null when it is in the kernel. */
  readonly processCpu_s: number | null;
  /** The same of the whole machine: the load's generator, the kernel, and whatever else ran. */
  readonly machineCpu_s: number;
}

/** A program under test that is up and ready to be measured. */
export interface Contender<C extends Case> {
  readonly name: string;
  measure(useCase: C, seconds: number): Promise<Sample>;
}

export interface Case {
  readonly name: string;
  readonly unit: string;
  readonly better: 'higher' | 'lower';
  /** What processor time is told for, such as `Gb`, where a sample says how much of it got through. */
  readonly per?: string;
  /** Whose processor time that is: the machine's, if it does not say. */
  readonly cpuOf?: 'machine' | 'process';
}

export interface ContenderSource<C extends Case> {
  readonly name: string;
  /** In words why it cannot take part; false when it can. */
  missing(): string | false;
  /** Cases that it takes part in; all, if it does not say. */
  takes?(useCase: C): boolean;
  start(lab: Lab, options: RunOptions): Promise<Contender<C>>;
}

export interface RunOptions {
  readonly quick: boolean;
}

/** Cases that are put to the same contenders in the same surroundings. */
export interface GroupOf<C extends Case> {
  readonly name: string;
  /** Runs only when it, or a case of it, is named. */
  readonly byName?: boolean;
  readonly cases: readonly C[];
  /** Ours first. They are started one after the other when the group's turn comes, and stay up through its cases. */
  readonly contenders: readonly ContenderSource<C>[];
}

export interface Choice extends RunOptions {
  /** Names of cases, of this group or not. */
  readonly cases: readonly string[];
  /** Names of peers; ours takes part anyway. */
  readonly peers: readonly string[];
  readonly rounds: Rounds;
}

/** How a run tells what it does. */
export interface Teller {
  /** Where it has got to. */
  progress(text: string): void;
  /** Why somebody does not take part. */
  leftOut(name: string, why: string): void;
  result(result: CaseResult): void;
}

/** A group whose own kind of case is nobody else's business. */
export interface Group {
  readonly name: string;
  readonly byName: boolean;
  readonly cases: readonly Case[];
  readonly peers: readonly string[];
  run(lab: Lab, choice: Choice, teller: Teller): Promise<CaseResult[]>;
}

export function group<C extends Case>(definition: GroupOf<C>): Group {
  return {
    name: definition.name,
    byName: definition.byName ?? false,
    cases: definition.cases,
    peers: definition.contenders.map(source => source.name).filter(name => name !== OURS),
    run: async (lab, choice, teller) => runGroup(definition, lab, choice, teller),
  };
}

export interface Bench {
  readonly name: string;
  readonly about: string;
  readonly groups: readonly Group[];
  readonly defaults: { readonly full: Rounds; readonly quick: Rounds };
  /** Which directory measured files lie in, when any do. */
  readonly home?: string;
}

export interface Rounds {
  readonly rounds: number;
  readonly seconds: number;
}

export interface Row {
  readonly name: string;
  readonly samples: readonly Sample[];
}

export interface CaseResult {
  readonly case: Case;
  /** Ours first, if it took part. */
  readonly rows: readonly Row[];
}

async function runGroup<C extends Case>(
  { name: groupName, cases, contenders: sources }: GroupOf<C>,
  lab: Lab,
  choice: Choice,
  teller: Teller,
): Promise<CaseResult[]> {
  const chosen = cases.filter(useCase => choice.cases.includes(useCase.name));
  const running: { source: ContenderSource<C>; contender: Contender<C> }[] = [];
  for (const source of sources) {
    if (source.name !== OURS && !choice.peers.includes(source.name)) continue;
    if (!chosen.some(useCase => takes(source, useCase))) continue;
    const why = source.missing();
    if (why !== false) {
      teller.leftOut(source.name, why);
      continue;
    }
    teller.progress(`starting ${source.name}`);
    try {
      running.push({ source, contender: await source.start(lab, choice) });
    } catch (error) {
      teller.leftOut(source.name, `cannot be started for ${groupName}: ${wordsOf(error)}`);
    }
  }
  const results: CaseResult[] = [];
  for (const useCase of chosen) {
    const taking = running.filter(({ source }) => takes(source, useCase)).map(({ contender }) => contender);
    if (taking.length === 0) continue;
    const result = await runCase(useCase, taking, choice.rounds, teller);
    if (result.rows.length === 0) continue;
    teller.result(result);
    results.push(result);
  }
  return results;
}

const takes = <C extends Case>(source: ContenderSource<C>, useCase: C): boolean =>
  source.takes === undefined || source.takes(useCase);

export async function runCase<C extends Case>(
  useCase: C,
  contenders: readonly Contender<C>[],
  { rounds, seconds }: Rounds,
  teller: Pick<Teller, 'progress' | 'leftOut'>,
): Promise<CaseResult> {
  const samples = new Map(contenders.map(({ name }) => [name, [] as Sample[]]));
  for (let round = 0; round < rounds; round++) {
    for (const contender of contenders) {
      const { name } = contender;
      const own = samples.get(name);
      if (own === undefined) continue;
      teller.progress(`${useCase.name}: round ${round + 1} of ${rounds}, ${name}`);
      try {
        own.push(await contender.measure(useCase, seconds));
      } catch (error) {
        // What it did before counts no more: it did not do what the others did.
        samples.delete(name);
        teller.leftOut(name, `${useCase.name}: ${wordsOf(error)}`);
      }
    }
  }
  return { case: useCase, rows: [...samples].map(([name, own]) => ({ name, samples: own })) };
}

const wordsOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** sysconf(_SC_CLK_TCK): 100 on every Linux that Node runs on. */
const CLOCK_TICKS_PER_S = 100;

/** proc(5), /proc/stat: user, nice, system, irq and softirq of all processors; not idle, iowait or stolen time. */
export function machineCpuTime_s(): number {
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = (
    readFileSync('/proc/stat', 'latin1').split('\n')[0] ?? ''
  )
    .split(/\s+/)
    .slice(1)
    .map(Number);
  return (user + nice + system + irq + softirq) / CLOCK_TICKS_PER_S;
}

/** Run `work` and say how much processor time went by meanwhile. `processCpu_s` is null for the kernel's own. */
export async function meter(
  processCpu_s: (() => number | null) | null,
  work: () => Promise<{ value: number; seconds: number; work?: number }>,
): Promise<Sample> {
  const startedAt_ms = performance.now();
  const machineBefore_s = machineCpuTime_s();
  const before_s = processCpu_s?.() ?? null;
  const { value, seconds, work: amount } = await work();
  const after_s = processCpu_s?.() ?? null;
  return {
    value,
    seconds,
    ...(amount === undefined ? {} : { work: amount }),
    elapsed_s: (performance.now() - startedAt_ms) / 1000,
    processCpu_s: before_s === null || after_s === null ? null : after_s - before_s,
    machineCpu_s: machineCpuTime_s() - machineBefore_s,
  };
}
