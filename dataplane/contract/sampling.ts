/** Flow export: sFlow version 5. */
import { z } from 'zod';

export const SwitchSampling = z.strictObject({
  /** UDP, by IP address. */
  collectors: z
    .array(z.strictObject({ address: z.string().max(45), port: z.int().min(1).max(65_535).default(6343) }))
    .min(1)
    .max(8),
  /** Who we say we are: an IP address. */
  agent: z.string().max(45),
  /** One frame of so many, at random. */
  rate: z.int().min(1).max(10_000_000),
  /** Octets of each taken frame. */
  header_bytes: z.int().min(32).max(256),
  /** How often each port's counters are told. */
  polling_s: z.int().min(1).max(3600),
});
export type SwitchSampling = z.infer<typeof SwitchSampling>;

/** `show sampling`. */
export const SamplingView = z.object({
  framesSeen: z.number(),
  framesSampled: z.number(),
  datagrams: z.number(),
  collectors: z.array(z.object({ address: z.string(), port: z.int() })),
  rate: z.int(),
});
export type SamplingView = z.infer<typeof SamplingView>;
