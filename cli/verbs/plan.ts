import type { Register } from '../resources.js';
import { makePlan } from '../change.js';
import { EXIT } from '../errors.js';
import { gatherFiles } from '../files.js';
import { formatJson, formatYaml, outputOption, type OutputForm } from '../format.js';
import { formatPlan, hasChanges } from '../plans.js';

interface Options {
  prune: boolean;
  exitCode: boolean;
  output: OutputForm;
}

export const registerPlan: Register = (program, session) => {
  program
    .command('plan')
    .description('show what applying these files would change; changes nothing')
    .argument('<file...>', 'configuration files, directories of *.yaml, or - for standard input')
    .option('--prune', 'as if resources that the files do not mention were to go', false)
    .option('--exit-code', 'exit with 3 when there is something to change', false)
    .addOption(outputOption(['table', 'yaml', 'json']))
    .action(async (names: string[], options: Options, command) => {
      const client = session.client(command);
      const files = await gatherFiles(names, session.io);
      const plan = await makePlan(session, client, files, options);
      if (options.output === 'json') session.print(formatJson(plan));
      else if (options.output === 'yaml') session.print(formatYaml(plan));
      else session.printAll(formatPlan(plan, session.out));
      if (options.exitCode && hasChanges(plan)) session.exitCode = EXIT.changes;
    });
};
