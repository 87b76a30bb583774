/**
 * TypeScript to dist/, when the sources are not those that dist/ was made from: files changed, new or gone. What was made
 * from a source that is gone is removed, so that an old test never runs again.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { ROOT, run, SetupError, step } from './step.js';

const DIST = join(ROOT, 'dist');
const STAMP = join(DIST, '.built');
const BUILD_INFO = join(DIST, '.tsbuildinfo');

export async function build() {
  const sources = sourceFiles();
  const wanted = digest([...sources, join(ROOT, 'tsconfig.json'), join(ROOT, 'package-lock.json')]);
  const stale = staleOutputs(new Set(sources.map(outputOf)));
  const missing = sources.some(source => !existsSync(outputOf(source)));
  const current = existsSync(STAMP) && readFileSync(STAMP, 'utf8') === wanted;
  if (current && !missing && stale.length === 0) return;
  for (const path of stale) rmSync(path);
  // The compiler goes by its own record and would not write again what somebody has removed.
  if (missing) rmSync(BUILD_INFO, { force: true });
  await step('Building', async () => {
    mkdirSync(DIST, { recursive: true });
    await run(join(ROOT, 'node_modules', '.bin', 'tsc'), ['-p', '.', '--pretty', 'false']);
    const absent = sources.filter(source => !existsSync(outputOf(source)));
    if (absent.length > 0) {
      throw new SetupError(
        `the compiler made nothing of ${absent.map(path => relative(ROOT, path)).join(', ')}`,
      );
    }
    writeFileSync(STAMP, wanted);
  });
}

export function sourceFiles() {
  const { include } = JSON.parse(readFileSync(join(ROOT, 'tsconfig.json'), 'utf8'));
  return include
    .flatMap(folder => filesUnder(join(ROOT, folder)))
    .filter(path => path.endsWith('.ts') && !path.endsWith('.d.ts'))
    .sort();
}

function outputOf(source) {
  return join(DIST, relative(ROOT, source)).replace(/\.ts$/, '.js');
}

function staleOutputs(wanted) {
  return filesUnder(DIST).filter(
    path => /\.js(\.map)?$/.test(path) && !wanted.has(path.replace(/\.map$/, '')),
  );
}

function filesUnder(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true }).flatMap(entry => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return entry.name === 'node_modules' ? [] : filesUnder(path);
    return entry.isFile() ? [path] : [];
  });
}

/** Names, sizes and times of change: as good as the content for files that people and git write. */
function digest(paths) {
  const hash = createHash('sha256');
  for (const path of paths) {
    const { size, mtimeMs } = statSync(path);
    hash.update(`${relative(ROOT, path)} ${size} ${mtimeMs}\n`);
  }
  return hash.digest('hex');
}
