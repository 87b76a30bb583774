/** `npm run fuzz -- NAME|all [SEED] [ITERATIONS|@ITERATION]`: builds what needs it, then fuzzes; see test/fuzz/main.ts. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { checkNode } from './setup/node.js';
import { install } from './setup/install.js';
import { build } from './setup/build.js';
import { ROOT, say } from './setup/step.js';

try {
  checkNode();
  await install();
  await build();
} catch (error) {
  say(`error: ${error instanceof Error ? error.message : String(error)}`);
  process.exit(1);
}
const main = join(ROOT, 'dist', 'test', 'fuzz', 'main.js');
const child = spawn(process.execPath, [main, ...process.argv.slice(2)], { stdio: 'inherit' });
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
child.on('exit', (code, signal) => {
  process.exitCode = signal === null ? (code ?? 1) : 1;
});
