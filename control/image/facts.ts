/**
 * What a tiny guest says on its serial line, one fact to a line: `WEFT {"fact":"ping",…}`. Pure. The line may
 * have a shell's prompt or terminal codes before the word, since both write to the same console. A guest can
 * print anything: what is not a fact as described here is not one.
 */
import { z } from 'zod';

const Count = z.int().min(0);

export const Fact = z.discriminatedUnion('fact', [
  /** New with each boot of the guest's kernel. */
  z.object({ fact: z.literal('boot'), id: z.string(), uptime_s: z.number(), image: z.string() }),
  z.object({ fact: z.literal('boot-problem'), module: z.string().optional(), card: z.string().optional() }),
  z.object({
    fact: z.literal('ping'),
    peer: z.string(),
    reached: z.boolean(),
    sent: Count,
    received: Count,
  }),
  /** Answers that did not come, now that one came again: `lost` of them, `ms` long by their numbers. */
  z.object({ fact: z.literal('outage'), peer: z.string(), ms: Count, lost: Count, silence_ms: Count }),
  z.object({
    fact: z.literal('disk'),
    device: z.string(),
    /** It has a file system now. */
    formatted: z.boolean(),
    /** It was made in this boot. */
    new: z.boolean(),
    /** This one included. */
    boots: Count,
    /** What earlier boots wrote was found, and what this one wrote was read back. */
    intact: z.boolean(),
    error: z.string().optional(),
  }),
  /** Every record up to this one was acknowledged by fsync. */
  z.object({ fact: z.literal('written'), upto: Count }),
  /** Read back from the disk: whole up to here, and so many of the kept records are not what they should be. */
  z.object({ fact: z.literal('verified'), upto: Count, bad: Count }),
  z.object({ fact: z.literal('write-failed'), after: Count, error: z.string() }),
  z.object({ fact: z.literal('full'), written_bytes: Count, error: z.string() }),
]);
export type Fact = z.infer<typeof Fact>;

/** Far more than a fact has. */
const MAX_FACT_LENGTH = 2048;

export function parseFact(line: string): Fact | undefined {
  const at = line.lastIndexOf('WEFT {');
  if (at < 0 || line.length - at > MAX_FACT_LENGTH) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(line.slice(at + 'WEFT '.length).trim());
  } catch {
    return undefined;
  }
  const result = Fact.safeParse(value);
  return result.success ? result.data : undefined;
}

/** All facts of a piece of a serial log, oldest first. */
export function parseFacts(log: string): Fact[] {
  return log
    .split('\n')
    .map(parseFact)
    .filter(fact => fact !== undefined);
}
