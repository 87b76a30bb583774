/**
 * The koa application: the table of operations (operations.ts) joined to its handlers, around them the one place
 * where errors become answers. It knows nothing of sockets; server.ts serves it.
 */
import { Router } from '@koa/router';
import Koa from 'koa';
import type { Context } from 'koa';
import { configurationHandlers } from './configuration.js';
import { ApiError, told } from './errors.js';
import { openapi } from './openapi.js';
import { OPERATIONS } from './operations.js';
import type { OperationId } from './operations.js';
import { operatingHandlers } from './operating.js';
import { storingHandlers } from './storing.js';
import { streamHandlers } from './streams.js';
import type { System } from './system.js';
import { transferHandlers } from './transferring.js';

export type Handler = (ctx: Context, parameters: Readonly<Record<string, string>>) => Promise<void>;
export type Handlers = Readonly<Partial<Record<OperationId, Handler>>>;

export function makeApp(system: System): Koa {
  const description = openapi(system.version);
  const handlers: Readonly<Record<OperationId, Handler>> = {
    ...configurationHandlers(system),
    ...streamHandlers(system),
    ...operatingHandlers(system),
    ...storingHandlers(system),
    ...transferHandlers(system),
    openapi: async ctx => {
      ctx.body = description;
    },
    console: async () => {
      throw new ApiError(426, 'UPGRADE_REQUIRED', 'ask with Connection: upgrade and Upgrade: weft-console');
    },
  };
  const router = new Router();
  for (const { id, method, path } of OPERATIONS) {
    const handler = handlers[id];
    const serve = async (ctx: { params: Record<string, string> } & Context): Promise<void> =>
      handler(ctx, ctx.params);
    router.register(path, [method], serve as Parameters<typeof router.register>[2]);
  }
  const app = new Koa();
  app.use(async (ctx, next) => {
    try {
      await next();
      if (ctx.status === 404 && ctx.body === undefined)
        throw new ApiError(
          404,
          'NOT_FOUND',
          `there is no ${ctx.path}; GET /openapi.json lists what there is`,
        );
    } catch (error) {
      answerError(ctx, error, system);
    }
  });
  app.use(router.routes());
  app.use(
    router.allowedMethods({
      throw: true,
      methodNotAllowed: () => new ApiError(405, 'METHOD_NOT_ALLOWED', 'this path takes another method'),
      notImplemented: () => new ApiError(501, 'NOT_IMPLEMENTED', 'this method is not known'),
    }),
  );
  // A client that went away in the middle of an answer is no error of ours.
  app.on('error', (error: unknown) => {
    const code = error instanceof Error && 'code' in error ? String(error.code) : '';
    if (!['ECONNRESET', 'EPIPE', 'ERR_STREAM_PREMATURE_CLOSE', 'ERR_STREAM_DESTROYED'].includes(code))
      system.log.error({ err: error }, 'an answer failed');
  });
  return app;
}

function answerError(ctx: Context, error: unknown, system: System): void {
  const answer = told(error);
  if (answer !== null) {
    ctx.status = answer.status;
    ctx.body = answer.reply;
    return;
  }
  system.log.error({ err: error, method: ctx.method, path: ctx.path }, 'a request failed');
  ctx.status = 500;
  ctx.body = { error: { code: 'INTERNAL', message: 'weftd made a mistake; its log has the details' } };
}
