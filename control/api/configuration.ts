/** Operations on the configuration and its resources. */
import { z } from 'zod';
import { configurationSchema } from '../model/jsonSchema.js';
import { poolDirectory } from '../model/layout.js';
import { keyOf } from '../model/resource.js';
import type { Key } from '../model/resource.js';
import type { Kind } from '../model/spec.js';
import type { SpecOf } from '../model/spec.js';
import type { StatusNow } from '../reconcile/status.js';
import type { Handlers } from './app.js';
import { ChangeRequest, Kind as KindSchema } from './contract.js';
import type { Resource, SystemStatus } from './contract.js';
import { ApiError } from './errors.js';
import { Flag, body, query } from './http.js';
import { PageQuery, pageByKey } from './paging.js';
import type { System } from './system.js';
import { isSettled, keptBy, planView, planeView, resourceKey, resourceViews } from './views.js';

const ResourceQuery = PageQuery.extend({ kind: KindSchema.optional(), name: z.string().optional() });
const DeleteQuery = z.object({ destroyData: Flag.optional() });

export function statusOf(system: System): (key: Key) => StatusNow | undefined {
  return key => system.reconciler.statuses.get(key);
}

export function systemStatus(system: System): SystemStatus {
  const { keeper, reconciler } = system;
  return {
    version: system.version,
    pid: system.pid,
    stateDirectory: system.layout.state,
    revision: keeper.revision,
    settled:
      reconciler.isCurrent &&
      isSettled(keeper, (key, generation) => reconciler.statuses.isReady(key, generation)),
    planes: [planeView(system.dataplane.info), planeView(system.storage.info)],
  };
}

function kindOf(word: string): Kind {
  const kind = KindSchema.safeParse(word);
  if (kind.success) return kind.data;
  throw new ApiError(
    404,
    'KIND_UNKNOWN',
    `there is no kind "${word}"; there are ${KindSchema.options.join(', ')}`,
  );
}

function resourceOf(system: System, kind: Kind, name: string): Resource {
  const [view] = resourceViews(system.keeper, statusOf(system), { kind, name });
  if (view === undefined) throw new ApiError(404, 'RESOURCE_UNKNOWN', `there is no ${kind} "${name}"`);
  return view;
}

export function configurationHandlers(system: System) {
  const { keeper } = system;
  return {
    schema: async ctx => {
      ctx.body = configurationSchema();
    },
    status: async ctx => {
      ctx.body = systemStatus(system);
    },
    doctor: async ctx => {
      ctx.body = await system.doctor();
    },
    plan: async ctx => {
      const { files, prune } = await body(ctx, ChangeRequest);
      ctx.body = planView(keeper.revision, keeper.plan(files, prune));
    },
    apply: async ctx => {
      const { files, prune, ifRevision } = await body(ctx, ChangeRequest);
      const changes = await keeper.apply(files, prune, ifRevision);
      ctx.body = planView(keeper.revision, changes);
    },
    listResources: async ctx => {
      const asked = query(ctx, ResourceQuery);
      const { rows, next } = pageByKey(resourceViews(keeper, statusOf(system), asked), resourceKey, asked);
      ctx.body = { resources: rows, next };
    },
    getResource: async (ctx, { kind = '', name = '' }) => {
      ctx.body = resourceOf(system, kindOf(kind), name);
    },
    deleteResource: async (ctx, parameters) => {
      const kind = kindOf(parameters['kind'] ?? '');
      const name = parameters['name'] ?? '';
      const { destroyData = false } = query(ctx, DeleteQuery);
      const key = keyOf(kind, name);
      const view = resourceOf(system, kind, name);
      if (view.deleting)
        throw new ApiError(409, 'RESOURCE_DELETING', `${kind} "${name}" is being deleted already`);
      if (destroyData && kind !== 'volume')
        throw new ApiError(400, 'BAD_QUERY', `a ${kind} has no data of its own; only a volume has`);
      const written = keeper.resources.get(key)?.written;
      const directory =
        kind === 'pool' ? poolDirectory(system.layout, name, (view.spec as SpecOf['pool']).directory) : '';
      const { problems } = await keeper.remove(key, destroyData);
      const [problem] = problems;
      if (problem !== undefined) throw new ApiError(409, 'RESOURCE_IN_USE', problem.message, problems);
      ctx.body = { revision: keeper.revision, kept: keptBy(key, written, destroyData, directory) };
    },
  } satisfies Handlers;
}
