/**
 * Config files -> declared resources and problems. Several files are one configuration. Every problem is
 * reported, in the order of its place, so that a user mends a file in one round.
 *
 * What is judged here: YAML, kinds, names, and each resource by its schema (issue.ts has the words). What
 * needs the others (references, two writers of one disk) is judged by validate.ts on the whole configuration
 * that would result, and is given its place in a file by `Parsed.locate`.
 */
import { KINDS, SPECS, Name } from './spec.js';
import type { Kind } from './spec.js';
import { dotted, keyOf } from './resource.js';
import type { AnySpec, Declared, Key } from './resource.js';
import { didYouMean } from './nearest.js';
import { findings, kindOfValue } from './issue.js';
import { SourceFile } from './source.js';
import type { Position, SourceNode } from './source.js';

export interface Problem extends Position {
  /** `machine.alice.nics[0].switch`; empty for syntax. */
  at: string;
  message: string;
}

export interface Parsed {
  /** Those without a problem of their own. */
  declared: Map<Key, Declared>;
  /** All that the files mention, faulty ones too: not "missing" when another refers to them. */
  mentioned: ReadonlySet<Key>;
  problems: Problem[];
  /** False after a YAML error: then what is absent may merely be unreadable. */
  whole: boolean;
  /** Where a place in the configuration stands; path '' when no file has it. */
  locate(path: readonly (string | number)[], blame: 'key' | 'value'): Position;
}

/** More problems than anyone reads; the rest is counted. */
export const MAX_PROBLEMS = 200;

interface Place {
  node: SourceNode;
  key: Position;
}

class Reading {
  readonly declared = new Map<Key, Declared>();
  readonly places = new Map<Key, Place>();
  readonly problems: Problem[] = [];
  whole = true;

  file(path: string, text: string): void {
    const file = new SourceFile(path, text);
    for (const problem of file.problems) {
      // Equal keys leave the rest of the file readable; a syntax error does not.
      if (problem.at === '') this.whole = false;
      this.problems.push(problem);
    }
    for (const root of file.roots) this.#root(root);
  }

  #root(root: SourceNode): void {
    if (root.isEmpty) return;
    if (!root.isMap) {
      this.#problem(
        root.position,
        '',
        `a configuration is a map of kinds (${KINDS.join(', ')}), this is ${kindOfValue(root.toJS())}`,
      );
      return;
    }
    for (const { key, keyPosition, value } of root.entries()) {
      if (!isKind(key)) {
        this.#problem(
          keyPosition,
          key,
          `unknown kind "${key}"${didYouMean(key, KINDS) || `; there are ${KINDS.join(', ')}`}`,
        );
        continue;
      }
      if (value.isEmpty) continue;
      if (!value.isMap) {
        this.#problem(
          value.position,
          key,
          `expected a map from names to ${key} specs, found ${kindOfValue(value.toJS())}`,
        );
        continue;
      }
      for (const entry of value.entries()) this.#resource(key, entry.key, entry.keyPosition, entry.value);
    }
  }

  #resource(kind: Kind, name: string, keyPosition: Position, node: SourceNode): void {
    const at = `${kind}.${name}`;
    const key = keyOf(kind, name);
    const earlier = this.places.get(key);
    if (earlier !== undefined) {
      const { path, line, column } = earlier.key;
      this.#problem(
        keyPosition,
        at,
        `${kind} "${name}" is defined twice; the first is at ${path}:${line}:${column}`,
      );
      return;
    }
    this.places.set(key, { node, key: keyPosition });
    const nameCheck = Name.safeParse(name);
    if (!nameCheck.success) {
      this.#problem(
        keyPosition,
        at,
        `"${name}" cannot be a name: ${nameCheck.error.issues[0]?.message ?? ''}`,
      );
      return;
    }
    let written: unknown;
    try {
      written = node.isEmpty ? {} : node.toJS();
    } catch (error) {
      this.#problem(
        node.position,
        at,
        `cannot be read: ${error instanceof Error ? error.message : String(error)}`,
      );
      return;
    }
    const judged = SPECS[kind].safeParse(written);
    if (judged.success) {
      this.declared.set(key, { kind, name, written, spec: judged.data as AnySpec });
      return;
    }
    for (const finding of findings(SPECS[kind], written, judged.error.issues))
      this.#problem(
        node.find(finding.path, finding.blame, keyPosition),
        dotted([kind, name, ...finding.path]),
        finding.message,
      );
  }

  #problem(position: Position, at: string, message: string): void {
    this.problems.push({ ...position, at, message });
  }
}

function isKind(word: string): word is Kind {
  return (KINDS as readonly string[]).includes(word);
}

/** By file in the order given, then by line and column; at most MAX_PROBLEMS. */
export function inOrder(problems: readonly Problem[], files: readonly { path: string }[]): Problem[] {
  const rank = new Map(files.map(({ path }, index) => [path, index]));
  const rankOf = (problem: Problem): number => rank.get(problem.path) ?? files.length;
  const sorted = [...problems].sort(
    (a, b) => rankOf(a) - rankOf(b) || a.line - b.line || a.column - b.column,
  );
  if (sorted.length <= MAX_PROBLEMS) return sorted;
  return [
    ...sorted.slice(0, MAX_PROBLEMS),
    { path: '', line: 0, column: 0, at: '', message: `and ${sorted.length - MAX_PROBLEMS} more problems` },
  ];
}

export function parse(files: readonly { path: string; text: string }[]): Parsed {
  const reading = new Reading();
  for (const { path, text } of files) reading.file(path, text);
  return {
    declared: reading.declared,
    mentioned: new Set(reading.places.keys()),
    problems: inOrder(reading.problems, files),
    whole: reading.whole,
    locate(path, blame) {
      const [kind, name, ...rest] = path;
      const place = reading.places.get(keyOf(kind as Kind, String(name)));
      if (place === undefined) return { path: '', line: 0, column: 0 };
      return place.node.find(rest, blame, place.key);
    },
  };
}
