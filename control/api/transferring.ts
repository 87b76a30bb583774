/**
 * Imports and exports: the answer to POST /v1/transfers is held open while bytes move, and its end is the transfer's.
 * So a client that is killed, or whose connection is cut, leaves nothing behind.
 */
import type { Handlers } from './app.js';
import { TransferRequest } from './contract.js';
import type { TransferReady } from './contract.js';
import { body, eventStream } from './http.js';
import { isConfigured, mustBeUnused } from './storing.js';
import type { System } from './system.js';

export function transferHandlers(system: System) {
  const { transfers, clock, log } = system;
  return {
    transfer: async ctx => {
      const asked = await body(ctx, TransferRequest);
      const { pool, volume } = asked;
      if (asked.kind === 'import') mustBeUnused(system, pool, volume);
      let gone = false;
      ctx.res.once('close', () => {
        gone = true;
      });
      const made = await (asked.kind === 'import'
        ? // What the configuration says of a volume (its encryption) is weftd's to make.
          transfers.import(pool, volume, { ...asked, mayMake: !isConfigured(system, pool, volume) })
        : transfers.export(pool, volume, asked.snapshot));
      const { id, socketPath, nbdName, size_bytes, isEmpty } = made;
      const end = (): void => {
        transfers.abort(id).catch((error: unknown) => {
          log.error({ err: error, pool, volume }, 'a transfer could not be ended');
        });
      };
      if (gone) return end();
      const stream = eventStream(ctx, clock);
      stream.signal.addEventListener('abort', end, { once: true });
      stream.send({ id, socketPath, nbdName, size_bytes, isEmpty } satisfies TransferReady);
    },
    commitTransfer: async (ctx, { id = '' }) => {
      await transfers.commit(id);
      system.reconciler.wake();
      ctx.body = {};
    },
  } satisfies Handlers;
}
