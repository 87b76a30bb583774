import { pipeline } from 'node:stream/promises';
import { UsageError, nearest } from '../errors.js';
import { count } from '../options.js';
import type { Register } from '../resources.js';

interface Options {
  follow: boolean;
  lines?: number;
}

const PROCESSES = ['weftd', 'dataplane', 'storage'];

export const registerLogs: Register = (program, session) => {
  program
    .command('logs')
    .description('print a log: weftd, dataplane, storage, machine/NAME (its serial line) or qemu/NAME')
    .argument('<component>', `${PROCESSES.join(', ')}, machine/NAME or qemu/NAME`)
    .option('-f, --follow', 'go on as the log grows', false)
    .option('-n, --lines <count>', 'only so many lines from the end', count)
    .action(async (component: string, options: Options, command) => {
      const path = component.split('/').map(encodeURIComponent).join('/');
      if (!PROCESSES.includes(component) && !/^(machine|qemu)\/./.test(component)) {
        const near = nearest(component, PROCESSES);
        throw new UsageError(
          `there is no log "${component}"${near === undefined ? '' : `; did you mean "${near}"?`}`,
          `The logs: ${PROCESSES.join(', ')}, machine/NAME and qemu/NAME.`,
        );
      }
      const response = await session.client(command).stream('GET', `/v1/logs/${path}`, {
        query: { follow: options.follow, lines: options.lines },
      });
      await pipeline(response, session.io.stdout, { end: false });
    });
};
