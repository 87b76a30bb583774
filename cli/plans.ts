/** A plan in words: one line for each resource that would change, its changes below it, and the sum. */
import type { Plan, PlannedAction } from '../control/api/contract.js';
import { formatValue } from './format.js';
import type { Style } from './style.js';
import { displayWidth, harmless, truncate } from './width.js';

const SIGNS = { create: '+', update: '~', restart: '!', delete: '-', none: ' ' } as const;
const MAX_VALUE_COLUMNS = 60;

export function hasChanges(plan: Plan): boolean {
  return plan.actions.some(action => action.verb !== 'none');
}

export function formatPlan(plan: Plan, style: Style): string[] {
  const changing = plan.actions.filter(action => action.verb !== 'none');
  const width = Math.max(0, ...changing.map(action => displayWidth(label(action))));
  const lines: string[] = [];
  for (const action of changing) {
    const paint = {
      create: style.green,
      update: style.yellow,
      restart: style.yellow,
      delete: style.red,
      none: style.dim,
    }[action.verb];
    const name = label(action) + ' '.repeat(width - displayWidth(label(action)));
    lines.push(`${paint(`${SIGNS[action.verb]} ${name}`)}  ${harmless(action.summary)}`.trimEnd());
    if (action.verb === 'create' || action.verb === 'delete') continue;
    for (const change of action.changes) {
      // weftd's words often say it already.
      if (action.summary.includes(change.path)) continue;
      lines.push(`      ${harmless(change.path)}: ${shown(change.from)} -> ${shown(change.to)}`);
    }
  }
  lines.push(summary(plan));
  return lines;
}

function label(action: PlannedAction): string {
  return `${action.kind} ${action.name}`;
}

function shown(value: unknown): string {
  return truncate(harmless(formatValue(value)), MAX_VALUE_COLUMNS);
}

function summary(plan: Plan): string {
  const count = (verb: PlannedAction['verb']) => plan.actions.filter(action => action.verb === verb).length;
  const parts = [
    [count('create'), 'to create'],
    [count('update'), 'to update'],
    [count('restart'), 'to restart'],
    [count('delete'), 'to delete'],
  ] as const;
  const said = parts.filter(([n]) => n > 0).map(([n, words]) => `${n} ${words}`);
  const unchanged = count('none');
  if (said.length === 0)
    return unchanged > 0 ? `Nothing to change (${unchanged} unchanged).` : 'Nothing to change.';
  return `${said.join(', ')}${unchanged > 0 ? `, ${unchanged} unchanged` : ''}.`;
}
