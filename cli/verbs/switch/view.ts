/**
 * `weft switch WHAT NAME`: one capability's knowledge of a switch, asked of `/v1/switches/NAME/show/WHAT`, as a
 * table for people or as the JSON it came as.
 */
import type { Command } from 'commander';
import type { z } from 'zod';
import { formatJson, outputOption, type OutputForm } from '../../format.js';
import type { Session } from '../../session.js';

export interface View<T> {
  /** The word after `weft switch`, and in the API's path. */
  what: string;
  description: string;
  /** Of `dataplane` in control/api/contract.ts. */
  schema: z.ZodType<T>;
  /** Finished lines: formatTable, formatFields. */
  lines(value: T, session: Session): readonly string[];
}

/** A View whose type only itself knows. */
export type AnyView = ReturnType<typeof view>;

export function view<T>(one: View<T>) {
  return {
    what: one.what,
    description: one.description,
    async show(session: Session, command: Command, name: string, form: OutputForm): Promise<void> {
      const path = `/v1/switches/${encodeURIComponent(name)}/show/${one.what}`;
      const value = await session.client(command).call('GET', path, one.schema);
      if (form === 'json') session.print(formatJson(value));
      else session.printAll([...one.lines(value, session)]);
    },
  };
}

export function registerView(group: Command, session: Session, one: AnyView): void {
  group
    .command(one.what)
    .description(one.description)
    .argument('<switch>', 'name of a switch')
    .addOption(outputOption(['table', 'json']))
    .action(async (name: string, options: { output: OutputForm }, command: Command) =>
      one.show(session, command, name, options.output),
    );
}
