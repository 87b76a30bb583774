/**
 * What a configuration is once it has been read: for each kind a map from name to spec. Everything after the
 * parser (validation, plans, the reconciler) works on `Specs`; what the user wrote, letter for letter, is kept
 * beside it as `Declared.written`, because that is what is stored and given back.
 */
import { KINDS, SPECS } from './spec.js';
import type { Kind, SpecOf } from './spec.js';

export type AnySpec = SpecOf[Kind];

export interface Declared<K extends Kind = Kind> {
  kind: K;
  name: string;
  /** As it stands in the user's file. */
  written: unknown;
  /** With defaults filled in; sizes and durations still in the user's spelling. */
  spec: SpecOf[K];
}

/** `machine/alice` */
export type Key = `${Kind}/${string}`;

export function keyOf(kind: Kind, name: string): Key {
  return `${kind}/${name}`;
}

export function splitKey(key: Key): { kind: Kind; name: string } {
  const slash = key.indexOf('/');
  return { kind: key.slice(0, slash) as Kind, name: key.slice(slash + 1) };
}

export type Specs = { readonly [K in Kind]: ReadonlyMap<string, SpecOf[K]> };

export type MutableSpecs = { readonly [K in Kind]: Map<string, SpecOf[K]> };

export function emptySpecs(): MutableSpecs {
  return {
    switch: new Map(),
    pool: new Map(),
    image: new Map(),
    volume: new Map(),
    export: new Map(),
    machine: new Map(),
  };
}

/** The map of a kind known only at run time. */
export function mapOf(specs: Specs, kind: Kind): ReadonlyMap<string, AnySpec> {
  return specs[kind];
}

export function setSpec(specs: MutableSpecs, kind: Kind, name: string, spec: AnySpec): void {
  (specs[kind] as Map<string, AnySpec>).set(name, spec);
}

/** Fills in defaults; throws when it is not a spec of that kind, which a stored one always is. */
export function readSpec(kind: Kind, written: unknown): AnySpec {
  return SPECS[kind].parse(written ?? {});
}

export function specsOf(resources: Iterable<{ kind: Kind; name: string; spec: AnySpec }>): MutableSpecs {
  const specs = emptySpecs();
  for (const { kind, name, spec } of resources) setSpec(specs, kind, name, spec);
  return specs;
}

/** In the order in which resources come to be. */
export function* eachSpec(specs: Specs): Generator<{ kind: Kind; name: string; spec: AnySpec }> {
  for (const kind of KINDS) for (const [name, spec] of mapOf(specs, kind)) yield { kind, name, spec };
}

/** `machine.alice.nics[0].switch`, as messages and the API write a place. */
export function dotted(path: readonly PropertyKey[]): string {
  let text = '';
  for (const step of path) {
    if (typeof step === 'number') text += `[${step}]`;
    else text += text === '' ? String(step) : `.${String(step)}`;
  }
  return text;
}
