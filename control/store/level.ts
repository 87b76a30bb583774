/**
 * The desired state in `level`, in the state directory. One process has it open at a time.
 *
 * Keys sort by what they hold; numbers are padded so that their order is the order of the keys:
 *
 *   meta!format         1                          meta!revision   the newest one
 *   r!KIND!NAME         StoredResource             d!KIND!NAME     Tombstone
 *   f!NAME              a fact
 *   h!000000000012      head and size of revision 12; its configuration is under b!000000000012
 *   e!000000000345      event 345
 */
import { z } from 'zod';
import { Level } from 'level';
import { KINDS } from '../model/spec.js';
import { splitKey } from '../model/resource.js';
import type { Key } from '../model/resource.js';
import { StoreError } from './errors.js';
import { LIMITS, superfluous } from './store.js';
import type { Change, Contents, Revision, RevisionHead, Store, StoredEvent, StoreLimits } from './store.js';

const FORMAT = 1;

const Stored = z.object({
  kind: z.enum(KINDS),
  name: z.string(),
  generation: z.int(),
  written: z.unknown(),
});
const Buried = Stored.extend({ destroyData: z.boolean() });
const Head = z.object({ revision: z.int(), at: z.string(), why: z.string(), size_bytes: z.int() });
const Body = z.array(z.object({ kind: z.enum(KINDS), name: z.string(), written: z.unknown() }));
const Logged = z.object({
  seq: z.int(),
  at: z.string(),
  level: z.enum(['info', 'warning', 'error']),
  kind: z.string(),
  name: z.string(),
  reason: z.string(),
  message: z.string(),
});

type Database = Level<string, unknown>;
type Operation = { type: 'put'; key: string; value: unknown } | { type: 'del'; key: string };

function padded(number: number): string {
  return String(number).padStart(12, '0');
}

function resourceKey(prefix: 'r' | 'd', key: Key): string {
  const { kind, name } = splitKey(key);
  return `${prefix}!${kind}!${name}`;
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error ? String(error.code) : undefined;
}

export class LevelStore implements Store {
  readonly #database: Database;
  readonly #directory: string;
  readonly #limits: StoreLimits;
  /** Oldest first, as they are kept. */
  #heads: z.infer<typeof Head>[] = [];
  #oldestEvent = 0;
  #newestEvent = -1;

  private constructor(database: Database, directory: string, limits: StoreLimits) {
    this.#database = database;
    this.#directory = directory;
    this.#limits = limits;
  }

  static async open(directory: string, limits = LIMITS): Promise<LevelStore> {
    const database: Database = new Level<string, unknown>(directory, { valueEncoding: 'json' });
    try {
      await database.open();
    } catch (error) {
      throw openError(error, directory);
    }
    const store = new LevelStore(database, directory, limits);
    try {
      await store.#begin();
    } catch (error) {
      await database.close();
      throw error;
    }
    return store;
  }

  async #begin(): Promise<void> {
    const format = await this.#get('meta!format');
    if (format === undefined) {
      await this.#write([{ type: 'put', key: 'meta!format', value: FORMAT }], true);
      return;
    }
    if (format !== FORMAT)
      throw new StoreError(
        'STORE_FORMAT',
        `the store in ${this.#directory} has format ${JSON.stringify(format)}, this weft knows ${FORMAT}: use the version of weft that wrote it`,
      );
    for await (const [key, value] of this.#range('h!')) this.#heads.push(this.#as(Head, key, value));
  }

  async read(): Promise<Contents> {
    const contents: Contents = { revision: 0, resources: [], tombstones: [], facts: new Map(), events: [] };
    const revision = await this.#get('meta!revision');
    if (revision !== undefined) contents.revision = this.#as(z.int(), 'meta!revision', revision);
    for await (const [key, value] of this.#range('r!')) contents.resources.push(this.#as(Stored, key, value));
    for await (const [key, value] of this.#range('d!'))
      contents.tombstones.push(this.#as(Buried, key, value));
    for await (const [key, value] of this.#range('f!')) contents.facts.set(key.slice(2), value);
    for await (const [key, value] of this.#range('e!')) contents.events.push(this.#as(Logged, key, value));
    this.#oldestEvent = contents.events[0]?.seq ?? 0;
    this.#newestEvent = contents.events.at(-1)?.seq ?? -1;
    return contents;
  }

  async commit(change: Change): Promise<void> {
    const operations: Operation[] = [];
    for (const resource of change.put ?? [])
      operations.push({ type: 'put', key: `r!${resource.kind}!${resource.name}`, value: resource });
    for (const key of change.remove ?? []) operations.push({ type: 'del', key: resourceKey('r', key) });
    for (const tombstone of change.bury ?? [])
      operations.push({ type: 'put', key: `d!${tombstone.kind}!${tombstone.name}`, value: tombstone });
    for (const key of change.unbury ?? []) operations.push({ type: 'del', key: resourceKey('d', key) });
    for (const [name, fact] of change.facts ?? [])
      operations.push(
        fact === null ? { type: 'del', key: `f!${name}` } : { type: 'put', key: `f!${name}`, value: fact },
      );
    let heads = this.#heads;
    if (change.revision !== undefined) {
      const { resources, ...head } = change.revision;
      const number = padded(head.revision);
      const sized = { ...head, size_bytes: JSON.stringify(resources).length };
      heads = [...heads, sized];
      const gone = new Set(superfluous(heads, this.#limits));
      heads = heads.filter(({ revision }) => !gone.has(revision));
      operations.push(
        { type: 'put', key: 'meta!revision', value: head.revision },
        { type: 'put', key: `h!${number}`, value: sized },
        { type: 'put', key: `b!${number}`, value: resources },
      );
      for (const revision of gone)
        operations.push(
          { type: 'del', key: `h!${padded(revision)}` },
          { type: 'del', key: `b!${padded(revision)}` },
        );
    }
    if (operations.length === 0) return;
    await this.#write(operations, true);
    this.#heads = heads;
  }

  async log(events: readonly StoredEvent[]): Promise<void> {
    const operations: Operation[] = events.map(event => ({
      type: 'put',
      key: `e!${padded(event.seq)}`,
      value: event,
    }));
    this.#newestEvent = events.at(-1)?.seq ?? this.#newestEvent;
    while (this.#newestEvent - this.#oldestEvent >= this.#limits.events)
      operations.push({ type: 'del', key: `e!${padded(this.#oldestEvent++)}` });
    await this.#write(operations, false);
  }

  async revisions(): Promise<RevisionHead[]> {
    return this.#heads.map(({ revision, at, why }) => ({ revision, at, why })).reverse();
  }

  async revision(number: number): Promise<Revision | undefined> {
    const head = this.#heads.find(({ revision }) => revision === number);
    if (head === undefined) return undefined;
    const key = `b!${padded(number)}`;
    const resources = this.#as(Body, key, await this.#get(key));
    return { revision: head.revision, at: head.at, why: head.why, resources };
  }

  async close(): Promise<void> {
    await this.#database.close();
  }

  async #get(key: string): Promise<unknown> {
    try {
      return await this.#database.get(key);
    } catch (error) {
      throw this.#failed(error);
    }
  }

  async *#range(prefix: string): AsyncGenerator<[string, unknown]> {
    try {
      // `"` follows `!` in ASCII: all keys with this prefix and no other.
      yield* this.#database.iterator({ gte: prefix, lt: prefix.replace('!', '"') });
    } catch (error) {
      throw this.#failed(error);
    }
  }

  async #write(operations: Operation[], sync: boolean): Promise<void> {
    try {
      await this.#database.batch(operations, { sync });
    } catch (error) {
      throw this.#failed(error);
    }
  }

  #as<T>(schema: z.ZodType<T>, key: string, value: unknown): T {
    const parsed = schema.safeParse(value);
    if (parsed.success) return parsed.data;
    throw new StoreError(
      'STORE_CORRUPT',
      `the store in ${this.#directory} holds something unknown under ${JSON.stringify(key)}: ${z.prettifyError(parsed.error)}`,
    );
  }

  #failed(error: unknown): StoreError {
    if (error instanceof StoreError) return error;
    const code = codeOf(error);
    if (code === 'LEVEL_CORRUPTION' || code === 'LEVEL_DECODE_ERROR') return corrupt(this.#directory, error);
    return new StoreError('STORE_IO', `the store in ${this.#directory} failed: ${wordsOf(error)}`, {
      cause: error,
    });
  }
}

function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function corrupt(directory: string, cause: unknown): StoreError {
  return new StoreError(
    'STORE_CORRUPT',
    `the store in ${directory} is damaged (${wordsOf(cause)}). Guests, networks and disks go on. Move that directory away and apply your configuration files again: what is running is found and taken over.`,
    { cause },
  );
}

function openError(error: unknown, directory: string): StoreError {
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
  const code = codeOf(cause);
  if (code === 'LEVEL_LOCKED')
    return new StoreError('STORE_LOCKED', `the store in ${directory} is open in another process`, { cause });
  if (code === 'LEVEL_CORRUPTION') return corrupt(directory, cause);
  return new StoreError('STORE_IO', `cannot open the store in ${directory}: ${wordsOf(cause)}`, { cause });
}
