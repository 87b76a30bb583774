/** LLDP, as users say it, and in the plane's words. */
import { z } from 'zod';
import { parseIp } from '../../../host/ip.js';
import type { PortLldp, SwitchLldp } from '../../../dataplane/contract.js';
import type { Fault } from '../fault.js';
import type { SwitchSpec } from '../spec.js';
import { Duration, parseDuration_ms } from '../words.js';

const Mode = z.enum(['off', 'rx', 'tx', 'both']);
/** 802.1AB-2016 8.5.5 to 8.5.7: 255 octets. */
const Text = z
  .string()
  .min(1)
  .refine(text => new TextEncoder().encode(text).length <= 255, 'LLDP carries 255 octets of a text at most');
const INTERVAL_MAX_S = 3600;

/** On a port or a machine's card. */
export const PortWords = z
  .strictObject({
    mode: Mode.optional().meta({
      description:
        "default: what the switch says; on a machine's card off, so that guests do not hear of the network",
    }),
    description: Text.optional().meta({ description: 'what neighbours are told of this port' }),
  })
  .meta({
    description:
      'LLDP (IEEE 802.1AB): telling the neighbour on the link who is here, and hearing who is there',
  });
export type PortWords = z.infer<typeof PortWords>;

export function portToPlane({ mode, description }: PortWords): PortLldp {
  return {
    ...(mode === undefined ? {} : { mode }),
    ...(description === undefined ? {} : { description }),
  };
}

/** On a switch. */
export const SwitchWords = z
  .strictObject({
    mode: Mode.default('both').meta({
      description:
        "of every port that says nothing itself and is no machine's: rx hears, tx tells, both or off",
    }),
    systemName: Text.optional().meta({ description: "default: the switch's name" }),
    systemDescription: Text.optional().meta({ description: 'default: weft virtual switch' }),
    managementAddresses: z
      .array(z.string().refine(text => parseIp(text) !== undefined, 'is no IPv4 or IPv6 address'))
      .max(8)
      .optional()
      .meta({ description: 'where this host is managed; told to neighbours, so none unless said' }),
    interval: Duration.default('30s').meta({ description: 'between two words to a neighbour, 1s to 1h' }),
    hold: z.int().min(1).max(100).default(4).meta({
      description: 'after so many intervals of silence a neighbour forgets us',
    }),
    neighboursMax: z.int().min(1).max(256).default(16).meta({
      description: 'remembered on one link; one more is counted and told',
    }),
  })
  .meta({ description: 'LLDP (IEEE 802.1AB); without this word, no port speaks or hears it' });
export type SwitchWords = z.infer<typeof SwitchWords>;

export function switchToPlane({ interval, managementAddresses, ...words }: SwitchWords): SwitchLldp {
  const { systemName, systemDescription, ...rest } = words;
  return {
    ...rest,
    ...(systemName === undefined ? {} : { systemName }),
    ...(systemDescription === undefined ? {} : { systemDescription }),
    ...(managementAddresses === undefined ? {} : { managementAddresses }),
    interval_s: (parseDuration_ms(interval) ?? 0) / 1000,
  };
}

/** What can only be judged by looking at the whole switch; paths begin at the switch's spec. */
export function* faults(spec: SwitchSpec): Generator<Fault> {
  const interval = spec.lldp?.interval;
  if (interval === undefined) return;
  const interval_s = (parseDuration_ms(interval) ?? 0) / 1000;
  if (!Number.isInteger(interval_s) || interval_s < 1 || interval_s > INTERVAL_MAX_S)
    yield {
      path: ['lldp', 'interval'],
      blame: 'value',
      message: `"${interval}" is out of range: whole seconds from 1s to 1h`,
    };
}
