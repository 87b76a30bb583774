/** Operations whose answers do not end at once: events, logs, captures, the building of an image. */
import { Readable } from 'node:stream';
import { z } from 'zod';
import type { StoredEvent } from '../store/store.js';
import type { Handlers } from './app.js';
import type { ImageProgress } from './contract.js';
import { ApiError } from './errors.js';
import { Flag, WholeNumber, eventStream, query } from './http.js';
import type { System } from './system.js';
import { tail } from './tail/loop.js';

const EventQuery = z.object({
  since: WholeNumber.optional(),
  kind: z.string().optional(),
  name: z.string().optional(),
  follow: Flag.optional(),
});
const LogQuery = z.object({ follow: Flag.optional(), lines: WholeNumber.optional() });

function logPath(system: System, component: string, name: string | undefined): string {
  const { layout, guests, keeper } = system;
  if (name === undefined) {
    if (component === 'weftd' || component === 'dataplane' || component === 'storage')
      return `${layout.logs}/${component}.log`;
  } else if (component === 'machine' || component === 'qemu') {
    // The name becomes part of a path: only one that we gave out.
    const known = keeper.resources.has(`machine/${name}`) || guests.list().some(guest => guest.name === name);
    if (!known) throw new ApiError(404, 'RESOURCE_UNKNOWN', `there is no machine "${name}"`);
    const paths = guests.paths(name);
    return component === 'machine' ? paths.serialLog : paths.qemuLog;
  }
  throw new ApiError(
    404,
    'LOG_UNKNOWN',
    'there is no such log; there are weftd, dataplane, storage, machine/NAME and qemu/NAME',
  );
}

export function streamHandlers(system: System) {
  const { journal, clock } = system;
  return {
    events: async ctx => {
      const { since, kind, name, follow = true } = query(ctx, EventQuery);
      const wanted = (event: StoredEvent): boolean =>
        (kind === undefined || event.kind === kind) && (name === undefined || event.name === name);
      const last = ctx.get('last-event-id');
      const from = since ?? (/^\d{1,15}$/.test(last) ? Number(last) : 0);
      if (!follow) {
        ctx.body = { events: journal.after(from).filter(wanted) };
        return;
      }
      const stream = eventStream(ctx, clock);
      for (const event of journal.after(from)) if (wanted(event)) stream.send(event, event.seq);
      const stop = journal.listen(event => {
        if (wanted(event)) stream.send(event, event.seq);
      });
      stream.signal.addEventListener('abort', stop);
    },
    logs: async (ctx, { component = '', name }) => {
      const { follow = false, lines } = query(ctx, LogQuery);
      const path = logPath(system, component, name);
      const gone = new AbortController();
      ctx.res.once('close', () => gone.abort());
      ctx.type = 'text/plain; charset=utf-8';
      ctx.body = Readable.from(tail(path, lines, follow, gone.signal), { objectMode: false });
      if (follow) ctx.flushHeaders();
    },
    capture: async (ctx, { name = '' }) => {
      const gone = new AbortController();
      ctx.res.once('close', () => gone.abort());
      const search = ctx.querystring === '' ? '' : `?${ctx.querystring}`;
      const path = `/switches/${encodeURIComponent(name)}/capture${search}`;
      const response = await system.dataplane.client.stream('GET', path, gone.signal);
      ctx.type = response.headers['content-type'] ?? 'application/x-pcapng';
      ctx.body = response;
      ctx.flushHeaders();
    },
    buildImage: async (ctx, { name = '' }) => {
      const spec = system.keeper.desired.specs.image.get(name);
      if (spec === undefined) throw new ApiError(404, 'RESOURCE_UNKNOWN', `there is no image "${name}"`);
      const stream = eventStream(ctx, clock);
      const send = (progress: ImageProgress): void => void stream.send(progress);
      void (async () => {
        try {
          await system.images.build(name, spec, ({ stage, fraction }) =>
            send({ stage, fraction, done: false, error: null }),
          );
          send({ stage: 'ready', fraction: 1, done: true, error: null });
        } catch (error) {
          const words = error instanceof Error ? error.message : String(error);
          send({ stage: 'failed', fraction: null, done: true, error: words });
        }
        stream.end();
        system.reconciler.forgetImages();
      })();
    },
  } satisfies Handlers;
}
