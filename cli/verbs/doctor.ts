import { execFile } from 'node:child_process';
import { Doctor } from '../../control/api/contract.js';
import { WEFTD_MAIN } from '../daemon.js';
import { CliError, EXIT, NotRunningError } from '../errors.js';
import { formatJson, outputOption, type OutputForm } from '../format.js';
import { withProgress } from '../progress.js';
import type { Register } from '../resources.js';
import type { Session } from '../session.js';
import { formatTable } from '../table.js';
import { harmless } from '../width.js';

const DOCTOR_DEADLINE_MS = 120_000;
const MAX_OUTPUT_BYTES = 1024 * 1024;

export const registerDoctor: Register = (program, session) => {
  program
    .command('doctor')
    .description('say what this machine has and lacks, and what to do; works without weftd')
    .addOption(outputOption(['table', 'json']))
    .action(async (options: { output: OutputForm }, command) => {
      const client = session.client(command);
      const doctor = await withProgress(session, 'Examining this machine', async () => {
        try {
          return await client.call('GET', '/v1/doctor', Doctor, { deadline_ms: DOCTOR_DEADLINE_MS });
        } catch (error) {
          if (!(error instanceof NotRunningError) || client.where.kind === 'tcp') throw error;
          return runDoctor(session, session.paths(command).directory);
        }
      });
      if (options.output === 'json') session.print(formatJson(doctor));
      else show(session, doctor);
      if (doctor.checks.some(check => check.status === 'missing')) session.exitCode = EXIT.failure;
    });
};

/** weftd's own examination, as a process that ends after it. */
function runDoctor(session: Session, stateDirectory: string): Promise<Doctor> {
  return new Promise((resolve, reject) => {
    execFile(
      process.execPath,
      [WEFTD_MAIN, '--doctor', '--state', stateDirectory],
      { timeout: DOCTOR_DEADLINE_MS, maxBuffer: MAX_OUTPUT_BYTES, env: { ...session.io.env } },
      (error, stdout, stderr) => {
        try {
          resolve(Doctor.parse(JSON.parse(stdout)));
        } catch (cause) {
          reject(
            new CliError(
              'DOCTOR',
              `the examination failed: ${(error?.message ?? String(cause)).slice(0, 2000)} ${stderr.slice(-2000)}`.trim(),
              {
                hint: 'Was the project built? "npm run build" does it.',
                cause,
              },
            ),
          );
        }
      },
    );
  });
}

function show(session: Session, { checks }: Doctor): void {
  const style = session.out;
  const paint = { ok: style.green, warning: style.yellow, missing: style.red };
  session.printAll(
    formatTable(
      ['CHECK', 'STATUS', 'FOUND'],
      checks.map(check => [check.name, { text: check.status, paint: paint[check.status] }, check.found]),
      style,
    ),
  );
  const open = checks.filter(check => check.advice !== null);
  if (open.length > 0) {
    session.print();
    for (const { name, advice } of open) session.print(`${style.bold(`${name}:`)} ${harmless(advice ?? '')}`);
  }
  const packages = [...new Set(open.flatMap(({ debianPackage }) => debianPackage ?? []))];
  if (packages.length > 0) {
    session.print();
    session.print(
      `On Debian: ${session.io.uid === 0 ? '' : 'sudo '}apt-get install --no-install-recommends ${packages.join(' ')}`,
    );
  }
}
