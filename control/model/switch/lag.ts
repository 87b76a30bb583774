/**
 * Link aggregation: the body of the word `lag` of a port (switch/devices.ts), as users say it, and in the plane's
 * words. What a member can be is that file's business, and is handed in.
 */
import { z } from 'zod';
import type { LagDevice, LagMember, LagSettings } from '../../../dataplane/contract.js';
import { Duration, Name, StationMac, parseDuration_ms } from '../words.js';

const DELAY_MAX_MS = 3_600_000;
const MEMBERS_MAX = 32;

const Delay = Duration.refine(text => (parseDuration_ms(text) ?? 0) <= DELAY_MAX_MS, 'a delay is 1h at most');

export const Priority = z.int().min(0).max(65_535).default(32_768).meta({
  description: 'of a member: the lower is the better; LACP port priority, and the order of backups',
});

const Lacp = z
  .strictObject({
    activity: z.enum(['active', 'passive']).default('active').meta({
      description: 'passive speaks only to a partner that spoke first',
    }),
    timeout: z.enum(['fast', 'slow']).default('slow').meta({
      description: 'asks the partner for a word each second (given up after 3 s) or each 30 s (after 90 s)',
    }),
    systemPriority: z.int().min(0).max(65_535).default(32_768).meta({
      description: 'the end with the lower number chooses who stands by',
    }),
    system: StationMac.optional().meta({ description: "default: the switch's own address" }),
    key: z.int().min(1).max(65_535).optional().meta({ description: 'default: a number of this port alone' }),
    control: z.enum(['independent', 'coupled']).default('independent').meta({
      description: 'independent sends only once the partner says that it collects; coupled does both at once',
    }),
    fallback: z.boolean().default(false).meta({
      description: 'with no partner on any member, one carries alone: for servers that boot over the network',
    }),
  })
  .meta({ description: 'IEEE 802.1AX; only with mode lacp' });

interface Words {
  mode: 'lacp' | 'static' | 'active-backup';
  members: Readonly<Record<string, unknown>>;
  minLinks: number;
  maxLinks?: number | undefined;
  lacp?: unknown;
  primary?: string | undefined;
  revertDelay?: string | undefined;
}

/** What is wrong with an aggregate by itself: what, and at which word. */
function* problems(words: Words): Generator<[path: string, message: string]> {
  const names = Object.keys(words.members);
  if (names.length === 0) yield ['members', 'an aggregate has one member at least'];
  if (names.length > MEMBERS_MAX) yield ['members', `an aggregate has ${MEMBERS_MAX} members at most`];
  if (words.minLinks > names.length)
    yield ['minLinks', `minLinks is ${words.minLinks}, and there are only ${names.length} members`];
  if (words.mode !== 'lacp') {
    if (words.lacp !== undefined) yield ['lacp', `mode ${words.mode} does not speak LACP: leave lacp out`];
    if (words.maxLinks !== undefined) yield ['maxLinks', 'only mode lacp has members that stand by'];
  } else if (words.maxLinks !== undefined && words.maxLinks < words.minLinks)
    yield ['maxLinks', `maxLinks is ${words.maxLinks}, less than minLinks (${words.minLinks})`];
  if (words.mode !== 'active-backup') {
    if (words.primary !== undefined) yield ['primary', 'only mode active-backup has a primary'];
    if (words.revertDelay !== undefined)
      yield ['revertDelay', 'only mode active-backup reverts to a primary'];
    return;
  }
  if (words.minLinks > 1) yield ['minLinks', 'in mode active-backup one member carries: leave minLinks out'];
  if (words.primary !== undefined && !names.includes(words.primary))
    yield ['primary', `"${words.primary}" is none of the members: ${names.join(', ')}`];
  if (words.revertDelay !== undefined && words.primary === undefined)
    yield ['revertDelay', 'there is no primary to revert to: name one'];
}

export function lagWords<M extends z.ZodType>(member: M) {
  return z
    .strictObject({
      mode: z.enum(['lacp', 'static', 'active-backup']).default('lacp').meta({
        description: 'lacp: agreed with the other end; static: all that are up; active-backup: one at a time',
      }),
      members: z.record(Name, member).meta({ description: 'by name; each one of what a port can be' }),
      balance: z.enum(['l2', 'l3+4']).default('l3+4').meta({
        description:
          'what a flow is, which stays on one member: MAC addresses and VLAN, or IP addresses and ports',
      }),
      minLinks: z.int().min(1).max(MEMBERS_MAX).default(1).meta({
        description: 'with fewer members able to carry, the port is down',
      }),
      maxLinks: z.int().min(1).max(MEMBERS_MAX).optional().meta({
        description: 'the best so many carry, the others stand by; only with mode lacp',
      }),
      upDelay: Delay.default('0s').meta({ description: 'how long a link must be up before it carries' }),
      lacp: Lacp.optional(),
      primary: z.string().optional().meta({
        description: 'mode active-backup: the member that carries whenever it can',
      }),
      revertDelay: z
        .union([z.literal('never'), Delay])
        .optional()
        .meta({ description: 'how long the primary must be back before it carries again; default: at once' }),
      announce: z.boolean().default(true).meta({
        description: "mode active-backup: tell the network where this switch's stations are after a change",
      }),
    })
    .superRefine((words, context) => {
      for (const [path, message] of problems(words))
        context.addIssue({ code: 'custom', path: [path], message });
    });
}

type LagWords = z.infer<ReturnType<typeof lagWords<z.ZodObject<{ priority: typeof Priority }>>>>;

function settingsToPlane(words: LagWords): LagSettings {
  const { mode, balance, minLinks, maxLinks, upDelay, lacp, primary, revertDelay, announce } = words;
  return {
    mode: mode === 'active-backup' ? 'activeBackup' : mode,
    balance: balance === 'l2' ? 'l2' : 'l34',
    minLinks,
    ...(maxLinks === undefined ? {} : { maxLinks }),
    upDelay_ms: parseDuration_ms(upDelay) ?? 0,
    ...(lacp === undefined ? {} : { lacp }),
    ...(primary === undefined ? {} : { primary }),
    revertDelay_ms: revertDelay === 'never' ? null : (parseDuration_ms(revertDelay ?? '0s') ?? 0),
    announce,
  };
}

/** `deviceOf` turns what a member is; members come in the order of their names. */
export function lagToPlane<M extends { priority: number }>(
  words: Omit<LagWords, 'members'> & { members: Readonly<Record<string, M>> },
  deviceOf: (member: M) => LagMember['device'],
): LagDevice {
  const members = Object.entries(words.members)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, member]) => ({ name, device: deviceOf(member), priority: member.priority }));
  return { kind: 'lag', settings: settingsToPlane(words), members };
}
