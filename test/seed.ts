/**
 * Where tests begin their random choices. `npm test` says a seed (scripts/testing/run.js), so that a gate gives the same answer
 * twice; a test file that is run by itself, and all of them under WEFT_EXPLORE=1, begin elsewhere each time. Whatever fails says
 * the seed with which it fails again.
 */
import fc from 'fast-check';

const said = process.env['WEFT_FIRST_SEED'];

/** Below a million. */
export const firstSeed: number = said === undefined ? (Date.now() >>> 8) % 1_000_000 : Number(said);

if (said !== undefined) fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: firstSeed });
