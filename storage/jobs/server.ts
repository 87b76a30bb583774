/**
 * What weft-storage has to do beside serving: a list of jobs, of which RUNNING_LIMIT run and the others wait their turn. What a
 * job asks of the desk is in bodies.ts; what it does with files happens in the jobs thread (main.ts).
 *
 *   waiting -> running -> done | failed | cancelled
 *
 * The list is in RAM only. Merges are not lost by a restart: they are what the catalogue shows to be left over, and `look` begins
 * them by itself, one at a time in a pool. A flatten or restore that was cut leaves nothing behind; backups leave a directory
 * that the next one removes. They are asked for again by whoever wanted them.
 */
import * as crypto from 'node:crypto';
import { JobRequest, type BackupEntry, type JobRequestInput, type JobStatus } from '../contract/jobs.js';
import { StorageError } from '../volume/errors.js';
import { runJob, type JobContext } from './bodies.js';
import type { JobDesk } from './desk.js';
import { JobError } from './errors.js';
import { Remaining } from './pace.js';
import { JobsThread } from './process.js';

/** At the same time; others wait. */
const RUNNING_LIMIT = 2;
const WAITING_LIMIT = 1000;
/** Of those that ended. */
const KEPT_LIMIT = 100;
const FINDINGS_LIMIT = 1000;
/** A merge that failed is not tried again by itself before. */
const MERGE_RETRY_MS = 60_000;
/** Progress is told at most so often. */
const TELL_MS = 1000;

export interface JobsParts {
  readonly now_ms: () => number;
  /** A job began, went on, or ended. */
  readonly onJob: (job: JobStatus) => void;
  readonly log: (message: string, details: object) => void;
}

interface Job {
  status: JobStatus;
  cancelled: boolean;
  cancel: ((stopping: boolean) => void) | null;
  told_ms: number;
  readonly remaining: Remaining;
  /** Begun by `look`. */
  readonly own: boolean;
}

export class Jobs {
  #desk: JobDesk;
  #parts: JobsParts;
  #thread = new JobsThread();
  #jobs = new Map<string, Job>();
  /** Layers whose merge failed, and when. */
  #failedMerges = new Map<string, number>();
  #stopping = false;
  #ends = new Set<Promise<void>>();
  #again: NodeJS.Timeout;

  constructor(desk: JobDesk, parts: JobsParts) {
    this.#desk = desk;
    this.#parts = parts;
    this.#again = setInterval(() => this.look(), MERGE_RETRY_MS).unref();
  }

  /** Throws JobError JOB_BUSY when a thousand wait already. What cannot be done shows as a failed job. */
  begin(request: JobRequestInput): JobStatus {
    return structuredClone(this.#add(JobRequest.parse(request), false).status);
  }

  /** Newest first. */
  list(): JobStatus[] {
    return [...this.#jobs.values()].map(job => structuredClone(job.status)).reverse();
  }

  /** Throws JOB_UNKNOWN. */
  get(id: string): JobStatus {
    return structuredClone(this.#require(id).status);
  }

  /** No change where it ended already. It may go on for a moment. Throws JOB_UNKNOWN. */
  cancel(id: string): JobStatus {
    const job = this.#require(id);
    this.#cancel(job);
    return structuredClone(job.status);
  }

  #cancel(job: Job): void {
    if (!isActive(job.status)) return;
    job.cancelled = true;
    if (job.status.state === 'waiting') this.#end(job, 'cancelled', 'cancelled before it began');
    else job.cancel?.(this.#stopping);
  }

  /** What backups a directory has. Throws BACKUP_PLACE. */
  async backups(directory: string): Promise<BackupEntry[]> {
    const { backups, problems } = await this.#thread.ask('list', { directory }).answer;
    if (problems.length > 0) this.#parts.log('backups that cannot be used', { directory, problems });
    return backups;
  }

  /** Begins merges that are due: to be called when a pool was opened, and after snapshots or volumes were deleted. */
  look(): void {
    if (this.#stopping) return;
    const busy = new Set(
      [...this.#jobs.values()]
        .filter(({ status }) => isActive(status) && status.request.kind === 'merge')
        .map(({ status }) => (status.request.kind === 'merge' ? status.request.pool : '')),
    );
    const now_ms = this.#parts.now_ms();
    for (const { pool, layer } of this.#desk.mergeable()) {
      const failed_ms = this.#failedMerges.get(layer);
      // A clock that was set back must not keep it waiting for ever.
      if (failed_ms !== undefined && Math.abs(now_ms - failed_ms) < MERGE_RETRY_MS) continue;
      if (busy.has(pool)) continue;
      busy.add(pool);
      this.#add({ kind: 'merge', pool, layer }, true);
    }
  }

  /** Ends what runs, which keeps what another try can go on with; resolves when nothing does. */
  async stop(): Promise<void> {
    this.#stopping = true;
    clearInterval(this.#again);
    for (const job of this.#jobs.values()) this.#cancel(job);
    await Promise.all(this.#ends);
    await this.#thread.stop();
  }

  /** For tests: the thread dies in the middle. */
  kill(): Promise<void> {
    return this.#thread.kill();
  }

  #add(request: JobRequest, own: boolean): Job {
    if (this.#stopping) throw new JobError('JOB_BUSY', 'weft-storage is stopping');
    const waiting = [...this.#jobs.values()].filter(({ status }) => status.state === 'waiting').length;
    if (waiting >= WAITING_LIMIT)
      throw new JobError('JOB_BUSY', `${waiting} jobs wait already: wait, or cancel some`);
    const status: JobStatus = {
      id: crypto.randomUUID(),
      request,
      state: 'waiting',
      startedAt_ms: this.#parts.now_ms(),
      endedAt_ms: null,
      done_bytes: 0,
      total_bytes: null,
      left_ms: null,
      message: null,
      findings: [],
    };
    const job: Job = {
      status,
      cancelled: false,
      cancel: null,
      told_ms: -Infinity,
      remaining: new Remaining(),
      own,
    };
    this.#jobs.set(status.id, job);
    this.#next();
    return job;
  }

  #next(): void {
    if (this.#stopping) return;
    let running = [...this.#jobs.values()].filter(({ status }) => status.state === 'running').length;
    for (const job of this.#jobs.values()) {
      if (running >= RUNNING_LIMIT) return;
      if (job.status.state !== 'waiting' || this.#mustWait(job)) continue;
      job.status.state = 'running';
      running++;
      const end = this.#run(job).finally(() => {
        this.#ends.delete(end);
        this.#next();
        this.look();
      });
      this.#ends.add(end);
    }
  }

  /** One at a time on a volume: a backup tidies up what others of its kind left. */
  #mustWait(job: Job): boolean {
    const volume = volumeOf(job.status.request);
    return (
      volume !== null &&
      [...this.#jobs.values()].some(
        ({ status }) => status.state === 'running' && volumeOf(status.request) === volume,
      )
    );
  }

  async #run(job: Job): Promise<void> {
    const { request } = job.status;
    this.#tell(job, true);
    const context: JobContext = {
      desk: this.#desk,
      now_ms: this.#parts.now_ms,
      isWanted: (pool, volume, snapshot) =>
        [...this.#jobs.values()].some(
          ({ status }) =>
            isActive(status) &&
            status.id !== job.status.id &&
            status.request.kind === 'backup' &&
            status.request.pool === pool &&
            status.request.volume === volume &&
            status.request.snapshot === snapshot,
        ),
      ask: async (kind, ask) => {
        if (job.cancelled)
          throw new JobError(
            this.#stopping ? 'JOB_STOPPED' : 'JOB_CANCELLED',
            'cancelled before its next step',
          );
        const rate_bytes_per_s = 'rate_bytes_per_s' in request ? request.rate_bytes_per_s : undefined;
        const asking = this.#thread.ask(kind, ask, {
          rate_bytes_per_s,
          watcher: {
            progress: (done_bytes, total_bytes) => {
              // What was read of an earlier try, and was not what it should be, is done twice.
              job.status.done_bytes = Math.min(done_bytes, total_bytes ?? Infinity);
              job.status.total_bytes = total_bytes;
              job.status.left_ms = job.remaining.left_ms(performance.now(), done_bytes, total_bytes);
              this.#tell(job, false);
            },
            found: finding => {
              if (job.status.findings.length < FINDINGS_LIMIT) job.status.findings.push(finding);
            },
          },
        });
        job.cancel = asking.cancel;
        try {
          return await asking.answer;
        } finally {
          job.cancel = null;
        }
      },
    };
    try {
      this.#end(job, 'done', await runJob(request, context));
    } catch (error) {
      const cancelled =
        error instanceof JobError && (error.code === 'JOB_CANCELLED' || error.code === 'JOB_STOPPED');
      const known = error instanceof JobError || error instanceof StorageError;
      if (request.kind === 'merge' && !cancelled) this.#failedMerges.set(request.layer, this.#parts.now_ms());
      if (!known) this.#parts.log('a job failed in a way that was not foreseen', { err: error });
      const message = error instanceof Error ? error.message : String(error);
      this.#end(job, cancelled ? 'cancelled' : 'failed', message);
    }
  }

  #end(job: Job, state: 'done' | 'failed' | 'cancelled', message: string): void {
    const { status } = job;
    status.state = state;
    status.message = message;
    status.endedAt_ms = this.#parts.now_ms();
    status.left_ms = null;
    if (state === 'done' && status.total_bytes !== null) status.done_bytes = status.total_bytes;
    const { kind } = status.request;
    this.#parts.log(`${kind} ${state}`, { job: status.id, message, findings: status.findings.length });
    this.#tell(job, true);
    const ended = [...this.#jobs.values()].filter(one => !isActive(one.status));
    // Our own merges are many when a long row of snapshots goes; they must not push out what people asked for.
    ended.sort((a, b) => Number(b.own) - Number(a.own));
    for (const { status: old } of ended.slice(0, Math.max(0, ended.length - KEPT_LIMIT)))
      this.#jobs.delete(old.id);
  }

  #tell(job: Job, always: boolean): void {
    const now_ms = this.#parts.now_ms();
    if (!always && Math.abs(now_ms - job.told_ms) < TELL_MS) return;
    job.told_ms = now_ms;
    this.#parts.onJob(structuredClone(job.status));
  }

  #require(id: string): Job {
    const job = this.#jobs.get(id);
    if (job === undefined) throw new JobError('JOB_UNKNOWN', `there is no job ${id}, or it ended long ago`);
    return job;
  }
}

function isActive({ state }: JobStatus): boolean {
  return state === 'waiting' || state === 'running';
}

function volumeOf(request: JobRequest): string | null {
  const { kind } = request;
  if (kind === 'merge' || kind === 'verify' || kind === 'scrub' || kind === 'prune') return null;
  return `${request.pool}/${request.volume}`;
}
