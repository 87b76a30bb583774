/**
 * How results are shown: a table for people, and one RESULT line of JSON for programs. Pure.
 *
 *   tap-tcp, Gb/s, higher is better; 5 runs of 3 s each
 *                    median       min - max       weft is   its CPU   machine
 *   weft               9.90     9.71 - 10.02                 0.99        1.61
 *   linux-bridge      15.90    15.12 - 16.20        0.62 x      n/a      1.53
 */
import { OURS, median } from './bench.js';
import type { CaseResult, Row, Rounds, Sample } from './bench.js';

/** The shape that programs rely on; medians only. */
export interface Result {
  readonly bench: string;
  readonly cases: readonly {
    readonly name: string;
    readonly unit: string;
    readonly better: 'higher' | 'lower';
    readonly weft: number;
    readonly peers: Readonly<Record<string, number>>;
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

export function table(result: CaseResult, { rounds, seconds }: Rounds): string {
  const ours = result.rows.find(row => row.name === OURS);
  const lines = [
    ['', 'median', 'min - max', 'weft is', 'its CPU', 'machine'],
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

/** Null when ours has no figure for some case: then there is nothing to compare. */
export function resultOf(bench: string, results: readonly CaseResult[]): Result | null {
  const cases = [];
  for (const { case: useCase, rows } of results) {
    const ours = rows.find(row => row.name === OURS);
    if (ours === undefined || ours.samples.length === 0) return null;
    const peers = rows.filter(row => row !== ours && row.samples.length > 0);
    cases.push({
      name: useCase.name,
      unit: useCase.unit,
      better: useCase.better,
      weft: significant(medianOf(ours)),
      peers: Object.fromEntries(peers.map(row => [row.name, significant(medianOf(row))])),
    });
  }
  return cases.length === 0 ? null : { bench, cases };
}
