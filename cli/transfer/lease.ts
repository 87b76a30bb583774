/**
 * A volume opened for qemu-img: asked of weftd, and given back when the answer to that question is let go, which happens
 * too when this process is killed (control/transfer/transfers.ts).
 */
import { z } from 'zod';
import { TransferReady, type TransferRequest } from '../../control/api/contract.js';
import type { Client } from '../client.js';
import { CliError } from '../errors.js';

/** A snapshot may have to wait for disks. */
const DEADLINE_MS = 120_000;

export interface Lease extends TransferReady {
  /** Aborts when weftd went away: what is read or written then leads nowhere. */
  readonly lost: AbortSignal;
  commit(): Promise<void>;
  /** Of an import that was not committed: nothing of it is left. Resolves when weftd has been told. */
  end(): void;
}

export async function takeLease(client: Client, body: TransferRequest): Promise<Lease> {
  const ended = new AbortController();
  const lost = new AbortController();
  const events = client.events('POST', '/v1/transfers', {
    body,
    deadline_ms: DEADLINE_MS,
    signal: ended.signal,
  });
  const first = await events.next();
  if (first.done === true) throw new CliError('TRANSFER_LOST', 'weftd ended its answer before it began');
  const ready = TransferReady.parse(JSON.parse(first.value.data));
  // Nothing more is said; the end of the answer is what is waited for.
  void events.next().then(
    () => lost.abort(),
    () => lost.abort(),
  );
  return {
    ...ready,
    lost: lost.signal,
    async commit() {
      const path = `/v1/transfers/${encodeURIComponent(ready.id)}/commit`;
      await client.call('POST', path, z.object({}), { body: {}, deadline_ms: DEADLINE_MS });
    },
    end: () => ended.abort(),
  };
}
