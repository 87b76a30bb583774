/** `npm run bench -- NAME [--case C]... [--quick]`: builds what needs it, then measures. The last line is RESULT {json}. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { checkNode } from './setup/node.js';
import { install } from './setup/install.js';
import { build } from './setup/build.js';
import { ROOT, say, wordsOf } from './setup/step.js';

try {
  checkNode();
  await install();
  await build();
} catch (error) {
  say(`error: ${wordsOf(error)}`);
  process.exit(1);
}
const child = spawn(
  process.execPath,
  [join(ROOT, 'dist', 'test', 'bench', 'main.js'), ...process.argv.slice(2)],
  {
    stdio: 'inherit',
  },
);
// The terminal sends Ctrl-C to both; the benchmark tidies up, and this waits for it.
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
child.on('exit', (code, signal) => {
  process.exitCode = signal === null ? (code ?? 1) : 1;
});
