/** The version as package.json has it: the one place where it is written. */
import { readFileSync } from 'node:fs';
import { z } from 'zod';

export const VERSION: string = z
  .object({ version: z.string() })
  .parse(JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))).version;
