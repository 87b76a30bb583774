/**
 * What a spec means, apart from how it is spelled: `1024MiB` is `1GiB`, no vlan is VLAN 1, a derived MAC
 * address is that address. Two specs of equal meaning are no change: nothing is planned, stored or restarted
 * for them (phantom differences that restart guests are the classic complaint about tools of this sort).
 */
import { vlanRanges } from './ranges.js';
import { parseBandwidth } from './storage/rates.js';
import { parseDuration_ms, parseSize } from './words.js';
import type { Kind } from './spec.js';
import { macOf } from './mac.js';
import type { AnySpec } from './resource.js';

export { vlanRanges } from './ranges.js';

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

const SIZES: ReadonlySet<string> = new Set(['size', 'memory', 'quota']);
const DURATIONS: ReadonlySet<string> = new Set([
  'ageing',
  'stopTimeout',
  'maxAge',
  'hello',
  'forwardDelay',
  'bpduGuardRecovery',
  'every',
  'patience',
  'idleTimeout',
]);

export function sizeOf(text: string): number {
  return parseSize(text) ?? Number.NaN;
}

export function durationOf_ms(text: string): number {
  return parseDuration_ms(text) ?? Number.NaN;
}

function canonicalValue(key: string, value: unknown): Json {
  if (typeof value === 'string') {
    if (SIZES.has(key)) return sizeOf(value);
    if (DURATIONS.has(key)) return durationOf_ms(value);
    return value;
  }
  if (Array.isArray(value)) {
    if (key === 'allowed') return vlanRanges(value as (number | string)[]);
    return value.map(item => canonicalValue('', item));
  }
  if (value !== null && typeof value === 'object') {
    const out: { [key: string]: Json } = {};
    for (const inner of Object.keys(value).sort()) {
      const member = (value as Record<string, unknown>)[inner];
      if (member !== undefined) out[inner] = canonicalValue(inner, member);
    }
    return out;
  }
  return (value ?? null) as Json;
}

function withVlan(member: Json): void {
  const port = member as { [key: string]: Json };
  if (port['vlan'] === undefined && port['trunk'] === undefined) port['vlan'] = 1;
}

function canonicalLimit({ rate, burst }: { [key: string]: Json }): Json {
  const inBytes = (word: Json | undefined): Json | undefined =>
    typeof word === 'string' ? (parseBandwidth(word) ?? parseSize(word) ?? word) : word;
  return { rate: inBytes(rate) ?? null, ...(burst === undefined ? {} : { burst: inBytes(burst) ?? null }) };
}

/** Equal for specs of equal meaning, and with the shape of the spec, so that paths are the same. */
export function canonical(kind: Kind, name: string, spec: AnySpec): { [key: string]: Json } {
  const out = canonicalValue('', spec) as { [key: string]: Json };
  if (kind === 'switch')
    for (const port of Object.values(out['ports'] as { [key: string]: Json })) withVlan(port);
  if (kind === 'export') {
    out['exportName'] ??= name;
    if (isMap(out['tcp'])) out['tcp'] = [out['tcp']];
  }
  if (kind === 'volume' && isMap(out['limits']))
    for (const [word, limit] of Object.entries(out['limits']))
      out['limits'][word] = canonicalLimit(isMap(limit) ? limit : { rate: limit });
  if (kind === 'machine')
    for (const [index, nic] of (out['nics'] as { [key: string]: Json }[]).entries()) {
      withVlan(nic);
      nic['mac'] ??= macOf(name, index, undefined);
      nic['transport'] ??= 'vhost';
      nic['queues'] ??= 1;
    }
  if (kind === 'machine')
    for (const disk of out['disks'] as { [key: string]: Json }[]) disk['attach'] ??= 'nbd';
  return out;
}

export function sameMeaning(kind: Kind, name: string, a: AnySpec, b: AnySpec): boolean {
  return JSON.stringify(canonical(kind, name, a)) === JSON.stringify(canonical(kind, name, b));
}

export interface Difference {
  path: (string | number)[];
  /** In the user's spelling; undefined where there is nothing. */
  from: unknown;
  to: unknown;
}

/** The places where two specs mean different things, deepest first where both have something. */
export function differences(kind: Kind, name: string, from: AnySpec, to: AnySpec): Difference[] {
  const found: Difference[] = [];
  const walk = (path: (string | number)[], a: Json | undefined, b: Json | undefined): void => {
    if (JSON.stringify(a) === JSON.stringify(b)) return;
    if (isMap(a) && isMap(b)) {
      for (const key of new Set([...Object.keys(a), ...Object.keys(b)])) walk([...path, key], a[key], b[key]);
      return;
    }
    if (Array.isArray(a) && Array.isArray(b) && path.at(-1) !== 'allowed') {
      for (let i = 0; i < Math.max(a.length, b.length); i++) walk([...path, i], a[i], b[i]);
      return;
    }
    found.push({ path, from: at(from, path) ?? a, to: at(to, path) ?? b });
  };
  walk([], canonical(kind, name, from), canonical(kind, name, to));
  return found;
}

function isMap(value: Json | undefined): value is { [key: string]: Json } {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}

function at(value: unknown, path: readonly (string | number)[]): unknown {
  let here = value;
  for (const step of path) {
    if (here === null || typeof here !== 'object') return undefined;
    here = (here as Record<PropertyKey, unknown>)[step];
  }
  return here;
}
