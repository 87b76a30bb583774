/** docs/configuration.md names every key that may be written, under the kind that it belongs to, and no kind is left out. */
import t from 'tap';
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { KINDS, SPECS } from '../../control/model/spec.js';

const text = readFileSync(new URL('../../../docs/configuration.md', import.meta.url), 'utf8');
const sections = new Map(
  text
    .split(/^## /m)
    .slice(1)
    .map(section => [section.split('\n', 1)[0] ?? '', section]),
);

/** Every property name of a JSON Schema, with its default where it has one. */
function* keysOf(schema: unknown): Generator<{ key: string; fallback: unknown }> {
  if (typeof schema !== 'object' || schema === null) return;
  if (Array.isArray(schema)) {
    for (const item of schema) yield* keysOf(item);
    return;
  }
  for (const [word, value] of Object.entries(schema)) {
    if (word === 'properties' && typeof value === 'object' && value !== null) {
      for (const [key, inner] of Object.entries(value as Record<string, { default?: unknown }>)) {
        yield { key, fallback: inner.default };
        yield* keysOf(inner);
      }
    } else yield* keysOf(value);
  }
}

for (const kind of KINDS) {
  await t.test(kind, async t => {
    // A card of a machine may have faults as a port of a switch has, which is where they are explained.
    const section = (sections.get(kind) ?? '') + (kind === 'machine' ? (sections.get('switch') ?? '') : '');
    t.ok(sections.has(kind), 'has a section');
    const keys = [...keysOf(z.toJSONSchema(SPECS[kind], { io: 'input' }))];
    t.ok(keys.length > 0);
    for (const { key, fallback } of keys) {
      t.match(section, new RegExp(`[\`\\s{]${key}[\`\\s:,]`), `${key} is explained`);
      if (typeof fallback === 'string')
        t.ok(section.includes(`\`${fallback}\``), `the default of ${key} is ${fallback}`);
    }
  });
}
