import { z } from 'zod';
import { runConsole } from '../console.js';
import { duration_ms, durationOption } from '../options.js';
import { withProgress } from '../progress.js';
import type { Register } from '../resources.js';

const SLACK_MS = 30_000;
/** A stop without --timeout takes as long as the machine's stopTimeout, at most an hour. */
const LONGEST_MS = 3_600_000;

const VERBS = [
  { verb: 'start', doing: 'Starting', done: 'started', about: 'start it, and keep it running from now on' },
  {
    verb: 'stop',
    doing: 'Stopping',
    done: 'stopped',
    about: 'ask the guest to power off, and wait until it has',
  },
  {
    verb: 'kill',
    doing: 'Killing',
    done: 'killed',
    about: 'end it at once, as if its power cable were pulled',
  },
  { verb: 'reset', doing: 'Resetting', done: 'reset', about: 'press its reset button' },
  { verb: 'pause', doing: 'Pausing', done: 'paused', about: 'hold its processors; memory and devices stay' },
  { verb: 'resume', doing: 'Resuming', done: 'resumed', about: 'let its processors go on' },
] as const;

export const registerMachine: Register = (program, session) => {
  const machine = program.command('machine').description('start, stop and reach machines');
  for (const { verb, doing, done, about } of VERBS) {
    const command = machine.command(verb).description(about).argument('<machine...>', 'names of machines');
    if (verb === 'stop') {
      command.option(
        '--timeout <duration>',
        'how long the guest may take; default: its stopTimeout',
        duration_ms,
      );
    }
    command.action(async (names: string[], options: { timeout?: number }, self) => {
      const client = session.client(self);
      for (const name of names) {
        await withProgress(session, `${doing} machine ${name}`, () =>
          client.call('POST', `/v1/machines/${encodeURIComponent(name)}/${verb}`, z.object({}), {
            body: options.timeout === undefined ? {} : { timeout_ms: options.timeout },
            deadline_ms: (options.timeout ?? LONGEST_MS) + SLACK_MS,
          }),
        );
        session.print(`machine ${name} ${done}.`);
      }
    });
  }
  machine
    .command('console')
    .description('reach its serial line; leave with Ctrl-]')
    .argument('<machine>', 'name of a machine')
    .addOption(
      durationOption(
        '--linger <duration>',
        'when the input is not a terminal: how long to listen after its end',
        '1s',
      ),
    )
    .action(async (name: string, options: { linger: number }, self) => {
      await runConsole(session, session.client(self), name, options.linger);
    });
};
