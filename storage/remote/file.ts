/** Names of servers: the data thread, which connects, cannot wait for a look-up. */
import * as dns from 'node:dns/promises';
import { StorageError } from '../volume/errors.js';

/** The addresses of a server, the preferred ones first. Throws REMOTE_UNREACHABLE. */
export async function resolveHost(host: string): Promise<string[]> {
  try {
    return (await dns.lookup(host, { all: true })).map(({ address }) => address);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'error';
    throw new StorageError('REMOTE_UNREACHABLE', `${host} has no address that could be found (${code})`, {
      cause: error,
    });
  }
}
