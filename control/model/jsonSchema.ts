/** The JSON Schema of a configuration (`weft config schema`), for editors: from the same zod specs as all else. */
import { z } from 'zod';
import { Configuration } from './spec.js';

let made: Record<string, unknown> | undefined;

export function configurationSchema(): Record<string, unknown> {
  // What a user writes, so defaults make a key optional.
  made ??= z.toJSONSchema(Configuration, { io: 'input', target: 'draft-2020-12' }) as Record<string, unknown>;
  return made;
}
