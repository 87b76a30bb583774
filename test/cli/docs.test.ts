/** What docs/cli.md promises is there, and what is there it mentions; and links of the documents lead somewhere. */
import t from 'tap';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { EXIT } from '../../cli/errors.js';
import { makeProgram } from '../../cli/main.js';
import { processIo } from '../../cli/processIo.js';
import { Session } from '../../cli/session.js';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const text = readFileSync(join(root, 'docs/cli.md'), 'utf8');
const program = makeProgram(new Session(processIo()));

function commandsOf(command: Command, path: string): { path: string; command: Command }[] {
  return command.commands
    .filter(sub => !sub.name().startsWith('__') && sub.name() !== 'help')
    .flatMap(sub => {
      const here = { path: `${path} ${sub.name()}`, command: sub };
      return sub.commands.length > 0 ? commandsOf(sub, here.path) : [here];
    });
}

const all = commandsOf(program, 'weft');

await t.test('every verb is in docs/cli.md, with its options', async t => {
  for (const { path, command } of all) {
    const words = path.split(' ');
    const listed =
      words[1] === 'machine' && words[2] !== 'console'
        ? 'weft machine start|stop|kill|reset|pause|resume'
        : path;
    // Whole words: \`delete\` is not \`delete-snapshot\`.
    const own = text.search(new RegExp(`- \`${listed.replaceAll('|', '\\|')}(?![-\\w])`));
    const at = own < 0 ? text.search(new RegExp(`\`${listed.replaceAll('|', '\\|')}(?![-\\w])`)) : own;
    t.ok(at >= 0, listed);
    const paragraph = text.slice(
      at,
      text.indexOf('\n- `weft', at + 1) < 0 ? undefined : text.indexOf('\n- `weft', at + 1),
    );
    for (const option of command.options) {
      if (
        option.long === undefined ||
        option.long === null ||
        ['--output', '--wait', '--help', '--filename'].includes(option.long)
      )
        continue;
      const said = [option.long, option.short].some(flag => flag && paragraph.includes(flag));
      t.ok(said, `${path} ${option.long}`);
    }
  }
});

await t.test('every verb that docs/cli.md and README.md name is there', async t => {
  // Commander's own.
  const known = [...all.map(({ path }) => path), 'weft help'];
  for (const name of ['docs/cli.md', 'docs/operations.md', 'docs/troubleshooting.md', 'README.md']) {
    const page = readFileSync(join(root, name), 'utf8');
    for (const [, words = ''] of page.matchAll(/(?:npx |`)weft ((?:--state \S+ )?[a-z]+(?: [a-z]+)?)/g)) {
      const wanted = `weft ${words.replace(/^--state \S+ /, '')}`;
      const found = known.some(
        path => wanted === path || wanted.startsWith(`${path} `) || path.startsWith(`${wanted} `),
      );
      t.ok(found, `${name}: ${wanted}`);
    }
  }
});

await t.test('every exit code is explained', async t => {
  for (const code of Object.values(EXIT)) t.match(text, new RegExp(`^\\| ${code} +\\|`, 'm'));
});

await t.test('links lead somewhere', async t => {
  const pages = [
    'README.md',
    'CONTRIBUTING.md',
    'SECURITY.md',
    'CHANGELOG.md',
    'cli/README.md',
    'configs/README.md',
  ];
  pages.push(...readdirSync(join(root, 'docs')).map(name => `docs/${name}`));
  for (const page of pages) {
    for (const [, link = ''] of readFileSync(join(root, page), 'utf8').matchAll(
      /\]\(([^)#\s]+)(?:#[^)]*)?\)/g,
    )) {
      if (!/^https?:/.test(link)) t.ok(existsSync(join(root, dirname(page), link)), `${page}: ${link}`);
    }
  }
});
