import { ImageProgress } from '../../control/api/contract.js';
import { tableOf } from '../columns.js';
import { CliError } from '../errors.js';
import { formatJson, outputOption, type OutputForm } from '../format.js';
import { startProgress } from '../progress.js';
import { listResources, type Register } from '../resources.js';
import { formatTable } from '../table.js';

const BAR_CELLS = 24;

export const registerImage: Register = (program, session) => {
  const image = program.command('image').description('what machines boot from');

  image
    .command('list')
    .alias('ls')
    .description('list images')
    .addOption(outputOption(['table', 'json']))
    .action(async (options: { output: OutputForm }, command) => {
      const resources = await listResources(session.client(command), { kind: 'image' });
      if (options.output === 'json') return session.print(formatJson({ resources }));
      const { headers, rows } = tableOf(resources, 'image', false, session.out);
      session.printAll(formatTable(headers, rows, session.out));
    });

  image
    .command('build')
    .description('build an image now, or say that it is there')
    .argument('<image>', 'name of an image')
    .action(async (name: string, _options: unknown, command) => {
      const client = session.client(command);
      const progress = startProgress(session);
      let last: ImageProgress | undefined;
      try {
        for await (const message of client.events('POST', `/v1/images/${encodeURIComponent(name)}/build`, {
          body: {},
        })) {
          last = ImageProgress.parse(JSON.parse(message.data));
          if (last.done) break;
          progress.update([
            { key: 'image', state: 'busy', text: progressText(name, last, session.io.stderr.isTTY === true) },
          ]);
        }
      } finally {
        progress.end({ wipe: true });
      }
      if (last?.done !== true)
        throw new CliError('IMAGE_BUILD', `the build of image ${name} broke off: weftd ended the answer`);
      if (last.error !== null)
        throw new CliError('IMAGE_BUILD', `image ${name} was not built: ${last.error}`);
      session.print(`image ${name} is ready.`);
    });
};

/** With a bar on a terminal. In a log the fraction is left out, so that a stage makes one line. */
function progressText(name: string, { stage, fraction }: ImageProgress, live: boolean): string {
  if (fraction === null || !live) return `image ${name}: ${stage}`;
  const full = Math.round(fraction * BAR_CELLS);
  const bar = '#'.repeat(full) + '.'.repeat(BAR_CELLS - full);
  return `image ${name}: [${bar}] ${Math.round(fraction * 100)}% ${stage}`;
}
