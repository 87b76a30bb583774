import type { ConfigFile, Problem } from '../../control/api/contract.js';
import { configurationSchema } from '../../control/model/jsonSchema.js';
import { layoutOf } from '../../control/model/layout.js';
import type { Fault } from '../../control/model/fault.js';
import { inOrder, parse } from '../../control/model/parse.js';
import type { Parsed } from '../../control/model/parse.js';
import { dotted, specsOf } from '../../control/model/resource.js';
import { validate } from '../../control/model/validate.js';
import { ConfigurationError, showProblems } from '../change.js';
import { gatherFiles } from '../files.js';
import { formatJson, outputOption, type OutputForm } from '../format.js';
import type { Register } from '../resources.js';

export const registerConfig: Register = (program, session) => {
  const config = program.command('config').description('look at configuration files; works without weftd');

  config
    .command('validate')
    .description('check these files as one configuration, without weftd and without changing anything')
    .argument('<file...>', 'configuration files, directories of *.yaml, or - for standard input')
    .addOption(outputOption(['table', 'json']))
    .action(async (names: string[], options: { output: OutputForm }, command) => {
      const files = await gatherFiles(names, session.io);
      const { problems, warnings, count } = judge(files, session.paths(command).directory);
      if (options.output === 'json') session.print(formatJson({ problems, warnings }));
      else {
        for (const { path, line, column, at, message } of warnings)
          session.say(`${path}:${line}:${column}: warning: ${at}: ${message}`);
        showProblems(session, problems, files);
      }
      if (problems.length > 0) throw new ConfigurationError(problems.length);
      if (options.output !== 'json') {
        session.print(
          `${files.length === 1 ? files[0]?.path : `${files.length} files`}: ${count} resources, no errors.`,
        );
      }
    });

  config
    .command('schema')
    .description('print the JSON Schema of a configuration, for editors')
    .action(() => session.print(formatJson(configurationSchema())));
};

/** The same judgement as weftd's, over these files alone. */
function judge(
  files: readonly ConfigFile[],
  stateDirectory: string,
): { problems: Problem[]; warnings: Problem[]; count: number } {
  const parsed = parse(files);
  // After a syntax error what seems to be missing may only be unreadable.
  const faults = parsed.whole
    ? validate(specsOf(parsed.declared.values()), {
        layout: layoutOf(stateDirectory),
        mentioned: parsed.mentioned,
      })
    : [];
  const placed = (some: readonly Fault[]): Problem[] =>
    some.map(({ path, blame, message, other }) => ({
      ...parsed.locate(path, blame),
      at: dotted(path),
      message: other === undefined ? message : `${message}, ${other.says} ${placeOf(parsed, other.path)}`,
    }));
  const errors = placed(faults.filter(fault => !fault.isWarning));
  return {
    problems: inOrder([...parsed.problems, ...errors], files),
    warnings: inOrder(placed(faults.filter(fault => fault.isWarning)), files),
    count: parsed.declared.size,
  };
}

function placeOf(parsed: Parsed, at: (string | number)[]): string {
  const { path, line, column } = parsed.locate(at, 'value');
  return `at ${path}:${line}:${column}`;
}
