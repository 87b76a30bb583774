import type { Register } from '../resources.js';
import { applyShown, targetsOf } from '../change.js';
import { UsageError } from '../errors.js';
import { gatherFiles } from '../files.js';
import { formatJson, formatYaml, outputOption, type OutputForm } from '../format.js';
import { durationOption } from '../options.js';
import { settle } from '../settle.js';

interface Options {
  filename: string[];
  prune: boolean;
  wait: boolean;
  timeout: number;
  output: OutputForm;
}

export const registerApply: Register = (program, session) => {
  program
    .command('apply')
    .description('make the configuration as these files say, and wait until it is; shows the plan first')
    .argument('[file...]', 'configuration files, directories of *.yaml, or - for standard input')
    .option('-f, --filename <file...>', 'the same as naming the files as arguments', [])
    .option('--prune', 'delete resources that the files do not mention (never their data)', false)
    .option('--no-wait', 'return as soon as weftd has taken the configuration')
    .option('--wait', 'wait until what was applied is ready (this is the default)')
    .addOption(durationOption('--timeout <duration>', 'how long to wait', '5m'))
    .addOption(outputOption(['table', 'yaml', 'json']))
    .action(async (names: string[], options: Options, command) => {
      const all = [...names, ...options.filename];
      if (all.length === 0)
        throw new UsageError('no configuration file was named', 'For example: weft apply my.yaml');
      const client = session.client(command);
      const files = await gatherFiles(all, session.io);
      const asTable = options.output === 'table';
      const reply = await applyShown(session, client, files, {
        prune: options.prune,
        show: lines => {
          if (asTable) session.printAll(lines);
        },
      });
      if (options.wait) {
        await settle(session, client, { targets: targetsOf(reply), deadline_ms: options.timeout });
      }
      if (options.output === 'json') session.print(formatJson(reply));
      else if (options.output === 'yaml') session.print(formatYaml(reply));
    });
};
