import { SystemStatus } from '../../control/api/contract.js';
import { formatAge, formatJson, formatYaml, outputOption, type OutputForm } from '../format.js';
import { isReady, listResources, readiness, type Register } from '../resources.js';
import { formatFields, formatTable } from '../table.js';
import { harmless } from '../width.js';

export const registerStatus: Register = (program, session) => {
  program
    .command('status')
    .description('say how weft itself is: its processes, and what is not ready')
    .addOption(outputOption(['table', 'yaml', 'json']))
    .action(async (options: { output: OutputForm }, command) => {
      const client = session.client(command);
      const status = await client.call('GET', '/v1/status', SystemStatus);
      if (options.output === 'json') return session.print(formatJson(status));
      if (options.output === 'yaml') return session.print(formatYaml(status));
      const style = session.out;
      const resources = await listResources(client);
      const open = resources.filter(resource => !isReady(resource));
      session.printAll(
        formatFields([
          ['State directory', status.stateDirectory],
          ['weftd', `${status.version}, pid ${status.pid}`],
          ['Revision', String(status.revision)],
          ['Settled', status.settled ? 'yes' : 'no'],
          ['Resources', `${resources.length}, ${resources.length - open.length} ready`],
        ]),
      );
      session.print();
      session.printAll(
        formatTable(
          ['PROCESS', 'STATE', 'PID', 'VERSION', 'UP', 'RESTARTS', 'MESSAGE'],
          status.planes.map(plane => [
            plane.name,
            { text: plane.state, paint: plane.state === 'up' ? style.green : style.red },
            plane.pid === null ? '-' : String(plane.pid),
            plane.version ?? '-',
            plane.startedAt === null ? '-' : formatAge(Date.now() - Date.parse(plane.startedAt)),
            String(plane.restartCount),
            plane.reason ?? '',
          ]),
          style,
        ),
      );
      if (open.length > 0) {
        session.print();
        session.print(style.bold('Not ready'));
        for (const resource of open) {
          const { reason, message } = readiness(resource);
          session.print(
            harmless(`  ${resource.kind} ${resource.name}: ${[reason, message].filter(Boolean).join(': ')}`),
          );
        }
      }
    });
};
