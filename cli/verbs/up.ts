import { applyShown } from '../change.js';
import { tableOf } from '../columns.js';
import { ensureWeftd } from '../daemon.js';
import { UsageError } from '../errors.js';
import { gatherFiles } from '../files.js';
import { holdForeground } from '../foreground.js';
import { durationOption } from '../options.js';
import type { Register } from '../resources.js';
import { settle } from '../settle.js';
import { formatTable } from '../table.js';

interface Options {
  prune: boolean;
  timeout: number;
  listen?: string;
  foreground: boolean;
}

export const registerUp: Register = (program, session) => {
  program
    .command('up')
    .description('start weftd if it does not run, apply these files, wait until all is ready')
    .argument('[file...]', 'configuration files, directories of *.yaml, or -; none: what was applied before')
    .option('--prune', 'delete resources that the files do not mention (never their data)', false)
    .addOption(durationOption('--timeout <duration>', 'how long to wait', '10m'))
    .option(
      '--listen <host:port>',
      'let the API be reached by TCP as well, with the token in the state directory',
    )
    .option('--foreground', 'stay, show events; Ctrl-C shuts everything down', false)
    .action(async (names: string[], options: Options, command) => {
      session.refuseUrl(command, 'up');
      if (options.prune && names.length === 0)
        throw new UsageError('--prune needs the files that are to be left');
      const client = session.client(command);
      const paths = session.paths(command);
      // Read first: a file that is not there must not leave a started weftd behind.
      const files = names.length === 0 ? [] : await gatherFiles(names, session.io);
      const weftd = await ensureWeftd(session, client, paths, { listen: options.listen });
      if (!weftd.started && options.listen !== undefined) {
        session.say(
          'weftd was running already: --listen has no effect. "weft down --keep-guests", then "weft up --listen …".',
        );
      }
      if (files.length > 0) {
        await applyShown(session, client, files, {
          prune: options.prune,
          show: lines => session.printAll(lines),
        });
      }
      const resources = await settle(session, client, { targets: null, deadline_ms: options.timeout });
      if (resources.length > 0) {
        const { headers, rows } = tableOf(resources, undefined, false, session.out);
        session.printAll(['', ...formatTable(headers, rows, session.out)]);
      }
      if (options.foreground) await holdForeground(session, client, paths, weftd);
    });
};
