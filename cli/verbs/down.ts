import type { Register } from '../resources.js';
import { ensureWeftd, isServing } from '../daemon.js';
import { durationOption } from '../options.js';
import { anythingRunning, shutDown } from '../shutdown.js';

interface Options {
  keepGuests: boolean;
  timeout: number;
}

export const registerDown: Register = (program, session) => {
  program
    .command('down')
    .description('shut everything down: machines gracefully, then the planes, then weftd; disks stay')
    .option(
      '--keep-guests',
      'end only weftd; machines, network and disks go on, the next weftd takes them over',
      false,
    )
    .addOption(
      durationOption('--timeout <duration>', 'how long machines may take before they are killed', '60s'),
    )
    .action(async (options: Options, command) => {
      const client = session.client(command);
      if (!(await isServing(client))) {
        // Without weftd its planes and guests may still run: a new weftd takes them over, to end them in order.
        const paths = session.paths(command);
        if (client.where.kind === 'tcp' || options.keepGuests || !(await anythingRunning(paths))) {
          session.print('Nothing is running.');
          return;
        }
        await ensureWeftd(session, client, paths);
      }
      await shutDown(session, client, { everything: !options.keepGuests, timeout_ms: options.timeout });
      session.print(
        options.keepGuests
          ? 'weftd has ended; machines, network and disks go on.'
          : 'Everything is down; the disks stay.',
      );
    });
};
