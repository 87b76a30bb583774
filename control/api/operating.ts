/** Operations on what runs: machines, switches, weftd itself; and its figures. Storage has storing.ts. */
import { z } from 'zod';
import { MacTable, TopTalkers, TraceRequest, TraceView } from '../../dataplane/contract.js';
import { VERBS } from '../reconcile/verbs.js';
import type { Handlers } from './app.js';
import { statusOf, systemStatus } from './configuration.js';
import { MachineRequest, ShutdownRequest } from './contract.js';
import { ApiError } from './errors.js';
import { body } from './http.js';
import { metrics } from './metrics.js';
import type { System } from './system.js';
import { resourceViews } from './views.js';

const Verb = z.enum(VERBS);
/** Each capability has the schema of its own in the plane's contract; here it only passes through. */
const Shown = z.record(z.string(), z.unknown());
/** The plane watches for a minute at most. */
const TOP_DEADLINE_MS = 70_000;
const Flushed = z.object({ flushed: z.int() });

function switchPath(system: System, name: string): string {
  if (!system.keeper.resources.has(`switch/${name}`))
    throw new ApiError(404, 'RESOURCE_UNKNOWN', `there is no switch "${name}"`);
  return `/switches/${encodeURIComponent(name)}`;
}

async function orNull<T>(work: Promise<T>): Promise<T | null> {
  try {
    return await work;
  } catch {
    return null;
  }
}

export function operatingHandlers(system: System) {
  const { keeper, dataplane, storage } = system;
  return {
    health: async ctx => {
      ctx.body = { ok: true };
    },
    metrics: async ctx => {
      const [frames, blocks] = await Promise.all([orNull(dataplane.status()), orNull(storage.status())]);
      const { revision, settled, planes } = systemStatus(system);
      ctx.type = 'text/plain; version=0.0.4; charset=utf-8';
      ctx.body = metrics({
        version: system.version,
        revision,
        settled,
        planes,
        turnCount: system.reconciler.turnCount,
        resources: resourceViews(keeper, statusOf(system), {}),
        guests: system.guests.list(),
        dataplane: frames,
        storage: blocks,
        process: system.figures(),
      });
    },
    machineVerb: async (ctx, { name = '', verb = '' }) => {
      const known = Verb.safeParse(verb);
      if (!known.success)
        throw new ApiError(
          404,
          'VERB_UNKNOWN',
          `"${verb}" cannot be done to a machine; ${VERBS.join(', ')} can`,
        );
      const { timeout_ms } = await body(ctx, MachineRequest);
      await system.verbs.run(known.data, name, timeout_ms);
      ctx.body = {};
    },
    macs: async (ctx, { name = '' }) => {
      const path = `${switchPath(system, name)}/macs`;
      ctx.body = await dataplane.client.call({ method: 'GET', path, reply: MacTable });
    },
    flushMacs: async (ctx, { name = '' }) => {
      const search = ctx.querystring === '' ? '' : `?${ctx.querystring}`;
      const path = `${switchPath(system, name)}/macs${search}`;
      ctx.body = await dataplane.client.call({ method: 'DELETE', path, reply: Flushed });
    },
    showSwitch: async (ctx, { name = '', what = '' }) => {
      const search = ctx.querystring === '' ? '' : `?${ctx.querystring}`;
      const path = `${switchPath(system, name)}/show/${encodeURIComponent(what)}${search}`;
      ctx.body = await dataplane.client.call({ method: 'GET', path, reply: Shown });
    },
    traceFrame: async (ctx, { name = '' }) => {
      const path = `${switchPath(system, name)}/trace`;
      const asked = await body(ctx, TraceRequest);
      ctx.body = await dataplane.client.call({ method: 'POST', path, body: asked, reply: TraceView });
    },
    topTalkers: async (ctx, { name = '' }) => {
      const search = ctx.querystring === '' ? '' : `?${ctx.querystring}`;
      const path = `${switchPath(system, name)}/top${search}`;
      ctx.body = await dataplane.client.call({
        method: 'GET',
        path,
        reply: TopTalkers,
        deadline_ms: TOP_DEADLINE_MS,
      });
    },
    shutdown: async ctx => {
      const request = await body(ctx, ShutdownRequest);
      await system.shutdown(request);
      ctx.set('connection', 'close');
      ctx.body = {};
    },
  } satisfies Handlers;
}
