/**
 * The benchmarks' front door:  node dist/test/bench/main.js NAME [--group G]... [--case C]... [--quick]
 *
 * Prints a table for each case and, as the last line, RESULT and JSON. Ends with 0 when every case has a
 * figure of ours, 1 when not or when something failed, 2 when it was asked wrongly.
 */
import { parseArgs } from 'node:util';
import { tmpdir } from 'node:os';
import { Lab } from '../lab/harness/lab.js';
import { OURS } from './bench.js';
import type { Bench, CaseResult, Rounds, Teller } from './bench.js';
import { nbdBench } from './nbd/bench.js';
import { resultOf, table } from './report.js';
import { switchBench } from './switch/bench.js';
import { vblkBench } from './vblk/bench.js';
import { volumeBench } from './volume/bench.js';

class UsageError extends Error {}

const BENCHES: readonly Bench[] = [switchBench, nbdBench, vblkBench, volumeBench];

const HELP = `usage: bench NAME [--group GROUP]... [--case CASE]... [--quick] [--rounds N] [--seconds S] [--peer NAME]...

  NAME           what to measure, below
  --group GROUP  only the cases of this group; may be given again. Some run only when they are named
  --case CASE    only this case; may be given again
  --quick        fewer and shorter runs
  --rounds N     runs of each contender
  --seconds S    length of a run
  --peer NAME    beside ours only this peer; may be given again. "none": ours alone

${BENCHES.map(
  ({ name, about, groups }) =>
    `${name}: ${about}\n${groups
      .map(each => {
        const cases = each.cases.map(one => one.name).join(' ');
        return `  ${each.name.padEnd(14)} ${cases}${each.byName ? ' (by name only)' : ''}\n`;
      })
      .join('')}`,
).join('\n')}
The last line is RESULT and JSON with medians.
`;

interface Asked {
  readonly groups: readonly string[];
  readonly cases: readonly string[];
  readonly peers: readonly string[] | null;
  readonly quick: boolean;
  readonly rounds: number | null;
  readonly seconds: number | null;
}

function positive(text: string | undefined, option: string): number | null {
  if (text === undefined) return null;
  const value = Number(text);
  if (!(value > 0)) throw new UsageError(`--${option} wants a number above 0, not ${text}`);
  return value;
}

function pick<T extends { readonly name: string }>(
  all: readonly T[],
  names: readonly string[],
  what: string,
): T[] {
  const unknown = names.find(name => !all.some(one => one.name === name));
  if (unknown !== undefined) {
    throw new UsageError(`no ${what} ${unknown}; there are: ${all.map(one => one.name).join(', ')}`);
  }
  return names.length === 0 ? [...all] : all.filter(one => names.includes(one.name));
}

/** Where the runs have got to, on one line that is written over; nothing when nobody looks. */
function tell(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[2K${text}`);
}

async function runBench(bench: Bench, asked: Asked): Promise<number> {
  const named = asked.groups.length + asked.cases.length > 0;
  const groups = pick(bench.groups, asked.groups, 'group').filter(each => named || !each.byName);
  const cases = pick(
    groups.flatMap(each => each.cases),
    asked.cases,
    'case',
  ).map(each => each.name);
  const known = [...new Set(groups.flatMap(each => each.peers))].map(name => ({ name }));
  const peers = asked.peers?.includes('none')
    ? []
    : pick(known, asked.peers ?? [], 'peer').map(each => each.name);
  const preset = asked.quick ? bench.defaults.quick : bench.defaults.full;
  const rounds: Rounds = {
    rounds: Math.ceil(asked.rounds ?? preset.rounds),
    seconds: asked.seconds ?? preset.seconds,
  };
  const say = (text: string): void => {
    tell('');
    process.stdout.write(text);
  };
  const teller: Teller = {
    progress: tell,
    leftOut: (name, why) => say(`left out: ${name}: ${why}\n`),
    result: result => say(`\n${table(result, rounds)}\n`),
  };

  const results: CaseResult[] = [];
  for (const each of groups) {
    if (!each.cases.some(useCase => cases.includes(useCase.name))) continue;
    const lab = Lab.open(bench.home ?? tmpdir());
    try {
      results.push(...(await each.run(lab, { cases, peers, rounds, quick: asked.quick }, teller)));
    } finally {
      lab.close();
    }
  }
  const result = resultOf(bench.name, results);
  if (result === null || result.cases.length < cases.length) {
    const measured = new Set(result?.cases.map(one => one.name));
    const without = cases.filter(name => !measured.has(name)).join(', ');
    process.stderr.write(`bench ${bench.name}: no figures of ${OURS} for ${without}\n`);
  }
  if (result === null) return 1;
  process.stdout.write(`\nRESULT ${JSON.stringify(result)}\n`);
  return result.cases.length === cases.length ? 0 : 1;
}

async function main(args: string[]): Promise<number> {
  let parsed;
  try {
    parsed = parseArgs({
      args,
      allowPositionals: true,
      options: {
        group: { type: 'string', multiple: true },
        case: { type: 'string', multiple: true },
        peer: { type: 'string', multiple: true },
        quick: { type: 'boolean', default: false },
        rounds: { type: 'string' },
        seconds: { type: 'string' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
  const { values, positionals } = parsed;
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const asked: Asked = {
    groups: values.group ?? [],
    cases: values.case ?? [],
    peers: values.peer ?? null,
    quick: values.quick,
    rounds: positive(values.rounds, 'rounds'),
    seconds: positive(values.seconds, 'seconds'),
  };
  const [name, ...more] = positionals;
  const all = BENCHES.map(bench => bench.name).join(', ');
  if (name === undefined || more.length > 0) throw new UsageError(`give one benchmark of: ${all}`);
  const bench = BENCHES.find(one => one.name === name);
  if (bench === undefined) throw new UsageError(`no benchmark ${name}; there are: ${all}`);
  return runBench(bench, asked);
}

main(process.argv.slice(2)).then(
  status => process.exit(status),
  (error: unknown) => {
    const text = error instanceof Error ? error.message : String(error);
    process.stderr.write(`bench: ${text}\n`);
    if (error instanceof UsageError) process.stderr.write(HELP);
    process.exit(error instanceof UsageError ? 2 : 1);
  },
);
