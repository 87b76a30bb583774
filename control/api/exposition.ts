/**
 * Prometheus text exposition 0.0.4, by hand: a few families of gauges and counters do not need a library. Pure.
 */
type Labels = Readonly<Record<string, string>>;

function escape(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}

export class Exposition {
  readonly #lines: string[] = [];

  family(
    name: string,
    type: 'gauge' | 'counter',
    help: string,
    samples: Iterable<readonly [Labels, number]>,
  ): void {
    let first = true;
    for (const [labels, value] of samples) {
      if (first) this.#lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
      first = false;
      const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escape(text)}"`);
      this.#lines.push(`${name}${pairs.length === 0 ? '' : `{${pairs.join(',')}}`} ${value}`);
    }
  }

  text(): string {
    return `${this.#lines.join('\n')}\n`;
  }
}

export function* counters(
  owner: Labels,
  values: Readonly<Record<string, number>>,
): Generator<readonly [Labels, number]> {
  for (const [counter, value] of Object.entries(values)) yield [{ ...owner, counter }, value];
}
