/**
 * Zod's issues in the words of a person's config file. Zod knows what is wrong with a value; it does not know
 * which of our alternatives was meant, nor what else could have been written there. Both are found here by
 * walking the schema (never by a second description of the format).
 */
import { z } from 'zod';
import type { $ZodIssue, $ZodType } from 'zod/v4/core';
import { didYouMean, someOf } from './nearest.js';

export interface Finding {
  /** From the resource's spec downwards. */
  path: (string | number)[];
  /** Whether the key is to blame (unknown, missing beside it) or the value under it. */
  blame: 'key' | 'value';
  message: string;
}

type Path = readonly PropertyKey[];

function plainPath(path: Path): (string | number)[] {
  return path.map(step => (typeof step === 'number' ? step : String(step)));
}

function valueAt(value: unknown, path: Path): unknown {
  let here = value;
  for (const step of path) {
    if (here === null || typeof here !== 'object') return undefined;
    here = (here as Record<PropertyKey, unknown>)[step];
  }
  return here;
}

/** What a value is, as people say it. */
export function kindOfValue(value: unknown): string {
  if (value === null || value === undefined) return 'nothing';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'a map';
  if (typeof value === 'string') return `the text ${quoted(value)}`;
  if (typeof value === 'number') return `the number ${value}`;
  return value === true ? 'true' : value === false ? 'false' : 'something else';
}

function quoted(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 57)}...` : text);
}

const EXPECTED: Readonly<Record<string, string>> = {
  string: 'a text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a map',
  record: 'a map',
};

/** The schemas that may stand at a path: several below a union. */
function schemasAt(schema: $ZodType, path: Path): $ZodType[] {
  const def = schema._zod.def as { type: string } & Record<string, unknown>;
  if (def.type === 'optional' || def.type === 'default' || def.type === 'nullable')
    return schemasAt(def['innerType'] as $ZodType, path);
  if (def.type === 'union') return (def['options'] as $ZodType[]).flatMap(option => schemasAt(option, path));
  const [step, ...rest] = path;
  if (step === undefined) return [schema];
  if (def.type === 'object') {
    const member = (def['shape'] as Record<PropertyKey, $ZodType | undefined>)[step];
    return member === undefined ? [] : schemasAt(member, rest);
  }
  if (def.type === 'record') return schemasAt(def['valueType'] as $ZodType, rest);
  if (def.type === 'array') return schemasAt(def['element'] as $ZodType, rest);
  return [];
}

/** The keys that may be written in the map at a path. */
function keysAt(schema: $ZodType, path: Path): string[] {
  const keys = new Set<string>();
  for (const candidate of schemasAt(schema, path)) {
    const def = candidate._zod.def as { type: string; shape?: Record<string, unknown> };
    if (def.type === 'object' && def.shape !== undefined)
      for (const key of Object.keys(def.shape)) keys.add(key);
  }
  return [...keys];
}

function rangeInWords(schema: $ZodType, path: Path): string | undefined {
  for (const candidate of schemasAt(schema, path)) {
    const json = z.toJSONSchema(candidate);
    if ((json.type === 'integer' || json.type === 'number') && json.minimum !== undefined)
      return `from ${json.minimum} to ${json.maximum ?? 'any'}`;
  }
  return undefined;
}

function sized(count: number | bigint, unit: string): string {
  return `${count} ${unit}${Number(count) === 1 ? '' : 's'}`;
}

function boundInWords(issue: $ZodIssue & { code: 'too_big' | 'too_small' }, schema: $ZodType): string {
  const bound = issue.code === 'too_big' ? issue.maximum : issue.minimum;
  const side = issue.code === 'too_big' ? 'at most' : 'at least';
  if (issue.origin === 'string') return `must have ${side} ${sized(bound, 'character')}`;
  if (issue.origin === 'array')
    return `must have ${side} ${sized(bound, 'entry').replace('entrys', 'entries')}`;
  const range = rangeInWords(schema, issue.path);
  return range === undefined ? `must be ${side} ${bound}` : `out of range: ${range}`;
}

/** Of a union's alternatives, the one that the value comes nearest to; undefined when none is near. */
function nearestAlternative(issue: $ZodIssue & { code: 'invalid_union' }): $ZodIssue[] | undefined {
  // All others are of another type, a text or a list where this is a map: this one is meant, whatever it lacks.
  const ofType = issue.errors.filter(
    issues => !issues.some(one => one.code === 'invalid_type' && one.path.length === 0),
  );
  if (ofType.length === 1) return ofType[0];
  let best: $ZodIssue[] | undefined;
  let bestBadness = Number.POSITIVE_INFINITY;
  for (const issues of issue.errors) {
    // A wrong type at the top, or the alternative's own key missing: not the one that was meant.
    const meant = issues.every(
      one => !(one.code === 'invalid_type' && (one.path.length === 0 || isMissing(one))),
    );
    if (!meant) continue;
    if (issues.length < bestBadness) {
      best = issues;
      bestBadness = issues.length;
    }
  }
  return best;
}

function isMissing(issue: $ZodIssue): boolean {
  return issue.code === 'invalid_type' && issue.message.endsWith('received undefined');
}

function unionInWords(schema: $ZodType, path: Path, value: unknown): string {
  const options = schemasAt(schema, path);
  const maps = options.map(option => option._zod.def as { type: string; shape?: Record<string, unknown> });
  if (maps.every(def => def.type === 'object')) {
    const first = maps.map(def => Object.keys(def.shape ?? {})[0] ?? '').filter(key => key !== '');
    const written = value !== null && typeof value === 'object' ? Object.keys(value) : [];
    const unknown = written.find(key => !maps.some(def => Object.hasOwn(def.shape ?? {}, key)));
    const hint = unknown === undefined ? '' : didYouMean(unknown, first);
    return `must be a map with one of the keys ${first.join(', ')}${hint}`;
  }
  const types = options.map(option => {
    const json = z.toJSONSchema(option) as { type?: string };
    return EXPECTED[json.type === 'integer' ? 'int' : (json.type ?? '')] ?? 'another value';
  });
  return `expected ${[...new Set(types)].join(' or ')}, found ${kindOfValue(value)}`;
}

/** All that is wrong with a value, in words. `schema` is the one that judged it, `value` what it judged. */
export function findings(schema: $ZodType, value: unknown, issues: readonly $ZodIssue[]): Finding[] {
  const found: Finding[] = [];
  for (const issue of issues) {
    const path = plainPath(issue.path);
    const here = valueAt(value, issue.path);
    switch (issue.code) {
      case 'unrecognized_keys': {
        const known = keysAt(schema, issue.path);
        for (const key of issue.keys) {
          const hint = didYouMean(key, known) || `; known here: ${someOf(known, 16)}`;
          found.push({ path: [...path, key], blame: 'key', message: `unknown key "${key}"${hint}` });
        }
        break;
      }
      case 'invalid_type':
        if (here === undefined)
          found.push({
            path: path.slice(0, -1),
            blame: 'key',
            message: `"${String(path.at(-1) ?? '')}" is missing`,
          });
        else if (issue.expected === 'int' && typeof here === 'number')
          found.push({ path, blame: 'value', message: `expected a whole number, found ${here}` });
        else
          found.push({
            path,
            blame: 'value',
            message: `expected ${EXPECTED[issue.expected] ?? issue.expected}, found ${kindOfValue(here)}`,
          });
        break;
      case 'invalid_value': {
        const words = issue.values.map(String);
        const hint = typeof here === 'string' ? didYouMean(here, words) : '';
        found.push({
          path,
          blame: 'value',
          message:
            (words.length === 1 ? `must be ${words[0]}` : `must be one of ${words.join(', ')}`) +
            `, found ${kindOfValue(here)}${hint}`,
        });
        break;
      }
      case 'too_big':
      case 'too_small': {
        const what = typeof here === 'number' ? `${here} is ` : '';
        found.push({ path, blame: 'value', message: `${what}${boundInWords(issue, schema)}` });
        break;
      }
      case 'invalid_union': {
        const meant = nearestAlternative(issue);
        if (meant === undefined) {
          found.push({ path, blame: 'value', message: unionInWords(schema, issue.path, here) });
          break;
        }
        const inner = findings(
          schema,
          value,
          meant.map(one => ({ ...one, path: [...issue.path, ...one.path] })),
        );
        found.push(...inner);
        break;
      }
      case 'invalid_key':
        found.push({
          path,
          blame: 'key',
          message: `"${String(path.at(-1))}": ${issue.issues.map(one => one.message).join('; ')}`,
        });
        break;
      case 'invalid_format': {
        const ours = !issue.message.startsWith('Invalid ');
        const must =
          issue.format === 'starts_with' && 'prefix' in issue
            ? `must begin with "${String(issue.prefix)}"`
            : ours
              ? issue.message
              : 'is not written as it must be';
        const prefix = typeof here === 'string' ? `${quoted(here)}: ` : '';
        found.push({ path, blame: 'value', message: `${prefix}${must}` });
        break;
      }
      default: {
        // Our own words from spec.ts.
        const leaf = typeof here === 'string' ? `${quoted(here)}: ` : '';
        found.push({
          path,
          blame: here !== null && typeof here === 'object' ? 'key' : 'value',
          message: `${leaf}${issue.message}`,
        });
      }
    }
  }
  return dropEchoes(found);
}

/**
 * One wrong value is one problem, though several rules may reject it; and a map whose parts are wrong is not
 * reported as wrong in itself, since mending the parts usually mends it.
 */
function dropEchoes(found: Finding[]): Finding[] {
  const seen = new Set<string>();
  return found.filter(({ path, blame, message }) => {
    const place = JSON.stringify(path);
    const within = place.slice(0, -1) + ',';
    if (blame === 'key' && found.some(other => JSON.stringify(other.path).startsWith(within))) return false;
    const echo = blame === 'value' ? place : place + message;
    if (seen.has(echo)) return false;
    seen.add(echo);
    return true;
  });
}
