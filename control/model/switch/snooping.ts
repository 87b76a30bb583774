/** IGMP and MLD snooping, as users say it: `snooping: {}` is enough, `snooping: { querier: {} }` where no router asks. */
import { z } from 'zod';
import type { PortSnooping, SwitchSnooping } from '../../../dataplane/contract.js';
import { parseIp } from '../../../host/ip.js';
import type { Fault } from '../fault.js';
import type { SwitchSpec } from '../spec.js';
import { Duration, parseDuration_ms } from '../words.js';

/** On a port or a machine's card. */
export const PortWords = z.strictObject({
  router: z
    .enum(['auto', 'always', 'never'])
    .default('auto')
    .meta({ description: 'whether a router of groups is behind it; auto: while one is heard to ask' }),
  fastLeave: z
    .boolean()
    .default(false)
    .meta({ description: 'a leave is believed at once: for one station behind the port' }),
  limit: z
    .int()
    .min(1)
    .max(100_000)
    .default(1024)
    .meta({ description: 'groups joined here at most; beyond it the port is sent all groups' }),
});
export type PortWords = z.infer<typeof PortWords>;

export function portToPlane(words: PortWords): PortSnooping {
  return words;
}

const isIpv4 = (text: string): boolean => parseIp(text)?.length === 4;
const isLinkLocal = (text: string): boolean => {
  const address = parseIp(text);
  return address?.length === 16 && address[0] === 0xfe && (address[1]! & 0xc0) === 0x80;
};

/** On a switch. */
export const SwitchWords = z.strictObject({
  igmp: z.boolean().default(true),
  mld: z.boolean().default(true),
  unknown: z
    .enum(['flood', 'routers'])
    .default('flood')
    .meta({ description: 'where frames go to a group that nobody has joined' }),
  querier: z
    .strictObject({
      ipv4: z.string().refine(isIpv4, 'an IPv4 address').optional().meta({
        description: 'sender of our IGMP queries; default 0.0.0.0, which any other querier outdoes',
      }),
      ipv6: z.string().refine(isLinkLocal, 'a link-local address, fe80::…').optional(),
      interval: Duration.default('125s'),
      response: Duration.default('10s').meta({ description: 'within which stations are to answer' }),
    })
    .optional()
    .meta({ description: 'ask by ourselves, where nobody with a lower address does' }),
  robustness: z.int().min(1).max(7).default(2).meta({ description: 'how many queries may be lost' }),
  limit: z.int().min(1).max(100_000).default(16_384).meta({ description: 'pairs of group and port at most' }),
});
export type SwitchWords = z.infer<typeof SwitchWords>;

const seconds = (text: string): number => (parseDuration_ms(text) ?? Number.NaN) / 1000;

export function switchToPlane({ querier, ...words }: SwitchWords): SwitchSnooping {
  return {
    ...words,
    querier:
      querier === undefined
        ? null
        : {
            ipv4: querier.ipv4 ?? null,
            ipv6: querier.ipv6 ?? null,
            interval_s: seconds(querier.interval),
            response_s: seconds(querier.response),
          },
  };
}

/** What can only be judged by looking at the whole switch; paths begin at the switch's spec. */
export function* faults({ snooping }: SwitchSpec): Generator<Fault> {
  const querier = snooping?.querier;
  if (querier === undefined) return;
  const at = (key: string): (string | number)[] => ['snooping', 'querier', key];
  const [interval_s, response_s] = [seconds(querier.interval), seconds(querier.response)];
  if (!(Number.isInteger(interval_s) && interval_s >= 10 && interval_s <= 3600))
    yield {
      path: at('interval'),
      blame: 'value',
      message: `"${querier.interval}": whole seconds from 10s to 3600s`,
    };
  if (!(Number.isInteger(response_s) && response_s >= 1 && response_s <= 25))
    yield {
      path: at('response'),
      blame: 'value',
      message: `"${querier.response}": whole seconds from 1s to 25s`,
    };
  // RFC 3376 8.3.
  else if (response_s >= interval_s)
    yield { path: at('response'), blame: 'value', message: 'the response must be shorter than the interval' };
}
