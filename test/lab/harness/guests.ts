/**
 * What a tiny guest says of itself on its serial line, read from the file that QEMU itself keeps: no process of
 * ours stands between the guest's word and the test. The facts are described in control/image/guest/*.sh; this
 * reads them once more, apart from the readers that the product has.
 */
import { readFileSync } from 'node:fs';
import { eventually } from './processes.js';

export type Fact = Readonly<Record<string, unknown>> & { readonly fact: string };

/** A fact may stand behind a prompt, and the line before it may be torn by a reset. */
export function parseFacts(text: string): Fact[] {
  const facts: Fact[] = [];
  for (const match of text.matchAll(/WEFT (\{.*?\})\r?\n/g)) {
    try {
      facts.push(JSON.parse(match[1] ?? '') as Fact);
    } catch {
      // A line that another one ran into.
    }
  }
  return facts;
}

export class Guest {
  readonly name: string;
  readonly serialLog: string;

  constructor(name: string, serialLog: string) {
    this.name = name;
    this.serialLog = serialLog;
  }

  /** Everything it said since its QEMU started, or after the first `from` facts. */
  facts(from = 0): Fact[] {
    try {
      return parseFacts(readFileSync(this.serialLog, 'utf8')).slice(from);
    } catch {
      return [];
    }
  }

  /** The facts of one kind. */
  said(fact: string, from = 0): Fact[] {
    return this.facts(from).filter(one => one.fact === fact);
  }

  /** How many it has said: what comes from here on is new. */
  mark(): number {
    return this.facts().length;
  }

  /** The first fact from `from` on that fits. Rejects with the last few that did not. */
  async waitFor(
    what: string,
    fits: (fact: Fact) => boolean,
    { from = 0, timeout_ms = 120_000 }: { from?: number; timeout_ms?: number } = {},
  ): Promise<Fact> {
    try {
      return await eventually(
        `${this.name} to say ${what}`,
        () => this.facts(from).find(fact => fits(fact)) ?? null,
        { timeout_ms, every_ms: 100 },
      );
    } catch (error) {
      const last = this.facts(from).slice(-8);
      throw new Error(`${String(error)}; its last words: ${JSON.stringify(last)}`, { cause: error });
    }
  }

  /** Number of the newest record that its disk acknowledged; 0 before the first. */
  acknowledged(): number {
    return Number(this.said('written').at(-1)?.['upto'] ?? 0);
  }
}
