/** Jobs with their real thread on a rig, a clock that goes backwards, and one volume `disk` of a group and a bit. */
import * as path from 'node:path';
import type { JobRequestInput as JobRequest, JobStatus } from '../../../storage/contract.js';
import { Jobs } from '../../../storage/jobs/server.js';
import { BLOCK_BYTES, GROUP_BLOCKS } from '../../../storage/layers/map.js';
import { Rig } from './rig.js';

export const BLOCKS = GROUP_BLOCKS + 1100;

export function make(
  t: { teardown(done: () => Promise<void>): void },
  options: { checksums?: boolean } = {},
) {
  const rig = new Rig();
  const ended = new Map<string, (status: JobStatus) => void>();
  const progressed: JobStatus[] = [];
  // A clock that goes backwards must disturb nothing.
  let now_ms = Date.now();
  const jobs = new Jobs(rig, {
    now_ms: () => (now_ms -= 1000),
    onJob: job => {
      progressed.push(job);
      if (job.endedAt_ms !== null) ended.get(job.id)?.(job);
    },
    log: () => undefined,
  });
  t.teardown(async () => {
    await jobs.stop();
    rig.close();
  });
  rig.addVolume('disk', BLOCKS * BLOCK_BYTES, options);
  const run = async (request: JobRequest): Promise<JobStatus> => {
    const { id } = jobs.begin(request);
    return new Promise(resolve => {
      ended.set(id, resolve);
      const status = jobs.get(id);
      if (status.endedAt_ms !== null) resolve(status);
    });
  };
  const target = path.join(rig.directory, 'backups');
  const backup = (more: object = {}): JobRequest => ({
    kind: 'backup',
    pool: 'p',
    volume: 'disk',
    target: { directory: target },
    full: false,
    ...more,
  });
  const restore = (backupName?: string, volume = 'disk'): JobRequest => ({
    kind: 'restore',
    pool: 'p',
    volume,
    source: { directory: target },
    sourceVolume: 'disk',
    overwrite: true,
    ...(backupName === undefined ? {} : { backup: backupName }),
  });
  return { rig, jobs, run, backup, restore, target, progressed };
}
