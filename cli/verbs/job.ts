/** `weft job …`: work on volumes that goes on in the background. */
import type { Command } from 'commander';
import { storage } from '../../control/api/contract.js';
import { formatAge, formatBytes, formatJson, formatYaml, outputOption, type OutputForm } from '../format.js';
import type { Register } from '../resources.js';
import { timeText } from '../storage/bar.js';
import { JobList, findingLines, jobPath, jobTitle, judge, watchJobs } from '../storage/jobs.js';
import { formatTable } from '../table.js';

export const registerJob: Register = (program, session) => {
  const group = program.command('job').description('scrubs, backups and other work that goes on');

  group
    .command('list')
    .alias('ls')
    .description('list jobs: those that go on, and the last that have ended')
    .addOption(outputOption(['table', 'yaml', 'json']))
    .action(async (options: { output: OutputForm }, command: Command) => {
      const reply = await session.client(command).call('GET', '/v1/jobs', JobList);
      if (options.output === 'json') return session.print(formatJson(reply));
      if (options.output === 'yaml') return session.print(formatYaml(reply));
      const { out: style } = session;
      const now_ms = Date.now();
      const rows = reply.jobs.map(job => [
        job.id,
        jobTitle(job),
        {
          text: job.state,
          paint: job.state === 'failed' ? style.red : job.state === 'done' ? style.green : style.yellow,
        },
        howFar(job),
        formatAge(now_ms - job.startedAt_ms),
        job.findings.length === 0 ? '-' : String(job.findings.length),
        job.message ?? '',
      ]);
      session.printAll(formatTable(['JOB', 'WHAT', 'STATE', 'DONE', 'AGE', 'FOUND', 'MESSAGE'], rows, style));
    });

  group
    .command('watch')
    .description('show how a job gets on, until it ends; Ctrl-C leaves it going')
    .argument('<job>', 'as "weft job list" shows them')
    .addOption(outputOption(['table', 'json']))
    .action(async (id: string, options: { output: OutputForm }, command: Command) => {
      const [job] = await watchJobs(session, session.client(command), [id]);
      if (job === undefined) return;
      if (options.output === 'json') session.print(formatJson(job));
      else {
        session.print(`${jobTitle(job)}: ${[job.state, job.message].filter(Boolean).join(', ')}`);
        if (job.findings.length > 0) session.printAll(findingLines(session, job));
      }
      judge([job]);
    });

  group
    .command('cancel')
    .description('end a job; what it was about stays whole')
    .argument('<job>', 'as "weft job list" shows them')
    .action(async (id: string, _options: unknown, command: Command) => {
      const job = await session.client(command).call('DELETE', jobPath(id), storage.JobStatus, {
        deadline_ms: 70_000,
      });
      session.print(`job ${id} (${jobTitle(job)}): ${job.state}.`);
    });
};

function howFar({ done_bytes, total_bytes, left_ms }: storage.JobStatus): string {
  if (total_bytes === null || total_bytes === 0) return formatBytes(done_bytes);
  const left = typeof left_ms === 'number' ? `, ${timeText(left_ms / 1000)} left` : '';
  return `${Math.floor((done_bytes / total_bytes) * 100)}% of ${formatBytes(total_bytes)}${left}`;
}
