/**
 * The `weft` command: joins the verbs, runs the one that was asked for, turns what went wrong into words and an exit
 * code. Everything below gets its streams and its environment from here, so that tests run it in their own process.
 */
import { realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Command, CommanderError } from 'commander';
import { ApiError, CliError, EXIT } from './errors.js';
import { ConfigurationError } from './change.js';
import { processIo } from './processIo.js';
import { Session, type Io } from './session.js';
import { optionDescription } from './options.js';
import { VERSION } from './version.js';
import { registerApply } from './verbs/apply.js';
import { registerBackup } from './verbs/backup.js';
import { registerCompletion } from './verbs/completion.js';
import { registerConfig } from './verbs/config.js';
import { registerDelete } from './verbs/delete.js';
import { registerDescribe } from './verbs/describe.js';
import { registerDoctor } from './verbs/doctor.js';
import { registerDown } from './verbs/down.js';
import { registerEvents } from './verbs/events.js';
import { registerGet } from './verbs/get.js';
import { registerImage } from './verbs/image.js';
import { registerJob } from './verbs/job.js';
import { registerLogs } from './verbs/logs.js';
import { registerMachine } from './verbs/machine.js';
import { registerPlan } from './verbs/plan.js';
import { registerPool } from './verbs/pool.js';
import { registerStatus } from './verbs/status.js';
import { registerSwitch } from './verbs/switch.js';
import { registerTls } from './verbs/tls.js';
import { registerUp } from './verbs/up.js';
import { registerVersion } from './verbs/version.js';
import { registerVolume } from './verbs/volume.js';
import { formatProblems } from './problems.js';

export function makeProgram(session: Session): Command {
  const program = new Command('weft')
    .description('Network and storage under virtual machines, from one set of configuration files.')
    .version(VERSION, '-V, --version', 'print the version of this command')
    .option(
      '--state <dir>',
      'state directory of the weftd that is meant (default: $WEFT_STATE, else by user)',
    )
    .option('--url <url>', 'reach weftd by TCP at http://HOST:PORT instead')
    .option('--token-file <file>', 'token for --url')
    .configureHelp({ sortSubcommands: false, showGlobalOptions: true, optionDescription })
    .configureOutput({
      writeOut: text => void session.io.stdout.write(text),
      writeErr: text => void session.io.stderr.write(text),
      getOutHelpWidth: () => session.io.stdout.columns ?? 100,
      getErrHelpWidth: () => session.io.stderr.columns ?? 100,
      getOutHasColors: () => false,
      getErrHasColors: () => false,
      outputError: (text, write) => write(text.replace(/^error: /, `${session.err.red('error:')} `)),
    })
    .exitOverride();
  // In the order in which a newcomer needs them.
  for (const register of [
    registerUp,
    registerPlan,
    registerApply,
    registerGet,
    registerDescribe,
    registerDelete,
    registerStatus,
    registerEvents,
    registerLogs,
    registerMachine,
    registerSwitch,
    registerVolume,
    registerPool,
    registerBackup,
    registerJob,
    registerTls,
    registerImage,
    registerConfig,
    registerDoctor,
    registerDown,
    registerCompletion,
    registerVersion,
  ]) {
    register(program, session);
  }
  program.addHelpText(
    'after',
    `
A first look:
  weft up configs/quickstart.yaml    start weft if it does not run, apply, wait until all is ready
  weft get                           what there is, and whether it is as asked for
  weft machine console alice         a machine's serial line
  weft down                          end everything; disks stay

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 there are changes (plan --exit-code).`,
  );
  return program;
}

/** Runs one command line (without node and script). Resolves to the exit code; never rejects. */
export async function run(argv: readonly string[], io: Io): Promise<number> {
  const session = new Session(io);
  try {
    const program = makeProgram(session);
    if (argv.length === 0) {
      program.outputHelp({ error: true });
      return EXIT.usage;
    }
    await program.parseAsync([...argv], { from: 'user' });
    return session.exitCode;
  } catch (error) {
    return report(session, error);
  }
}

/** Says what went wrong; the exit code for it. */
export function report(session: Session, error: unknown): number {
  if (error instanceof CommanderError) {
    // Commander has printed already: help and version are successes, all else is wrong usage.
    return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
  }
  const red = session.err.red('error:');
  if (error instanceof CliError) {
    if (error instanceof ApiError && !(error instanceof ConfigurationError) && error.problems.length > 0) {
      const options = { excerpts: false, style: session.err };
      for (const line of formatProblems(error.problems, [], options)) session.say(line);
    }
    session.say(`${red} ${error.message}`);
    if (error.hint !== undefined) session.say(`  ${error.hint}`);
    return error.exit;
  }
  // Ours to mend: all there is to know is worth showing.
  session.say(`${red} ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  session.say('  This is a fault in weft itself; please report it with the lines above.');
  return EXIT.failure;
}

function isMain(): boolean {
  const script = process.argv[1];
  if (script === undefined) return false;
  const real = realpathSync(script);
  return real === fileURLToPath(import.meta.url) || real.endsWith('/bin/weft.js');
}

if (isMain()) {
  const code = await run(process.argv.slice(2), processIo());
  // Not process.exit(): what is still to be written to a pipe would be lost. Open handles are nobody's any more.
  process.exitCode = code;
  process.stdin.destroy();
  // Detached children and pooled sockets are unref'd; whatever else lingers must not hold the shell.
  process.stdout.write('', () => process.stderr.write('', () => process.exit(code)));
}
