/**
 * Jobs of the storage plane as the CLI sees them: begun, watched to their end with a bar, told. A job belongs to the
 * plane: whoever watches may go away, and it goes on.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { storage } from '../../control/api/contract.js';
import type { Client } from '../client.js';
import { ApiError, CliError, NotRunningError } from '../errors.js';
import { formatBytes, formatJson, type OutputForm } from '../format.js';
import { startProgress } from '../progress.js';
import type { Session } from '../session.js';
import { formatTable } from '../table.js';
import { amountText } from './bar.js';

type JobStatus = storage.JobStatus;

export const JobList = z.object({ jobs: z.array(storage.JobStatus) });

/** 128 + SIGINT. */
const EXIT_INTERRUPTED = 130;
const RETRY_MS = 500;
/** weftd and the plane may be started anew meanwhile. */
const PATIENCE_MS = 60_000;

export const jobPath = (id: string, more = ''): string => `/v1/jobs/${encodeURIComponent(id)}${more}`;

/** `scrub main/web`. */
export function jobTitle({ request }: JobStatus): string {
  const { kind } = request;
  const about =
    'pool' in request
      ? [request.pool, 'volume' in request ? request.volume : undefined].filter(Boolean).join('/')
      : request.source.directory;
  return `${kind} ${about}`;
}

export interface JobOptions {
  wait: boolean;
  output: OutputForm;
}

/** Begins jobs and, unless not wanted, watches all to their end. Sets the exit code: 1 when something was found. */
export async function runJobs(
  session: Session,
  client: Client,
  requests: readonly storage.JobRequestInput[],
  { wait, output }: JobOptions,
): Promise<JobStatus[]> {
  const begun: JobStatus[] = [];
  for (const body of requests)
    begun.push(await client.call('POST', '/v1/jobs', storage.JobStatus, { body, deadline_ms: 70_000 }));
  const ended = wait
    ? await watchJobs(
        session,
        client,
        begun.map(({ id }) => id),
      )
    : begun;
  if (output === 'json') session.print(formatJson({ jobs: ended }));
  else if (!wait)
    for (const job of begun)
      session.print(`job ${job.id}: ${jobTitle(job)} has begun; "weft job watch ${job.id}" shows it.`);
  else for (const job of ended) tellEnd(session, job);
  if (wait) judge(ended);
  return ended;
}

/** How they ended, in the order asked. Ctrl-C leaves them going. */
export async function watchJobs(
  session: Session,
  client: Client,
  ids: readonly string[],
): Promise<JobStatus[]> {
  const interrupted = new AbortController();
  const off = session.io.onSignal(() => interrupted.abort());
  const progress = startProgress(session);
  const live = session.io.stderr.isTTY === true;
  const latest = new Map<string, { job: JobStatus; first: JobStatus; since_ms: number }>();
  const show = (): void =>
    progress.update(
      [...latest.values()].map(({ job, first, since_ms }) => ({
        key: job.id,
        state: job.state === 'done' ? 'ok' : job.endedAt_ms === null ? 'busy' : 'failed',
        // In a log one line for each state is enough.
        text: live
          ? `${jobTitle(job)}: ${job.state === 'running' ? amountText(job, Date.now() - since_ms, first.done_bytes) : job.state}`
          : `${jobTitle(job)}: ${job.state}`,
      })),
    );
  try {
    return await Promise.all(
      ids.map(async id => {
        for await (const job of follow(client, id, interrupted.signal)) {
          const known = latest.get(id);
          latest.set(
            id,
            known === undefined || known.first.state !== job.state
              ? { job, first: job, since_ms: Date.now() }
              : { ...known, job },
          );
          show();
          if (job.endedAt_ms !== null) return job;
        }
        throw new CliError('INTERRUPTED', `job ${id} goes on in the background`, {
          hint: `"weft job watch ${id}" shows it, "weft job cancel ${id}" ends it.`,
          exit: EXIT_INTERRUPTED,
        });
      }),
    );
  } finally {
    off();
    interrupted.abort();
    progress.end({ wipe: true });
  }
}

/** Each word on a job until its last, across restarts of weftd and the plane; ends early when `signal` aborts. */
async function* follow(client: Client, id: string, signal: AbortSignal): AsyncGenerator<JobStatus> {
  let deadlineAt_ms = Date.now() + PATIENCE_MS;
  while (!signal.aborted) {
    try {
      for await (const message of client.events('GET', jobPath(id, '/events'), { signal })) {
        const job = storage.JobStatus.parse(JSON.parse(message.data));
        deadlineAt_ms = Date.now() + PATIENCE_MS;
        yield job;
        if (job.endedAt_ms !== null) return;
      }
    } catch (error) {
      if (signal.aborted) return;
      const away =
        error instanceof NotRunningError ||
        (error instanceof ApiError && error.status >= 502) ||
        (error instanceof CliError && error.code === 'CONNECTION');
      if (!away || Date.now() > deadlineAt_ms) throw error;
    }
    await sleep(RETRY_MS, undefined, { signal }).catch(() => undefined);
  }
}

function tellEnd(session: Session, job: JobStatus): void {
  const words = [`${jobTitle(job)}: ${job.state}`];
  if (job.message !== null) words.push(job.message);
  else if (job.state === 'done') words.push(formatBytes(job.done_bytes));
  session.print(`${words.join(', ')}.`.replace(/\.\.$/, '.'));
  if (job.findings.length > 0) session.printAll(findingLines(session, job));
}

export function findingLines(session: Session, { findings }: JobStatus): string[] {
  const rows = findings.map(({ what, offset_bytes, length_bytes }) => [
    offset_bytes === null ? '-' : String(offset_bytes),
    length_bytes === null ? '-' : String(length_bytes),
    what,
  ]);
  return formatTable(['OFFSET', 'LENGTH', 'WHAT'], rows, session.out);
}

/** After all was told: a failure is an error of the command, findings too. */
export function judge(jobs: readonly JobStatus[]): void {
  const bad = jobs.find(({ state }) => state !== 'done');
  if (bad !== undefined)
    throw new CliError(
      'JOB_FAILED',
      `${jobTitle(bad)} ${bad.state}${bad.message === null ? '' : `: ${bad.message}`}`,
    );
  const found = jobs.reduce((sum, { findings }) => sum + findings.length, 0);
  if (found > 0)
    throw new CliError('DAMAGE_FOUND', `${found} damaged place${found === 1 ? ' was' : 's were'} found`, {
      hint: 'docs/operations.md says what to do about a damaged volume.',
    });
}
