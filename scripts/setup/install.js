/**
 * `npm ci` when it is needed: node_modules is missing, or was made from another lock file. A stamp in node_modules says
 * from which; where there is none (somebody ran npm by hand) npm's own record of what it installed is compared.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, run, step } from './step.js';

const STAMP = join(ROOT, 'node_modules', '.weft-lock');

export async function install() {
  const lock = readFileSync(join(ROOT, 'package-lock.json'), 'utf8');
  const wanted = createHash('sha256').update(`${process.platform} ${process.arch}\n${lock}`).digest('hex');
  if (existsSync(STAMP) ? readFileSync(STAMP, 'utf8') === wanted : alreadyInstalled(lock)) {
    if (!existsSync(STAMP)) writeFileSync(STAMP, wanted);
    return;
  }
  await step('Installing npm packages', async () => {
    const args = ['ci', '--no-audit', '--no-fund', '--loglevel=warn'];
    // The npm that runs this script, when one does: it is surely there.
    const npm = process.env.npm_execpath;
    if (npm !== undefined && /\.c?js$/.test(npm)) await run(process.execPath, [npm, ...args]);
    else await run('npm', args);
    writeFileSync(STAMP, wanted);
  });
}

/** Whether npm's record of node_modules says the same as the lock file. */
function alreadyInstalled(lockText) {
  const record = join(ROOT, 'node_modules', '.package-lock.json');
  if (!existsSync(record)) return false;
  try {
    const wanted = JSON.parse(lockText).packages;
    const there = JSON.parse(readFileSync(record, 'utf8')).packages;
    return Object.entries(wanted).every(([path, { version, integrity, optional }]) => {
      if (path === '') return true;
      const found = there[path];
      // Optional ones are for other processors and systems.
      if (found === undefined) return optional === true;
      return found.version === version && found.integrity === integrity && existsSync(join(ROOT, path));
    });
  } catch {
    return false;
  }
}
