/** Mirror sessions: copies of frames to a port or a VLAN where someone watches, and what is shown of them. */
import { z } from 'zod';
import { VlanId, VlanRanges } from './vlan.js';

const PortName = z.string().min(1).max(64);

/** A set of sessions is a word's bits on the frame path. */
export const MIRROR_SESSIONS_MAX = 30;

export const MirrorSession = z.strictObject({
  /** Flow rules name it in their `mirror` action. */
  name: z.string().min(1).max(64),
  /** Ports whose incoming frames are copied, as they came. */
  in: z.array(PortName).max(4096).default([]),
  /** Ports whose outgoing frames are copied, as they leave. */
  out: z.array(PortName).max(4096).default([]),
  /** Frames that come in and belong to these. */
  vlans: VlanRanges.default([]),
  destination: z.union([
    /** Which then carries nothing else. */
    z.strictObject({ port: PortName }),
    /** Remote mirroring: into this VLAN, to all its ports but the one they came by; its tag takes the place of theirs. */
    z.strictObject({ vlan: VlanId }),
  ]),
  /** Longer frames are cut to so many bytes. */
  snaplen_bytes: z.int().min(14).max(65_557).optional(),
  /** One frame in so many; absent: all. */
  oneIn: z.int().min(1).max(1_000_000).optional(),
});
export type MirrorSession = z.infer<typeof MirrorSession>;

/** `show` `mirrors`. */
export const MirrorsView = z.object({
  sessions: z.array(
    z.object({
      name: z.string(),
      in: z.array(z.string()),
      out: z.array(z.string()),
      vlans: z.array(z.tuple([z.int(), z.int()])),
      destination: z.string(),
      snaplen_bytes: z.int().nullable(),
      oneIn: z.int(),
      /** What keeps it from copying, in words; null: nothing. */
      problem: z.string().nullable(),
      /** Copies sent, of how many bytes, cut, left out by sampling, lost for want of room or of a port that is up. */
      counters: z.record(z.string(), z.number()),
    }),
  ),
});
export type MirrorsView = z.infer<typeof MirrorsView>;
