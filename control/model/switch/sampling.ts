/** Flow export, as users say it, and in the plane's words. */
import { z } from 'zod';
import type { SwitchSampling } from '../../../dataplane/contract.js';
import { parseIp } from '../../../host/ip.js';
import type { Fault } from '../fault.js';
import type { SwitchSpec } from '../spec.js';
import { Duration, parseDuration_ms } from '../words.js';

const DEFAULT_PORT = 6343;

/** `10.0.0.5`, `10.0.0.5:6343`, `[fd00::5]:6343`. Undefined when it is none of them. */
export function parseCollector(text: string): { address: string; port: number } | undefined {
  const match = /^\[([^\]]+)\](?::(\d{1,5}))?$/.exec(text) ?? /^([\d.]+)(?::(\d{1,5}))?$/.exec(text);
  const address = match?.[1] ?? text;
  const port = match?.[2] === undefined ? DEFAULT_PORT : Number(match[2]);
  if (parseIp(address) === undefined || port < 1 || port > 65_535) return undefined;
  return { address, port };
}

/** On a switch: `sampling: { collectors: [10.0.0.5], agent: 10.0.0.1 }`. */
export const SwitchWords = z
  .strictObject({
    collectors: z
      .array(
        z
          .string()
          .refine(
            text => parseCollector(text) !== undefined,
            'a collector is an IP address, with a port if it is not 6343: 10.0.0.5:6343 or [fd00::5]:6343',
          ),
      )
      .min(1)
      .max(8)
      .meta({ description: 'who is told, by sFlow version 5 over UDP' }),
    agent: z
      .string()
      .refine(text => parseIp(text) !== undefined, 'an agent is an IP address')
      .meta({ description: 'the address by which the collectors know this switch' }),
    rate: z
      .int()
      .min(1)
      .max(10_000_000)
      .default(1024)
      .meta({ description: 'one frame of so many is taken, at random' }),
    header: z.int().min(32).max(256).default(128).meta({ description: 'octets of each frame' }),
    polling: Duration.default('20s').meta({
      description: "how often each port's counters are told, in whole seconds",
    }),
  })
  .meta({ description: 'sFlow export; while it is on, nothing is offloaded to the kernel' });
export type SwitchWords = z.infer<typeof SwitchWords>;

export function switchToPlane(words: SwitchWords): SwitchSampling {
  return {
    collectors: words.collectors.map(text => parseCollector(text) ?? { address: text, port: DEFAULT_PORT }),
    agent: words.agent,
    rate: words.rate,
    header_bytes: words.header,
    polling_s: (parseDuration_ms(words.polling) ?? Number.NaN) / 1000,
  };
}

/** What can only be judged by looking at the whole switch; paths begin at the switch's spec. */
export function* faults({ sampling }: SwitchSpec): Generator<Fault> {
  if (sampling === undefined) return;
  const polling_ms = parseDuration_ms(sampling.polling) ?? Number.NaN;
  if (!(polling_ms >= 1000 && polling_ms <= 3_600_000 && polling_ms % 1000 === 0))
    yield {
      path: ['sampling', 'polling'],
      blame: 'value',
      message: `"${sampling.polling}" is out of range: whole seconds from 1s to 3600s`,
    };
}
