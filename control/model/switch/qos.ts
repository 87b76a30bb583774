/**
 * Rates, classes and queues, as users say it, and in the plane's words.
 *
 *     qos:
 *       ingress: { rate: 100Mbit, exceed: drop }
 *       egress:
 *         rate: 1Gbit
 *         classes:
 *           voice: { priorities: [5, 6, 7], strict: true, max: 100Mbit }
 *           gold: { vlans: [10], weight: 3 }
 *           rest: { weight: 1 }
 */
import { z } from 'zod';
import type { Policer, PortQos, QosClass, Rate, SwitchQos } from '../../../dataplane/contract.js';
import type { Fault } from '../fault.js';
import { vlanRanges } from '../ranges.js';
import type { SwitchSpec } from '../spec.js';
import { Duration, Name, Size, VlanRange, parseBitRate_bps, parseDuration_ms, parseSize } from '../words.js';

const FRAMES = /^(\d{1,9})\/s$/;

/** `10Mbit`, or `1000/s` frames: how many per second, and of what; undefined when it is neither. */
function parseRate(text: string): Omit<Rate, 'burst'> | undefined {
  const frames = FRAMES.exec(text);
  const per_s = frames === null ? parseBitRate_bps(text) : Number(frames[1]);
  if (per_s === undefined || per_s < 1) return undefined;
  return { unit: frames === null ? 'bits' : 'frames', per_s };
}

const RateWord = z
  .string()
  .refine(
    text => parseRate(text) !== undefined,
    'a rate is 10Mbit or the like, or frames per second like 1000/s',
  )
  .meta({ examples: ['100Mbit', '1000/s'] });

/** Rate limits of a class or port: the rate, or with the burst said. */
const RateWords = z.union([
  RateWord,
  z.strictObject({
    rate: RateWord,
    burst: z
      .union([Size, z.int().min(1)])
      .optional()
      .meta({
        description:
          'what may pass at once after a silence: a size (64KiB), or a number of frames; default: 4 ms worth, two frames at least',
      }),
  }),
]);
type RateWords = z.infer<typeof RateWords>;

const BURST_MS = 4;
const BURST_MIN_BYTES = 3044;
const BURST_MIN_FRAMES = 2;

function rateToPlane(words: RateWords): Rate {
  const { rate, burst } = typeof words === 'string' ? { rate: words, burst: undefined } : words;
  const { unit, per_s } = parseRate(rate) ?? { unit: 'bits' as const, per_s: Number.NaN };
  if (burst !== undefined)
    return { unit, per_s, burst: typeof burst === 'number' ? burst : (parseSize(burst) ?? Number.NaN) };
  const usual =
    unit === 'frames'
      ? Math.max(BURST_MIN_FRAMES, (per_s / 1000) * BURST_MS)
      : Math.max(BURST_MIN_BYTES, (per_s / 8000) * BURST_MS);
  return { unit, per_s, burst: Math.ceil(usual) };
}

const Priority = z.int().min(0).max(7);

const PolicerWords = z.strictObject({
  rate: RateWord,
  burst: z.union([Size, z.int().min(1)]).optional(),
  exceed: z
    .union([z.literal('drop'), z.strictObject({ priority: Priority })])
    .default('drop')
    .meta({ description: 'what comes in beyond the rate is dropped, or goes on with this priority' }),
});

function policerToPlane({ rate, burst, exceed }: z.infer<typeof PolicerWords>): Policer {
  return {
    rate: rateToPlane({ rate, burst }),
    exceed: exceed === 'drop' ? exceed : { setPriority: exceed.priority },
  };
}

const ClassWords = z.strictObject({
  priorities: z.array(Priority).max(8).optional().meta({
    description: 'priorities (802.1p) whose frames it takes; those of no class go to the last one',
  }),
  vlans: z.array(VlanRange).min(1).optional().meta({
    description: 'takes the frames of these VLANs, whatever their priority',
  }),
  strict: z.boolean().default(false).meta({ description: 'before all weighted classes' }),
  weight: z.int().min(1).max(1000).optional().meta({ description: 'share of what is left; default 1' }),
  guarantee: RateWords.optional().meta({ description: 'it gets so much before anybody else gets anything' }),
  max: RateWords.optional().meta({ description: 'it never gets more' }),
  limit: z.union([Size, Duration]).optional().meta({
    description:
      'what may wait: a size, or how long at the rate of the port or class; default 50ms, 1MiB without a rate',
  }),
  limitFrames: z.int().min(1).max(16_384).default(1000),
  remark: Priority.optional().meta({ description: '802.1p value of its frames when they leave tagged' }),
});
type ClassWords = z.infer<typeof ClassWords>;

const LIMIT_MS = 50;
const LIMIT_MIN_BYTES = 16_384;
const LIMIT_MAX_BYTES = 64 * 2 ** 20;
const LIMIT_USUAL_MAX_BYTES = 8 * 2 ** 20;
const LIMIT_WITHOUT_RATE_BYTES = 2 ** 20;

function limit_bytes(words: ClassWords, portRate: RateWords | undefined): number {
  const size = words.limit === undefined ? undefined : parseSize(words.limit);
  if (size !== undefined) return size;
  const rates = [words.max, portRate]
    .filter(rate => rate !== undefined)
    .map(rateToPlane)
    .filter(({ unit }) => unit === 'bits')
    .map(({ per_s }) => per_s);
  if (rates.length === 0) return LIMIT_WITHOUT_RATE_BYTES;
  const time_ms = words.limit === undefined ? LIMIT_MS : (parseDuration_ms(words.limit) ?? Number.NaN);
  const bytes = Math.ceil((Math.min(...rates) / 8000) * time_ms);
  const max_bytes = words.limit === undefined ? LIMIT_USUAL_MAX_BYTES : LIMIT_MAX_BYTES;
  return Math.min(max_bytes, Math.max(LIMIT_MIN_BYTES, bytes));
}

function classToPlane(name: string, words: ClassWords, portRate: RateWords | undefined): QosClass {
  return {
    name,
    priorities: words.priorities ?? [],
    ...(words.vlans === undefined ? {} : { vlans: vlanRanges(words.vlans) }),
    strict: words.strict,
    weight: words.weight ?? 1,
    ...(words.guarantee === undefined ? {} : { guarantee: rateToPlane(words.guarantee) }),
    ...(words.max === undefined ? {} : { max: rateToPlane(words.max) }),
    limit_bytes: limit_bytes(words, portRate),
    limit_frames: words.limitFrames,
    ...(words.remark === undefined ? {} : { remark: words.remark }),
  };
}

/** On a port or a machine's card. */
export const PortWords = z.strictObject({
  trust: z.enum(['pcp', 'dscp', 'none']).default('pcp').meta({
    description: "where a frame's priority is taken from: its VLAN tag, its IP header, or nowhere",
  }),
  priority: Priority.default(0).meta({ description: 'of frames that do not tell, or are not trusted' }),
  ingress: PolicerWords.optional().meta({ description: 'what may come in by this port' }),
  egress: z
    .strictObject({
      rate: RateWords.optional().meta({ description: 'what may leave by this port; the rest waits' }),
      classes: z.record(Name, ClassWords).optional().meta({
        description: 'up to 8, in this order; default: one for everything',
      }),
    })
    .optional(),
});
export type PortWords = z.infer<typeof PortWords>;

const EVERYTHING: ClassWords = { strict: false, limitFrames: 1000 };

export function portToPlane({ trust, priority, ingress, egress }: PortWords): PortQos {
  const classes = Object.entries(egress?.classes ?? { all: EVERYTHING });
  return {
    trust,
    priority,
    ...(ingress === undefined ? {} : { ingress: policerToPlane(ingress) }),
    ...(egress === undefined
      ? {}
      : {
          egress: {
            ...(egress.rate === undefined ? {} : { rate: rateToPlane(egress.rate) }),
            classes: classes.map(([name, words]) => classToPlane(name, words, egress.rate)),
          },
        }),
  };
}

const TableOf = (size: number, what: string) =>
  z
    .record(z.string().regex(/^\d{1,2}$/, `${what} values are numbers from 0 to ${size - 1}`), Priority)
    .refine(
      table => Object.keys(table).every(key => Number(key) < size),
      `${what} values are numbers from 0 to ${size - 1}`,
    );

/** On a switch. */
export const SwitchWords = z.strictObject({
  overhead: z.int().min(0).max(256).default(0).meta({
    description:
      'octets counted besides each frame: 24 makes rates those of an Ethernet wire (FCS, preamble, gap)',
  }),
  pcp: TableOf(8, '802.1p').optional().meta({
    description: 'priority that each 802.1p value stands for, where it is another',
  }),
  dscp: TableOf(64, 'DSCP').optional().meta({
    description: 'priority that each DSCP stands for; default: its upper three bits',
  }),
  vlans: z
    .record(z.string().regex(/^\d{1,4}$/, 'a VLAN is a number'), z.strictObject({ ingress: PolicerWords }))
    .optional()
    .meta({ description: 'what may come in by a VLAN, by all ports together' }),
});
export type SwitchWords = z.infer<typeof SwitchWords>;

export function switchToPlane({ overhead, pcp, dscp, vlans }: SwitchWords): SwitchQos {
  const table = (size: number, words: Record<string, number>, usual: (i: number) => number): number[] =>
    Array.from({ length: size }, (_, i) => words[i] ?? usual(i));
  return {
    overhead_bytes: overhead,
    ...(pcp === undefined ? {} : { pcp: table(8, pcp, i => i) }),
    ...(dscp === undefined ? {} : { dscp: table(64, dscp, i => i >>> 3) }),
    ...(vlans === undefined
      ? {}
      : {
          vlans: Object.entries(vlans).map(([vlan, { ingress }]) => ({
            vlan: Number(vlan),
            ingress: policerToPlane(ingress),
          })),
        }),
  };
}

/** What can only be judged by looking at the whole switch; paths begin at the switch's spec. */
export function* faults(spec: SwitchSpec): Generator<Fault> {
  for (const [vlan, { ingress }] of Object.entries(spec.qos?.vlans ?? {})) {
    yield* rateFaults(ingress, ['qos', 'vlans', vlan, 'ingress']);
    if (vlan.startsWith('0'))
      yield {
        path: ['qos', 'vlans', vlan],
        blame: 'key',
        message: `write VLAN ${Number(vlan)} without zeros before it`,
      };
    else if (Number(vlan) < 1 || Number(vlan) > 4094)
      yield {
        path: ['qos', 'vlans', vlan],
        blame: 'key',
        message: `VLAN ${vlan} is out of range: 1 to 4094`,
      };
  }
}

/** Of one port; paths begin at it. */
export function* portFaults({ ingress, egress }: PortWords): Generator<Fault> {
  yield* rateFaults(ingress, ['qos', 'ingress']);
  if (egress === undefined) return;
  const path = ['qos', 'egress'];
  yield* rateFaults(egress.rate, [...path, 'rate']);
  for (const [name, words] of Object.entries(egress.classes ?? {})) {
    const at = [...path, 'classes', name];
    yield* rateFaults(words.guarantee, [...at, 'guarantee']);
    yield* rateFaults(words.max, [...at, 'max']);
    // Such keys would be put before all others, and the order of classes means something.
    if (/^\d+$/.test(name))
      yield {
        path: at,
        blame: 'key',
        message: `a class needs a letter in its name: "c${name}", not "${name}"`,
      };
    const size_bytes = words.limit === undefined ? undefined : limit_bytes(words, egress.rate);
    if (size_bytes !== undefined && !(size_bytes >= 1 && size_bytes <= LIMIT_MAX_BYTES))
      yield {
        path: [...at, 'limit'],
        blame: 'value',
        message: `"${words.limit}" is out of range: from 1B to 64MiB`,
      };
  }
  yield* egressFaults(egress, path);
}

const RATE_MAX_PER_S = 1e12;

/** A burst counts what its rate counts. */
function* rateFaults(
  words: RateWords | z.infer<typeof PolicerWords> | undefined,
  path: (string | number)[],
): Generator<Fault> {
  if (words === undefined) return;
  const { rate, burst } = typeof words === 'string' ? { rate: words, burst: undefined } : words;
  const parsed = parseRate(rate);
  if (parsed === undefined) return;
  const at = typeof words === 'string' ? path : [...path, 'rate'];
  if (parsed.per_s > RATE_MAX_PER_S)
    yield { path: at, blame: 'value', message: `"${rate}" is too fast: the most is 1000Gbit` };
  if (burst === undefined || (typeof burst === 'number') === (parsed.unit === 'frames')) return;
  yield {
    path: [...path, 'burst'],
    blame: 'value',
    message:
      parsed.unit === 'frames'
        ? `the rate ${rate} counts frames: its burst is a number of frames, not ${burst}`
        : `the rate ${rate} counts bits: its burst is a size such as 64KiB, not a number`,
  };
}

function* egressFaults(
  egress: NonNullable<PortWords['egress']>,
  path: (string | number)[],
): Generator<Fault> {
  const classes = Object.entries(egress.classes ?? {});
  if (egress.classes !== undefined && (classes.length === 0 || classes.length > 8))
    yield {
      path: [...path, 'classes'],
      blame: 'key',
      message: `a port has 1 to 8 classes, here are ${classes.length}`,
    };
  if (classes.length > 1 && egress.rate === undefined)
    yield {
      path: [...path, 'classes'],
      blame: 'key',
      message:
        'without a rate nothing waits at this port, so its classes share nothing out: give egress a rate',
      isWarning: true,
    };
  const owners = new Map<string, string>();
  for (const [name, { priorities = [], vlans = [], strict, weight }] of classes) {
    const at = [...path, 'classes', name];
    if (strict && weight !== undefined)
      yield {
        path: [...at, 'weight'],
        blame: 'key',
        message: 'a strict class has no weight: say one of them',
      };
    const taken = vlanRanges(vlans).flatMap(([first, last]) =>
      Array.from({ length: last - first + 1 }, (_, i) => `VLAN ${first + i}`),
    );
    for (const each of [...priorities.map(priority => `priority ${priority}`), ...taken]) {
      const owner = owners.get(each);
      if (owner !== undefined && owner !== name)
        yield { path: at, blame: 'key', message: `${each} is class ${owner}'s already` };
      owners.set(each, name);
    }
  }
}
