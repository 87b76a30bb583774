/**
 * The benchmarks' front door:  node dist/test/bench/main.js NAME [--case C]... [--quick]
 *
 * Prints a table for each case and, as the last line, RESULT and JSON. Ends with 0 when every case has a
 * figure of ours, 1 when not or when something failed, 2 when it was asked wrongly.
 */
import { parseArgs } from 'node:util';
import { tmpdir } from 'node:os';
import { Lab } from '../lab/harness/lab.js';
import { OURS, runCase } from './bench.js';
import type { Bench, Case, Contender, Rounds } from './bench.js';
import { nbdBench } from './nbd/bench.js';
import { resultOf, table } from './report.js';
import { switchBench } from './switch/bench.js';

class UsageError extends Error {}

const HELP = `usage: bench NAME [--case CASE]... [--quick] [--rounds N] [--seconds S] [--peer NAME]...

  NAME           ${switchBench.name}: ${switchBench.about}
                 ${nbdBench.name}: ${nbdBench.about}
  --case CASE    only this case; may be given again
  --quick        fewer and shorter runs, under 45 s for all cases
  --rounds N     runs of each contender
  --seconds S    length of a run
  --peer NAME    beside ours only this peer; may be given again. "none": ours alone

The last line is RESULT and JSON with medians.
`;

interface Asked {
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

async function runBench<C extends Case>(bench: Bench<C>, asked: Asked): Promise<number> {
  const cases = pick(bench.cases, asked.cases, 'case');
  const peers = bench.contenders.filter(source => source.name !== OURS);
  const chosen =
    asked.peers === null ? peers : asked.peers.includes('none') ? [] : pick(peers, asked.peers, 'peer');
  const preset = asked.quick ? bench.defaults.quick : bench.defaults.full;
  const rounds: Rounds = {
    rounds: Math.ceil(asked.rounds ?? preset.rounds),
    seconds: asked.seconds ?? preset.seconds,
  };

  const lab = Lab.open(bench.home ?? tmpdir());
  try {
    const contenders: Contender<C>[] = [];
    for (const source of bench.contenders) {
      if (source.name !== OURS && !chosen.includes(source)) continue;
      const why = source.missing();
      if (why === false) {
        tell(`starting ${source.name}`);
        contenders.push(await source.start(lab, { quick: asked.quick }));
      } else {
        tell('');
        process.stdout.write(`left out: ${source.name}: ${why}\n`);
      }
    }
    const results = [];
    for (const useCase of cases) {
      if (contenders.length === 0) break;
      const result = await runCase(useCase, contenders, rounds, tell);
      tell('');
      process.stdout.write(`\n${table(result, rounds)}\n`);
      results.push(result);
    }
    const result = resultOf(bench.name, results);
    if (result === null) {
      process.stderr.write(`bench ${bench.name}: no figures of ${OURS}, so no RESULT\n`);
      return 1;
    }
    process.stdout.write(`\nRESULT ${JSON.stringify(result)}\n`);
    return 0;
  } finally {
    lab.close();
  }
}

async function main(args: string[]): Promise<number> {
  let parsed;
  try {
    parsed = parseArgs({
      args,
      allowPositionals: true,
      options: {
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
    cases: values.case ?? [],
    peers: values.peer ?? null,
    quick: values.quick,
    rounds: positive(values.rounds, 'rounds'),
    seconds: positive(values.seconds, 'seconds'),
  };
  const [name, ...more] = positionals;
  if (name === undefined || more.length > 0) throw new UsageError('give one benchmark: switch or nbd');
  if (name === switchBench.name) return runBench(switchBench, asked);
  if (name === nbdBench.name) return runBench(nbdBench, asked);
  throw new UsageError(`no benchmark ${name}; there are: ${switchBench.name}, ${nbdBench.name}`);
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
