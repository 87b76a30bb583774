/**
 * Lists in pages. A reply has at most PAGE_MAX rows and the cursor of the next page, or null after the last. The cursor
 * says after which row to go on, not after how many: what is made or deleted meanwhile neither repeats a row nor skips
 * one that was there all the time. Pure.
 */
import { z } from 'zod';
import { ApiError } from './errors.js';
import { WholeNumber } from './http.js';

/** Rows of a reply, also of one that asks for no limit. */
export const PAGE_MAX = 1000;
const CURSOR_MAX_BYTES = 4096;
/** Of a list whose order is no order of keys: so many of the rows before are remembered, since the last may be deleted. */
const REMEMBERED = 8;

export const PageQuery = z.object({
  limit: WholeNumber.refine(
    limit => limit >= 1 && limit <= PAGE_MAX,
    `a number from 1 to ${PAGE_MAX}`,
  ).optional(),
  cursor: z.string().max(CURSOR_MAX_BYTES).optional(),
});
export type PageQuery = z.infer<typeof PageQuery>;

/** What the table of operations says of it. */
export const PAGE_PARAMETERS = {
  limit: {
    schema: z.int().min(1).max(PAGE_MAX),
    description: `at most so many; ${PAGE_MAX} when left out`,
  },
  cursor: {
    schema: z.string().max(CURSOR_MAX_BYTES),
    description: '`next` of the page before, with the same filters; from the beginning when left out',
  },
} as const;

/** Null: this was the last page. */
export const NextCursor = z.string().nullable();

export interface Page<T> {
  rows: T[];
  next: string | null;
}

const Words = z.array(z.string()).min(1).max(REMEMBERED);

function write(words: readonly string[]): string {
  return Buffer.from(JSON.stringify(words)).toString('base64url');
}

function read(cursor: string): string[] {
  try {
    return Words.parse(JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8')));
  } catch {
    throw new ApiError(400, 'BAD_QUERY', 'cursor: not one that a reply has given; begin without it');
  }
}

/** By code units, word by word, as the rows are sorted. */
export function compareKeys(a: readonly string[], b: readonly string[]): number {
  for (const [i, left] of a.entries()) {
    const right = b[i] ?? '';
    if (left !== right) return left < right ? -1 : 1;
  }
  return a.length - b.length;
}

/** `rows` sorted by `keyOf`, each key once. */
export function pageByKey<T>(
  rows: readonly T[],
  keyOf: (row: T) => readonly string[],
  { limit = PAGE_MAX, cursor }: PageQuery,
): Page<T> {
  let from = 0;
  if (cursor !== undefined) {
    const after = read(cursor);
    let end = rows.length;
    while (from < end) {
      const middle = (from + end) >>> 1;
      if (compareKeys(keyOf(rows[middle]!), after) <= 0) from = middle + 1;
      else end = middle;
    }
  }
  const taken = rows.slice(from, from + limit);
  return { rows: taken, next: from + limit < rows.length ? write(keyOf(taken.at(-1)!)) : null };
}

/** `rows` in an order of their own, which only grows at its end; each has an identity that is never given again. */
export function pageByIdentity<T>(
  rows: readonly T[],
  identityOf: (row: T) => string,
  { limit = PAGE_MAX, cursor }: PageQuery,
): Page<T> {
  let from = 0;
  if (cursor !== undefined) {
    const places = new Map(rows.map((row, index) => [identityOf(row), index]));
    const last = read(cursor)
      .map(one => places.get(one))
      .find(place => place !== undefined);
    if (last === undefined)
      throw new ApiError(
        410,
        'CURSOR_GONE',
        'what the page before ended with was deleted meanwhile: begin without a cursor',
      );
    from = last + 1;
  }
  const taken = rows.slice(from, from + limit);
  if (from + limit >= rows.length) return { rows: taken, next: null };
  const before = rows.slice(Math.max(0, from + limit - REMEMBERED), from + limit);
  return { rows: taken, next: write(before.map(identityOf).toReversed()) };
}

/** `*` any characters, `?` one; in time of the product of the lengths, whatever the pattern. */
export function globMatches(pattern: string, text: string): boolean {
  let at = 0;
  let back = -1;
  let backText = 0;
  let i = 0;
  while (i < text.length) {
    if (pattern[at] === '*') {
      back = at++;
      backText = i;
    } else if (at < pattern.length && (pattern[at] === '?' || pattern[at] === text[i])) {
      at++;
      i++;
    } else if (back >= 0) {
      at = back + 1;
      i = ++backText;
    } else return false;
  }
  while (pattern[at] === '*') at++;
  return at === pattern.length;
}

/** `KEY` has it, `!KEY` has it not, `KEY=VALUE`, `KEY!=VALUE`; several, by commas, must all be true. */
export function labelsMatch(selector: string, labels: Readonly<Record<string, string>> = {}): boolean {
  return selector
    .split(',')
    .map(termOf)
    .every(({ key, value, not }) => {
      const is = Object.hasOwn(labels, key) ? labels[key] : undefined;
      return (value === undefined ? is !== undefined : is === value) !== not;
    });
}

function termOf(term: string): { key: string; value: string | undefined; not: boolean } {
  const [, none = '', key = '', not = '', value] = /^(!?)([^=!]+)(?:(!?)=(.*))?$/.exec(term) ?? [];
  if (key === '' || (none !== '' && value !== undefined))
    throw new ApiError(
      400,
      'BAD_QUERY',
      `label: "${term}" is none of KEY, !KEY, KEY=VALUE, KEY!=VALUE (several: with commas between)`,
    );
  return { key, value, not: none !== '' || not !== '' };
}
