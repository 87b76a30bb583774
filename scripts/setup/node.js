/** Whether this Node.js is new enough; the bound is the one of package.json. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, SetupError } from './step.js';

export function checkNode(version = process.versions.node) {
  const { engines } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const needed = engines.node.replace(/^>=/, '');
  if (isOlder(version, needed)) {
    throw new SetupError(
      `weft needs Node.js ${needed} or newer; this is ${version}. See https://nodejs.org/en/download for how to get one.`,
    );
  }
  if (process.platform !== 'linux') throw new SetupError(`weft runs on Linux; this is ${process.platform}.`);
}

function isOlder(version, needed) {
  const a = version.split('.').map(Number);
  const b = needed.split('.').map(Number);
  for (let i = 0; i < 3; i++) if ((a[i] ?? 0) !== (b[i] ?? 0)) return (a[i] ?? 0) < (b[i] ?? 0);
  return false;
}
