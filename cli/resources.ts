/** Kinds and names as people type them, and what a resource's conditions say in short. */
import { Argument, type Command } from 'commander';
import { ResourcePage, type Resource } from '../control/api/contract.js';
import { KINDS, type Kind } from '../control/model/spec.js';
import type { Client } from './client.js';
import { nearest, UsageError } from './errors.js';
import { rowsOf } from './pages.js';
import type { Session } from './session.js';

const PLURALS: Readonly<Record<string, Kind>> = {
  switches: 'switch',
  pools: 'pool',
  images: 'image',
  volumes: 'volume',
  exports: 'export',
  machines: 'machine',
};

/** `machine`, `machines` and `Machine` are the same kind. */
export function parseKind(text: string): Kind {
  const word = text.toLowerCase();
  const kind = KINDS.find(candidate => candidate === word) ?? PLURALS[word];
  if (kind !== undefined) return kind;
  const near = nearest(word, [...KINDS, ...Object.keys(PLURALS)]);
  throw new UsageError(
    `"${text}" is not a kind of resource${near === undefined ? '' : `; did you mean "${near}"?`}`,
    `The kinds: ${KINDS.join(', ')}.`,
  );
}

/** `machine alice` and `machine/alice` alike. */
export function parseTarget(
  kind: string | undefined,
  name: string | undefined,
): { kind?: Kind; name?: string } {
  if (kind === undefined) return {};
  const slash = kind.indexOf('/');
  if (slash >= 0 && name !== undefined)
    throw new UsageError(`"${kind} ${name}": either KIND NAME or KIND/NAME`);
  if (slash >= 0) return { kind: parseKind(kind.slice(0, slash)), name: kind.slice(slash + 1) };
  return name === undefined ? { kind: parseKind(kind) } : { kind: parseKind(kind), name };
}

export function requireTarget(kind: string, name: string | undefined): { kind: Kind; name: string } {
  const target = parseTarget(kind, name);
  if (target.kind === undefined || target.name === undefined || target.name === '') {
    throw new UsageError(
      `which ${target.kind ?? 'resource'}?`,
      `Say its name: ${kind} NAME. "weft get ${kind}" lists them.`,
    );
  }
  return { kind: target.kind, name: target.name };
}

export function resourcePath(kind: string, name: string): string {
  return `/v1/resources/${encodeURIComponent(kind)}/${encodeURIComponent(name)}`;
}

export async function listResources(
  client: Client,
  query: { kind?: Kind | undefined; name?: string | undefined } = {},
  signal?: AbortSignal,
): Promise<Resource[]> {
  const options = { query, signal };
  const resources = await rowsOf(client, '/v1/resources', ResourcePage, page => page.resources, options);
  const rank = (resource: Resource) => KINDS.indexOf(resource.kind);
  return resources.toSorted((a, b) => rank(a) - rank(b) || (a.name < b.name ? -1 : 1));
}

export interface Readiness {
  ready: 'True' | 'False' | 'Unknown';
  reason: string;
  message: string;
}

/** Whether it is as asked for, judged by the newest generation only. */
export function readiness(resource: Resource): Readiness {
  if (resource.deleting) {
    return { ready: 'False', reason: 'Deleting', message: resource.status.lastError ?? '' };
  }
  const condition = resource.status.conditions.find(candidate => candidate.type === 'Ready');
  if (resource.status.observedGeneration < resource.generation) {
    // What is said is about an older spec; only its message may still help.
    return { ready: 'Unknown', reason: 'Pending', message: resource.status.lastError ?? '' };
  }
  if (condition === undefined) return { ready: 'Unknown', reason: 'Pending', message: '' };
  return { ready: condition.status, reason: condition.reason, message: condition.message };
}

export function isReady(resource: Resource): boolean {
  return readiness(resource).ready === 'True';
}

/** Conditions that tell of a trouble: good when False. All others are good when True. */
const TROUBLES: ReadonlySet<string> = new Set(['RestartRequired', 'SpaceLow']);

export function isGood(condition: { type: string; status: string }): boolean {
  return condition.status === (TROUBLES.has(condition.type) ? 'False' : 'True');
}

/** Arguments with these names are completed from what exists; see verbs/completion.ts. */
export function kindArgument(required: boolean): Argument {
  return new Argument(required ? '<kind>' : '[kind]', `one of ${KINDS.join(', ')}, or KIND/NAME`);
}

export type Register = (program: Command, session: Session) => void;
