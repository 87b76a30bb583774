import { DeleteReply } from '../../control/api/contract.js';
import { durationOption } from '../options.js';
import { kindArgument, requireTarget, resourcePath, type Register } from '../resources.js';
import { settle } from '../settle.js';
import { harmless } from '../width.js';

interface Options {
  destroyData: boolean;
  wait: boolean;
  timeout: number;
}

export const registerDelete: Register = (program, session) => {
  program
    .command('delete')
    .description('take a resource out of the configuration; its data stays unless told otherwise')
    .addArgument(kindArgument(true))
    .argument('[name]', 'its name')
    .option('--destroy-data', 'destroy its data as well; there is no way back', false)
    .option('--no-wait', 'return as soon as weftd has taken it out of the configuration')
    .addOption(durationOption('--timeout <duration>', 'how long to wait', '5m'))
    .action(async (kindText: string, nameText: string | undefined, options: Options, command) => {
      const { kind, name } = requireTarget(kindText, nameText);
      const client = session.client(command);
      const reply = await client.call('DELETE', resourcePath(kind, name), DeleteReply, {
        query: options.destroyData ? { destroyData: true } : {},
      });
      if (options.wait) {
        await settle(session, client, {
          targets: [{ kind, name, gone: true }],
          deadline_ms: options.timeout,
        });
      }
      session.print(`${kind} ${name} ${options.wait ? 'deleted' : 'is being deleted'}.`);
      for (const kept of reply.kept) session.print(`Kept: ${harmless(kept)}`);
    });
};
