/**
 * Shows what is wrong with a configuration as compilers do: `file:line:column: message`, one line each, so
 * that editors find the place. On a terminal the line of the file follows, with a caret under the column.
 */
import type { ConfigFile, Problem } from '../control/api/contract.js';
import type { Style } from './style.js';
import { displayWidth, harmless, truncate } from './width.js';

const MAX_SHOWN = 50;
const EXCERPT_COLUMNS = 160;

export function formatProblems(
  problems: readonly Problem[],
  files: readonly ConfigFile[],
  options: { excerpts: boolean; style: Style },
): string[] {
  const lines: string[] = [];
  for (const problem of problems.slice(0, MAX_SHOWN)) {
    lines.push(formatProblem(problem, options.style));
    if (options.excerpts) lines.push(...excerpt(problem, files, options.style));
  }
  if (problems.length > MAX_SHOWN) lines.push(`… and ${problems.length - MAX_SHOWN} more`);
  return lines;
}

function formatProblem(problem: Problem, style: Style): string {
  const place =
    problem.line > 0
      ? `${problem.path}:${problem.line}:${Math.max(1, problem.column)}`
      : problem.path === ''
        ? 'configuration'
        : problem.path;
  const at = problem.at === '' ? '' : `${problem.at}: `;
  return `${style.bold(`${harmless(place)}:`)} ${style.red('error:')} ${at}${harmless(problem.message)}`;
}

function excerpt(problem: Problem, files: readonly ConfigFile[], style: Style): string[] {
  const file = files.find(candidate => candidate.path === problem.path);
  const source = problem.line > 0 ? file?.text.split(/\r\n|\r|\n/)[problem.line - 1] : undefined;
  if (source === undefined) return [];
  const number = String(problem.line).padStart(5);
  // Tabs become one blank each, in the line and before the caret alike.
  const flat = (text: string) => harmless(text.replaceAll('\t', ' '));
  const before = displayWidth(flat(source.slice(0, Math.max(0, problem.column - 1))));
  const lines = [`${style.dim(`${number} |`)} ${truncate(flat(source), EXCERPT_COLUMNS)}`];
  if (problem.column > 0 && before < EXCERPT_COLUMNS) {
    lines.push(`${style.dim('      |')} ${' '.repeat(before)}${style.green('^')}`);
  }
  return lines;
}
