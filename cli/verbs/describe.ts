import { z } from 'zod';
import { Resource, WeftEvent } from '../../control/api/contract.js';
import { formatEvent } from '../eventLines.js';
import { formatAge, formatJson, formatYaml, outputOption, type OutputForm } from '../format.js';
import { isGood, kindArgument, readiness, requireTarget, resourcePath, type Register } from '../resources.js';
import type { Session } from '../session.js';
import { formatFields, formatTable } from '../table.js';
import { harmless } from '../width.js';

const EventList = z.object({ events: z.array(WeftEvent) });
const MAX_EVENTS = 20;

export const registerDescribe: Register = (program, session) => {
  program
    .command('describe')
    .description('say everything about one resource: conditions, what was observed, events')
    .addArgument(kindArgument(true))
    .argument('[name]', 'its name')
    .addOption(outputOption(['table', 'yaml', 'json']))
    .action(
      async (kindText: string, nameText: string | undefined, options: { output: OutputForm }, command) => {
        const { kind, name } = requireTarget(kindText, nameText);
        const client = session.client(command);
        const resource = await client.call('GET', resourcePath(kind, name), Resource);
        const { events } = await client.call('GET', '/v1/events', EventList, {
          query: { kind, name, follow: false },
        });
        if (options.output === 'json') session.print(formatJson({ resource, events }));
        else if (options.output === 'yaml') session.print(formatYaml({ resource, events }));
        else session.printAll(describe(session, resource, events, Date.now()));
      },
    );
};

function describe(
  session: Session,
  resource: Resource,
  events: readonly WeftEvent[],
  now_ms: number,
): string[] {
  const style = session.out;
  const { status } = resource;
  const state = readiness(resource);
  const fields: [string, string][] = [
    ['Kind', resource.kind],
    ['Name', resource.name],
    [
      'Ready',
      state.ready === 'True' ? 'yes' : [`no (${state.reason})`, state.message].filter(Boolean).join(': '),
    ],
    [
      'Generation',
      status.observedGeneration === resource.generation
        ? String(resource.generation)
        : `${resource.generation} (seen so far: ${status.observedGeneration})`,
    ],
  ];
  if (resource.deleting) fields.push(['Deleting', 'yes']);
  if (status.lastError !== null) fields.push(['Last error', status.lastError]);
  const conditions = status.conditions.map(condition => [
    condition.type,
    { text: condition.status, paint: isGood(condition) ? style.green : style.red },
    condition.reason,
    `${formatAge(now_ms - Date.parse(condition.lastTransitionTime))} ago`,
    condition.message,
  ]);
  return [
    ...formatFields(fields),
    '',
    ...section(
      style.bold('Conditions'),
      formatTable(['TYPE', 'STATUS', 'REASON', 'SINCE', 'MESSAGE'], conditions, style),
    ),
    ...section(style.bold('Configured'), formatYaml(resource.spec).split('\n').map(harmless)),
    ...section(style.bold('Observed'), formatYaml(status.observed).split('\n').map(harmless)),
    ...section(
      style.bold('Events'),
      events.slice(-MAX_EVENTS).map(event => formatEvent(event, style)),
    ),
  ];
}

function section(title: string, lines: readonly string[]): string[] {
  return [title, ...(lines.length === 0 ? ['  none'] : lines.map(line => `  ${line}`)), ''];
}
