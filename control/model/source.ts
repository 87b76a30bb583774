/**
 * YAML files as trees that remember where everything stands. This file knows YAML and positions, nothing of
 * weft's kinds; parse.ts knows the kinds and nothing of YAML's syntax tree.
 */
import { LineCounter, isAlias, isMap, isScalar, isSeq, parseAllDocuments } from 'yaml';
import type { Document, Node, Pair } from 'yaml';

export interface Position {
  path: string;
  /** Both from 1; 0 when the whole file is meant. */
  line: number;
  column: number;
}

export interface SourceProblem extends Position {
  /** The map that holds the key; empty for syntax. */
  at: string;
  message: string;
}

/** Aliases may stand for at most so many nodes when expanded ("billion laughs"). */
const MAX_ALIASES = 100;

/** Of one file's syntax errors, so many are reported. */
const MAX_SYNTAX_PROBLEMS = 10;

/** Of equal keys, so many are reported. */
const MAX_EQUAL_KEYS = 100;

export interface Entry {
  key: string;
  keyPosition: Position;
  value: SourceNode;
}

/** One value in a file. */
export class SourceNode {
  readonly #file: SourceFile;
  readonly #document: Document;
  readonly #node: Node | null;
  readonly position: Position;
  /** Written as `*name`; what it stands for is found where `&name` is. */
  readonly isAlias: boolean;

  constructor(file: SourceFile, document: Document, node: Node | null, position: Position) {
    this.#file = file;
    this.#document = document;
    this.isAlias = isAlias(node);
    this.#node = isAlias(node) ? (node.resolve(document) ?? null) : node;
    this.position = position;
  }

  get isMap(): boolean {
    return isMap(this.#node);
  }

  get isEmpty(): boolean {
    return this.#node === null || (isScalar(this.#node) && this.#node.value === null);
  }

  /** The entries of a map in their order; none when it is something else. */
  entries(): Entry[] {
    if (!isMap(this.#node)) return [];
    return this.#node.items.map(pair => this.#entry(pair as Pair<Node, Node | null>));
  }

  /** The items of a list; none when it is something else. */
  items(): SourceNode[] {
    if (!isSeq(this.#node)) return [];
    return this.#node.items.map(item => {
      const node = item as Node;
      return new SourceNode(this.#file, this.#document, node, this.#file.positionOf(node) ?? this.position);
    });
  }

  #entry(pair: Pair<Node, Node | null>): Entry {
    const keyPosition = this.#file.positionOf(pair.key) ?? this.position;
    const key = keyText(pair.key);
    const value = new SourceNode(
      this.#file,
      this.#document,
      pair.value,
      (pair.value === null ? undefined : this.#file.positionOf(pair.value)) ?? keyPosition,
    );
    return { key, keyPosition, value };
  }

  toJS(): unknown {
    if (this.#node === null) return null;
    return this.#node.toJS(this.#document, { maxAliasCount: MAX_ALIASES }) as unknown;
  }

  /** Where a path leads, or as far along it as there is something; `blame` chooses the key or the value. */
  find(path: readonly (string | number)[], blame: 'key' | 'value', ownKey: Position): Position {
    const [step, ...rest] = path;
    if (step === undefined) return blame === 'key' ? ownKey : this.position;
    if (isMap(this.#node)) {
      // The last of several equal keys is the one whose value counts.
      const entry = this.entries().findLast(candidate => candidate.key === String(step));
      return entry === undefined ? ownKey : entry.value.find(rest, blame, entry.keyPosition);
    }
    if (isSeq(this.#node) && typeof step === 'number') {
      const item = this.#node.items[step] as Node | null | undefined;
      if (item === undefined || item === null) return this.position;
      const position = this.#file.positionOf(item) ?? this.position;
      return new SourceNode(this.#file, this.#document, item, position).find(rest, blame, position);
    }
    return ownKey;
  }
}

function keyText(key: Node): string {
  if (isScalar(key)) return key.source ?? String(key.value);
  return String(key);
}

export class SourceFile {
  readonly path: string;
  /** Empty when the file has no content. */
  readonly roots: readonly SourceNode[];
  readonly problems: readonly SourceProblem[];
  readonly #lines = new LineCounter();

  constructor(path: string, text: string) {
    this.path = path;
    const roots: SourceNode[] = [];
    const problems: SourceProblem[] = [];
    try {
      const documents = parseAllDocuments(text, {
        lineCounter: this.#lines,
        // Equal keys are found below, to be told in words that say where the first one is.
        uniqueKeys: false,
        prettyErrors: false,
      });
      for (const document of Array.isArray(documents) ? documents : []) {
        const lines = new Set<number>();
        for (const error of document.errors) {
          // One fault often confuses the parser for a while after.
          const { line } = this.#at(error.pos[0]);
          if (lines.has(line) || lines.size >= MAX_SYNTAX_PROBLEMS) continue;
          lines.add(line);
          problems.push({
            ...this.#at(error.pos[0]),
            at: '',
            message: syntaxInWords(error.code, error.message),
          });
        }
        if (document.errors.length > 0 || document.contents === null) continue;
        const root = document.contents as Node;
        roots.push(new SourceNode(this, document as Document, root, this.positionOf(root) ?? this.#at(0)));
      }
      if (problems.length === 0) for (const root of roots) this.#findEqualKeys(root, [], problems);
    } catch (error) {
      // A tree too deep for the parser, or too many aliases: a fault of the file, not of ours.
      problems.push({
        path,
        line: 0,
        column: 0,
        at: '',
        message: `cannot be read as YAML: ${error instanceof Error ? error.message : String(error)}`,
      });
    }
    this.roots = roots;
    this.problems = problems;
  }

  positionOf(node: Node): Position | undefined {
    const offset = node.range?.[0];
    return offset === undefined ? undefined : this.#at(offset);
  }

  #at(offset: number): Position {
    const { line, col } = this.#lines.linePos(offset);
    return { path: this.path, line, column: col };
  }

  /** Two resources of one name (the second level) are the configuration's business, not YAML's: see parse.ts. */
  #findEqualKeys(node: SourceNode, above: string[], problems: SourceProblem[]): void {
    // Looked through where it was written; following aliases would take as long as their author likes.
    if (node.isAlias) return;
    const first = new Map<string, Position>();
    for (const { key, keyPosition, value } of node.entries()) {
      const earlier = first.get(key);
      if (earlier === undefined) first.set(key, keyPosition);
      else if (above.length !== 1 && problems.length < MAX_EQUAL_KEYS)
        problems.push({
          ...keyPosition,
          at: [...above, key].join('.'),
          message: `"${key}" is written twice; the first is on line ${earlier.line}`,
        });
      this.#findEqualKeys(value, [...above, key], problems);
    }
    for (const item of node.items()) this.#findEqualKeys(item, above, problems);
  }
}

/** The parser's own words, where they say enough; ours for what people meet most. */
function syntaxInWords(code: string, message: string): string {
  const ours: Readonly<Record<string, string>> = {
    TAB_AS_INDENT: 'a tab cannot indent YAML; use spaces',
    BAD_INDENT: 'wrong indentation',
    MULTILINE_IMPLICIT_KEY: 'a key must be on one line; is a colon missing?',
    MISSING_CHAR: message,
  };
  return `YAML syntax: ${ours[code] ?? message.replace(/\.?$/, '')}`;
}
