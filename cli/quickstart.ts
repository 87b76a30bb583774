/**
 * What `npm start` does once everything is built: brings up configs/quickstart.yaml, shows what its guests observe, stays, and
 * takes everything down at the end. With `once` it ends by itself when all is as expected.
 */
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { SystemStatus, type ConfigFile, type Resource } from '../control/api/contract.js';
import { parse } from '../control/model/parse.js';
import { applyShown } from './change.js';
import { Client } from './client.js';
import { ensureWeftd } from './daemon.js';
import { CliError, EXIT, NotRunningError } from './errors.js';
import { factRows, LineSplitter, parseFact, guestsOf, Witness } from './facts.js';
import { holdForeground } from './foreground.js';
import { processIo } from './processIo.js';
import { startProgress, type Progress, type ProgressRow } from './progress.js';
import { isReady, listResources } from './resources.js';
import { Session } from './session.js';
import { lookAt } from './settle.js';
import { shutDown } from './shutdown.js';
import { stateDirectory, statePaths, type StatePaths } from './state.js';
import { report } from './main.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const CONFIG = 'configs/quickstart.yaml';
const LOOK_EVERY_MS = 500;
/** What the show may take to end when it is told to: it may be waiting for an answer. */
const SHOW_END_MS = 2000;

export interface QuickstartOptions {
  once: boolean;
  /** With `once`: how long all may take. */
  timeout_ms: number;
  state: string | undefined;
}

export async function runQuickstart(options: QuickstartOptions): Promise<number> {
  const session = new Session(processIo({ outliveReader: true }));
  try {
    return await quickstart(session, options);
  } catch (error) {
    return report(session, error);
  }
}

export async function quickstart(session: Session, options: QuickstartOptions): Promise<number> {
  const paths = statePaths(stateDirectory(options.state, session.io));
  const client = new Client({ kind: 'unix', socketPath: paths.apiSocket, stateDirectory: paths.directory });
  const files = [{ path: CONFIG, text: await readFile(`${ROOT}/${CONFIG}`, 'utf8') }];
  let interrupted = false;
  const off = session.io.onSignal(() => (interrupted = true));
  const weftd = await ensureWeftd(session, client, paths).finally(off);
  if (interrupted) {
    if (weftd.started) await shutDown(session, client, { everything: true, timeout_ms: 0 });
    return EXIT.ok;
  }
  if (!weftd.started) await joinRunning(session, client, paths, files);

  const ending = new AbortController();
  const finished = new AbortController();
  const shown = show(session, client, paths, files, options, ending.signal);
  // Whatever ends the show (all seen, time is up, a wrong configuration) ends the foreground as Ctrl-C would.
  const verdict = shown.then(
    missing => ({ missing, error: undefined }),
    (error: unknown) => ({ missing: null, error }),
  );
  void verdict.then(() => finished.abort());
  await holdForeground(session, client, paths, weftd, {
    showEvents: false,
    onEnding: async () => {
      ending.abort();
      await Promise.race([verdict, sleep(SHOW_END_MS)]);
    },
    signal: finished.signal,
  });
  ending.abort();
  const { missing, error } = await verdict;
  if (error !== undefined && !(error instanceof Error && error.name === 'AbortError')) throw error;
  if (missing === null) return EXIT.ok;
  for (const row of missing) session.say(`missing: ${row.text}`);
  return missing.length === 0 ? EXIT.ok : EXIT.failure;
}

/** A weftd that runs already is used when it holds the quickstart, and left alone when it holds anything else. */
async function joinRunning(
  session: Session,
  client: Client,
  paths: StatePaths,
  files: readonly ConfigFile[],
): Promise<void> {
  const status = await client.call('GET', '/v1/status', SystemStatus);
  const ours = new Set(parse(files).declared.keys());
  const others = (await listResources(client)).filter(({ kind, name }) => !ours.has(`${kind}/${name}`));
  if (others.length > 0) {
    const named = others
      .slice(0, 5)
      .map(({ kind, name }) => `${kind} ${name}`)
      .join(', ');
    throw new CliError(
      'IN_USE',
      `weftd (pid ${status.pid}) already looks after another configuration in ${paths.directory}: ${named}${others.length > 5 ? ', …' : ''}`,
      {
        hint:
          'Ctrl-C here would take that down as well, so npm start leaves it alone. To add the quickstart to it: ' +
          `npx weft apply ${CONFIG}. To have it apart: WEFT_STATE=DIR npm start.`,
      },
    );
  }
  session.say(`weftd (pid ${status.pid}) is already running in ${paths.directory}; taking over from there.`);
}

/** Null when it was interrupted; with `once` what was still missing at the end. */
async function show(
  session: Session,
  client: Client,
  paths: StatePaths,
  files: ConfigFile[],
  options: QuickstartOptions,
  signal: AbortSignal,
): Promise<ProgressRow[] | null> {
  const deadlineAt_ms = Date.now() + options.timeout_ms;
  await applyShown(session, client, files, { prune: false, show: lines => session.printAll(lines) });
  const progress = startProgress(session);
  const witness = new Witness();
  const listeners = new Listeners(client, witness, signal);
  let announced = false;
  let rows: ProgressRow[] = [];
  try {
    for (;;) {
      if (signal.aborted) return null;
      const resources = await listResources(client, {}, signal).catch((error: unknown) => {
        // weftd is being started again, or we are about to end.
        if (error instanceof NotRunningError || signal.aborted) return null;
        throw error;
      });
      if (resources !== null) {
        listeners.update(resources);
        rows = [...foundationRows(resources), ...factRows(resources, witness)];
        progress.update(rows);
        const open = rows.filter(row => row.state !== 'ok');
        if (options.once && (open.length === 0 || Date.now() > deadlineAt_ms)) return open;
        if (open.length === 0 && !announced) {
          announced = true;
          announce(session, progress, paths, options);
        }
      }
      await sleep(LOOK_EVERY_MS, undefined, { signal }).catch(() => undefined);
    }
  } finally {
    progress.end();
  }
}

/** Everything that is no machine, in one row once it is ready. */
function foundationRows(resources: readonly Resource[]): ProgressRow[] {
  const others = resources.filter(({ kind }) => kind !== 'machine');
  const open = others.filter(resource => !isReady(resource));
  if (open.length > 0) return lookAt(open, null);
  const counts = new Map<string, number>();
  for (const { kind } of others) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  const text = [...counts]
    .map(([kind, n]) => `${n} ${kind}${n === 1 ? '' : kind === 'switch' ? 'es' : 's'}`)
    .join(', ');
  return [{ key: 'foundation', state: 'ok', text: `ready: ${text}` }];
}

/**
 * Reads the serial lines of the guests that run, each from its present boot on: what an earlier boot has said is
 * still in the log until then, and would be taken for news.
 */
class Listeners {
  readonly #client: Client;
  readonly #witness: Witness;
  readonly #signal: AbortSignal;
  readonly #followed = new Map<string, { bootId: string; stop: AbortController }>();

  constructor(client: Client, witness: Witness, signal: AbortSignal) {
    this.#client = client;
    this.#witness = witness;
    this.#signal = signal;
  }

  update(resources: readonly Resource[]): void {
    for (const { name, resource } of guestsOf(resources)) {
      const { state, bootId } = resource.status.observed;
      const running = state === 'running' && typeof bootId === 'string' ? bootId : null;
      const followed = this.#followed.get(name);
      if (followed?.bootId === (running ?? undefined)) continue;
      followed?.stop.abort();
      this.#followed.delete(name);
      this.#witness.forget(name);
      if (running === null) continue;
      const stop = new AbortController();
      this.#followed.set(name, { bootId: running, stop });
      void this.#follow(name, AbortSignal.any([this.#signal, stop.signal]));
    }
  }

  async #follow(name: string, signal: AbortSignal): Promise<void> {
    const path = `/v1/logs/machine/${encodeURIComponent(name)}`;
    while (!signal.aborted) {
      try {
        const response = await this.#client.stream('GET', path, { query: { follow: true }, signal });
        response.setEncoding('utf8');
        const splitter = new LineSplitter();
        for await (const text of response) {
          for (const line of splitter.push(String(text))) {
            const fact = parseFact(line);
            if (fact !== undefined && !signal.aborted) this.#witness.take(name, fact);
          }
        }
      } catch {
        // weftd is away for a moment: asked again below; what is missing shows as missing.
      }
      await sleep(LOOK_EVERY_MS, undefined, { signal }).catch(() => undefined);
    }
  }
}

function announce(session: Session, progress: Progress, paths: StatePaths, options: QuickstartOptions): void {
  const style = session.err;
  // The other terminal may not have our environment.
  const usual = stateDirectory(undefined, { ...session.io, env: {} }) === paths.directory;
  const weft = usual ? 'npx weft' : `npx weft --state ${paths.directory}`;
  const lines = [
    '',
    style.bold('All is as it should be: the guests say so themselves. Look around from another terminal:'),
    `  ${weft} get`,
    `  ${weft} machine console alice      leave with Ctrl-]`,
    `  ${weft} switch macs lan`,
    `  ${weft} events --follow`,
    `  curl --unix-socket ${paths.apiSocket} http://weft/v1/status`,
    `The configuration is ${CONFIG}. All state is in ${paths.directory}, the disks in pools/main there.`,
    'Ctrl-C takes everything down; the disks stay for the next time.',
    '',
  ];
  if (!options.once) for (const line of lines) progress.note(line);
}
