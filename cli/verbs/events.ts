import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { WeftEvent } from '../../control/api/contract.js';
import { parseDuration_ms } from '../../control/model/spec.js';
import type { Client } from '../client.js';
import { CliError, NotRunningError, UsageError } from '../errors.js';
import { formatEvent } from '../eventLines.js';
import { formatJson, outputOption, type OutputForm } from '../format.js';
import { kindArgument, parseTarget, type Register } from '../resources.js';
import type { Session } from '../session.js';

const EventList = z.object({ events: z.array(WeftEvent) });
const RETRY_MS = 500;

interface Options {
  follow: boolean;
  since?: string;
  output: OutputForm;
}

interface Query {
  since?: number;
  kind?: string | undefined;
  name?: string | undefined;
}

export const registerEvents: Register = (program, session) => {
  program
    .command('events')
    .description('show what happened; with --follow, what happens')
    .addArgument(kindArgument(false))
    .argument('[name]', 'only of this one')
    .option('-f, --follow', 'go on and show events as they come', false)
    .option('--since <when>', 'only events after this number, or of the last so much time (10m)')
    .addOption(outputOption(['table', 'json']))
    .action(async (kindText: string | undefined, nameText: string | undefined, options: Options, command) => {
      const client = session.client(command);
      const since = parseSince(options.since, Date.now());
      const query: Query = {
        ...parseTarget(kindText, nameText),
        ...(since.seq === undefined ? {} : { since: since.seq }),
      };
      const { events } = await client.call('GET', '/v1/events', EventList, {
        query: { ...query, follow: false },
      });
      const wanted = events.filter(event => Date.parse(event.at) >= since.at_ms);
      if (options.output === 'json' && !options.follow) {
        session.print(formatJson({ events: wanted }));
        return;
      }
      for (const event of wanted) show(session, event, options.output);
      if (options.follow) {
        const last = events.at(-1)?.seq ?? query.since ?? 0;
        for await (const event of follow(session, client, { ...query, since: last }))
          show(session, event, options.output);
      }
    });
};

function show(session: Session, event: WeftEvent, output: OutputForm): void {
  session.print(output === 'json' ? JSON.stringify(event) : formatEvent(event, session.out));
}

function parseSince(text: string | undefined, now_ms: number): { seq?: number; at_ms: number } {
  if (text === undefined) return { at_ms: 0 };
  if (/^\d+$/.test(text)) return { seq: Number(text), at_ms: 0 };
  const span_ms = parseDuration_ms(text);
  if (span_ms === undefined)
    throw new UsageError(`--since ${text}: neither an event's number nor a duration such as 10m`);
  return { at_ms: now_ms - span_ms };
}

/** Events as they come, without end, across restarts of weftd: it goes on after the last one seen. */
export async function* follow(
  session: Session,
  client: Client,
  query: Query & { since: number },
  signal?: AbortSignal,
): AsyncGenerator<WeftEvent> {
  let { since } = query;
  let away = false;
  const ended = () => signal?.aborted === true;
  while (!ended()) {
    try {
      for await (const message of client.events('GET', '/v1/events', {
        query: { ...query, since },
        signal,
      })) {
        away = false;
        const event = WeftEvent.safeParse(JSON.parse(message.data));
        if (!event.success) continue;
        since = event.data.seq;
        yield event.data;
      }
    } catch (error) {
      if (ended()) return;
      if (!(error instanceof NotRunningError) && !(error instanceof CliError && error.code === 'CONNECTION'))
        throw error;
      if (!away) session.say('weftd went away; waiting for it to come back.');
      away = true;
    }
    await sleep(RETRY_MS, undefined, { signal }).catch(() => undefined);
  }
}
