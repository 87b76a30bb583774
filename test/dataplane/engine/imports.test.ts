/** After a crash the guests wait for the engine's thread: what it imports, it imports before the first frame. */
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const IMPORT = /^(?:import|export)[^'"]*?from ['"]([^'"]+)['"]|^import ['"]([^'"]+)['"]/gm;

await t.test('the engine needs no package but the one for system calls', async t => {
  const seen = new Set<string>();
  const packages = new Map<string, string>();
  const walk = (file: string): void => {
    if (seen.has(file)) return;
    seen.add(file);
    for (const [, from, alone] of readFileSync(file, 'utf8').matchAll(IMPORT)) {
      const name = (from ?? alone)!;
      if (name.startsWith('.')) walk(resolve(dirname(file), name));
      else if (!name.startsWith('node:')) packages.set(name, file);
    }
  };
  walk(fileURLToPath(new URL('../../../dataplane/engine/main.js', import.meta.url)));
  t.ok(seen.size > 50, 'the whole engine was looked at');
  t.same([...packages.keys()], ['koffi'], `others by ${[...packages.values()].join(', ')}`);
});
