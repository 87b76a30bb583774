/** Lists that come in pages: asks on until there is no further one. */
import type { z } from 'zod';
import type { CallOptions, Client } from './client.js';

type PageSchema = z.ZodType<{ next?: string | null | undefined }>;

/** More pages than any list has: a weftd that answers the same cursor for ever is not asked for ever. */
const PAGES_MAX = 100_000;

export async function* pages<S extends PageSchema>(
  client: Client,
  path: string,
  schema: S,
  options: CallOptions = {},
): AsyncGenerator<z.infer<S>> {
  let cursor: string | null | undefined;
  for (let count = 0; count < PAGES_MAX; count++) {
    const page = await client.call('GET', path, schema, {
      ...options,
      query: { ...options.query, cursor: cursor ?? undefined },
    });
    yield page;
    if (page.next === null || page.next === undefined || page.next === cursor) return;
    cursor = page.next;
  }
}

/** The rows of all pages. */
export async function rowsOf<S extends PageSchema, Row>(
  client: Client,
  path: string,
  schema: S,
  rows: (page: z.infer<S>) => readonly Row[],
  options: CallOptions = {},
): Promise<Row[]> {
  const all: Row[] = [];
  for await (const page of pages(client, path, schema, options)) all.push(...rows(page));
  return all;
}
