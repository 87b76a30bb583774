/** Plan and apply: what `plan`, `apply` and `up` have in common. */
import {
  ApplyReply,
  Plan,
  type ChangeRequest,
  type ConfigFile,
  type Problem,
} from '../control/api/contract.js';
import type { Client } from './client.js';
import { ApiError, CliError, EXIT } from './errors.js';
import { formatPlan, hasChanges } from './plans.js';
import { formatProblems } from './problems.js';
import type { Session } from './session.js';
import type { Target } from './settle.js';

const APPLY_DEADLINE_MS = 120_000;
/** How often the plan is made anew because somebody else changed the configuration between plan and apply. */
const MAX_RACES = 5;

/** Wrong configuration: the problems have been shown, only the sum is left to say. */
export class ConfigurationError extends CliError {
  constructor(count: number) {
    super(
      'CONFIGURATION',
      count === 1 ? 'the configuration has an error' : `the configuration has ${count} errors`,
      {
        hint: 'Nothing was changed.',
        exit: EXIT.failure,
      },
    );
  }
}

export async function makePlan(
  session: Session,
  client: Client,
  files: ConfigFile[],
  options: { prune: boolean },
): Promise<Plan> {
  const request: ChangeRequest = { files, prune: options.prune };
  const plan = await showingProblems(session, files, () =>
    client.call('POST', '/v1/plan', Plan, { body: request, deadline_ms: APPLY_DEADLINE_MS }),
  );
  refuseProblems(session, plan, files);
  return plan;
}

/** Shows the plan, then applies exactly that plan. Returns what was applied. */
export async function applyShown(
  session: Session,
  client: Client,
  files: ConfigFile[],
  options: { prune: boolean; show: (lines: string[]) => void },
): Promise<ApplyReply> {
  for (let race = 0; ; race++) {
    const plan = await makePlan(session, client, files, options);
    options.show(formatPlan(plan, session.out));
    if (!hasChanges(plan)) return plan;
    const request: ChangeRequest = { files, prune: options.prune, ifRevision: plan.revision };
    try {
      const reply = await showingProblems(session, files, () =>
        client.call('POST', '/v1/apply', ApplyReply, { body: request, deadline_ms: APPLY_DEADLINE_MS }),
      );
      refuseProblems(session, reply, files);
      return reply;
    } catch (error) {
      const raced = error instanceof ApiError && (error.status === 409 || error.status === 412);
      if (!raced || error.problems.length > 0 || race >= MAX_RACES) throw error;
      session.say('The configuration was changed by somebody else meanwhile; planning again.');
    }
  }
}

/** What the wait after an apply is for. */
export function targetsOf(plan: Plan): Target[] {
  return plan.actions.map(({ kind, name, verb }) => ({ kind, name, gone: verb === 'delete' }));
}

function refuseProblems(session: Session, plan: Plan, files: readonly ConfigFile[]): void {
  if (plan.problems.length === 0) return;
  showProblems(session, plan.problems, files);
  throw new ConfigurationError(plan.problems.length);
}

async function showingProblems<T>(
  session: Session,
  files: readonly ConfigFile[],
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof ApiError && error.problems.length > 0) {
      showProblems(session, error.problems, files);
      throw new ConfigurationError(error.problems.length);
    }
    throw error;
  }
}

export function showProblems(
  session: Session,
  problems: readonly Problem[],
  files: readonly ConfigFile[],
): void {
  const excerpts = session.io.stderr.isTTY === true;
  for (const line of formatProblems(problems, files, { excerpts, style: session.err })) session.say(line);
}
