import { SystemStatus } from '../../control/api/contract.js';
import { CliError } from '../errors.js';
import { formatJson, outputOption, type OutputForm } from '../format.js';
import type { Register } from '../resources.js';
import { VERSION } from '../version.js';

const DEADLINE_MS = 2000;

export const registerVersion: Register = (program, session) => {
  program
    .command('version')
    .description('print the version of weft, and of weftd when it runs')
    .addOption(outputOption(['table', 'json']))
    .action(async (options: { output: OutputForm }, command) => {
      const server = await session
        .client(command)
        .call('GET', '/v1/status', SystemStatus, { deadline_ms: DEADLINE_MS })
        .then(({ version }) => version)
        .catch((error: unknown) => {
          if (error instanceof CliError) return null;
          throw error;
        });
      if (options.output === 'json') return session.print(formatJson({ weft: VERSION, weftd: server }));
      session.print(`weft ${VERSION}`);
      session.print(server === null ? 'weftd does not answer' : `weftd ${server}`);
    });
};
