/**
 * How results are shown: a table for people, and one RESULT line of JSON for programs. Pure.
 *
 *   tap-tcp, Gb/s, higher is better; 5 runs of 3 s each
 *                    median       min - max       weft is   its CPU   machine    s/Gb
 *   weft               9.90     9.71 - 10.02                 0.99        1.61   0.163
 *   linux-bridge      15.90    15.12 - 16.20        0.62 x      n/a      1.53   0.096
 *
 * "its CPU" and "machine" are cores in use; "s/Gb" is processor time of the whole machine for each gigabit, or, where a
 * case says so, of the process under test alone.
 */
import { OURS, median } from './bench.js';
import type { Case, CaseResult, Row, Rounds, Sample } from './bench.js';

/** The shape that programs rely on; medians only. */
export interface Result {
  readonly bench: string;
  readonly cases: readonly {
    readonly name: string;
    readonly unit: string;
    readonly better: 'higher' | 'lower';
    readonly weft: number;
    readonly peers: Readonly<Record<string, number>>;
    /** Seconds of processor time for each of `per`, where the case tells them: of the whole machine, or of the process under test. */
    readonly cpu_s?: {
      readonly per: string;
      readonly of: 'machine' | 'process';
      readonly weft: number;
      readonly peers: Readonly<Record<string, number>>;
    };
  }[];
}

export const medianOf = (row: Row): number => median(row.samples.map(sample => sample.value));

/** Four digits are more than the spread allows, and no long tails in JSON. */
export function significant(value: number): number {
  return value === 0 ? 0 : Number(value.toPrecision(4));
}

const shown = (value: number): string =>
  value >= 1000 ? value.toFixed(0) : value >= 100 ? value.toFixed(1) : value.toFixed(2);

/**
 * Processor time for each second: 1.00 is one core all the time. The process under test works only while the
 * load runs, the machine also while the load generator starts and ends.
 */
function cores(samples: readonly Sample[], of: 'process' | 'machine'): string {
  let used_s = 0;
  let seconds = 0;
  for (const sample of samples) {
    const one_s = of === 'process' ? sample.processCpu_s : sample.machineCpu_s;
    if (one_s === null) return 'n/a';
    used_s += one_s;
    seconds += of === 'process' ? sample.seconds : sample.elapsed_s;
  }
  return seconds === 0 ? 'n/a' : (used_s / seconds).toFixed(2);
}

/** Processor time for each piece of work, over all samples; null where samples do not say. */
export function cpuPerWork_s(row: Row, of: 'machine' | 'process' = 'machine'): number | null {
  let used_s = 0;
  let work = 0;
  for (const sample of row.samples) {
    const one_s = of === 'machine' ? sample.machineCpu_s : sample.processCpu_s;
    if (sample.work === undefined || one_s === null) return null;
    used_s += one_s;
    work += sample.work;
  }
  return work === 0 ? null : used_s / work;
}

export function table(result: CaseResult, { rounds, seconds }: Rounds): string {
  const ours = result.rows.find(row => row.name === OURS);
  const { per, cpuOf } = result.case;
  const lines = [
    ['', 'median', 'min - max', 'weft is', 'its CPU', 'machine', ...(per === undefined ? [] : [`s/${per}`])],
    ...result.rows.map(row => {
      const values = row.samples.map(sample => sample.value);
      const ratio =
        ours === undefined || row === ours ? '' : `${(medianOf(ours) / medianOf(row)).toFixed(2)} x`;
      return [
        row.name,
        shown(medianOf(row)),
        `${shown(Math.min(...values))} - ${shown(Math.max(...values))}`,
        ratio,
        cores(row.samples, 'process'),
        cores(row.samples, 'machine'),
        ...(per === undefined ? [] : [cpuPerWork_s(row, cpuOf)?.toFixed(3) ?? 'n/a']),
      ];
    }),
  ];
  const widths = lines[0]!.map((_cell, column) => Math.max(...lines.map(line => line[column]!.length)));
  const body = lines.map(line =>
    line
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]! + 3)))
      .join('')
      .trimEnd(),
  );
  const { name, unit, better } = result.case;
  return [`${name}, ${unit}, ${better} is better; ${rounds} runs of ${seconds} s each`, ...body].join('\n');
}

function costs(
  { per, cpuOf: of = 'machine' }: Case,
  ours: Row,
  peers: readonly Row[],
): Pick<Result['cases'][number], 'cpu_s'> {
  const cost_s = cpuPerWork_s(ours, of);
  if (per === undefined || cost_s === null) return {};
  const others = peers.flatMap(row => {
    const one_s = cpuPerWork_s(row, of);
    return one_s === null ? [] : [[row.name, significant(one_s)] as const];
  });
  return { cpu_s: { per, of, weft: significant(cost_s), peers: Object.fromEntries(others) } };
}

/** Cases of which ours has a figure; null when there is none: then there is nothing to compare. */
export function resultOf(bench: string, results: readonly CaseResult[]): Result | null {
  const cases = [];
  for (const { case: useCase, rows } of results) {
    const ours = rows.find(row => row.name === OURS);
    if (ours === undefined || ours.samples.length === 0) continue;
    const peers = rows.filter(row => row !== ours && row.samples.length > 0);
    cases.push({
      name: useCase.name,
      unit: useCase.unit,
      better: useCase.better,
      weft: significant(medianOf(ours)),
      peers: Object.fromEntries(peers.map(row => [row.name, significant(medianOf(row))])),
      ...costs(useCase, ours, peers),
    });
  }
  return cases.length === 0 ? null : { bench, cases };
}
