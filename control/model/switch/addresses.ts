/** The filtering database, as users say it: static entries, limits per port, private VLANs. */
import { z } from 'zod';
import { VlanId } from '../../../dataplane/contract.js';
import type { PortAddresses, PrivateVlan, StaticAddress } from '../../../dataplane/contract.js';
import type { Fault } from '../fault.js';
import { didYouMean, someOf } from '../nearest.js';
import type { SwitchSpec } from '../spec.js';
import { Duration, StationMac, parseDuration_ms } from '../words.js';
import { RecoveryWord, recoveryFaults, recovery_s } from './recovery.js';

/** On a port or a machine's card. */
export const PortWords = z.strictObject({
  limit: z
    .int()
    .min(1)
    .max(1_000_000)
    .optional()
    .meta({ description: 'addresses learned on this port at most' }),
  onFull: z
    .enum(['flood', 'drop', 'shutdown'])
    .default('drop')
    .meta({ description: 'what becomes of frames of further stations, or of the port' }),
  moves: z
    .strictObject({
      most: z.int().min(1).max(1_000_000),
      within: Duration.default('10s'),
      action: z.enum(['hold', 'shutdown']).default('hold'),
    })
    .optional()
    .meta({ description: 'how often one station may move to this port; hold: it stays where it was' }),
  recovery: RecoveryWord,
});
export type PortWords = z.infer<typeof PortWords>;

export function portToPlane({ limit, onFull, moves, recovery }: PortWords): PortAddresses {
  return {
    limit: limit ?? null,
    onFull,
    moves:
      moves === undefined
        ? null
        : {
            most: moves.most,
            within_s: (parseDuration_ms(moves.within) ?? Number.NaN) / 1000,
            action: moves.action,
          },
    recovery_s: recovery_s(recovery),
  };
}

export const StaticWords = z
  .strictObject({
    mac: StationMac,
    vlan: VlanId.default(1),
    port: z.string().min(1).max(64).optional().meta({
      description: 'where the station is: a port of this switch, or the card of a machine as MACHINE.nic0',
    }),
    drop: z.literal(true).optional().meta({ description: 'what goes to this station is dropped' }),
  })
  .refine(one => (one.port === undefined) !== (one.drop === undefined), 'either port or drop: true');

export const PrivateVlanWords = z.strictObject({
  primary: VlanId.meta({ description: 'its ports speak with all ports of the private VLAN' }),
  isolated: VlanId.optional().meta({ description: "its ports speak with the primary's ports alone" }),
  communities: z
    .array(VlanId)
    .max(256)
    .default([])
    .meta({ description: "ports of one of them speak with each other and with the primary's" }),
});

export function staticsToPlane(words: readonly z.infer<typeof StaticWords>[]): StaticAddress[] {
  return words.map(({ mac, vlan, port }) => ({ mac, vlan, port: port ?? null }));
}

export function privateVlansToPlane(words: readonly z.infer<typeof PrivateVlanWords>[]): PrivateVlan[] {
  return words.map(({ primary, isolated, communities }) => ({
    primary,
    isolated: isolated ?? null,
    communities,
  }));
}

/** Of one port; paths begin at it. */
export function* portFaults(addresses: PortWords): Generator<Fault> {
  yield* recoveryFaults(addresses.recovery, ['addresses', 'recovery']);
  yield* recoveryFaults(addresses.moves?.within, ['addresses', 'moves', 'within']);
}

export function* faults({ ports, staticAddresses = [], privateVlans = [] }: SwitchSpec): Generator<Fault> {
  yield* staticFaults(Object.keys(ports), staticAddresses);
  const part = new Map<number, string>();
  for (const [index, { primary, isolated, communities }] of privateVlans.entries()) {
    const parts: [number | undefined, (string | number)[]][] = [
      [primary, ['primary']],
      [isolated, ['isolated']],
      ...communities.map((vid, at): [number, (string | number)[]] => [vid, ['communities', at]]),
    ];
    for (const [vid, where] of parts) {
      if (vid === undefined) continue;
      const other = part.get(vid);
      const path = ['privateVlans', index, ...where];
      if (other === undefined) part.set(vid, `of privateVlans ${index} (${where[0]})`);
      else yield { path, blame: 'value', message: `VLAN ${vid} is a part ${other} already` };
    }
  }
}

function* staticFaults(
  ports: readonly string[],
  statics: readonly z.infer<typeof StaticWords>[],
): Generator<Fault> {
  const seen = new Map<string, number>();
  for (const [index, { mac, vlan, port }] of statics.entries()) {
    const key = `${mac} ${vlan}`;
    const other = seen.get(key);
    if (other !== undefined)
      yield {
        path: ['staticAddresses', index, 'mac'],
        blame: 'value',
        message: `${mac} in VLAN ${vlan} has an entry already (number ${other + 1})`,
      };
    else seen.set(key, index);
    // Cards of machines are ports too, of a name that no other port can have.
    if (port === undefined || ports.includes(port) || /\.nic\d+$/.test(port)) continue;
    const hint = didYouMean(port, ports);
    const rest = hint !== '' || ports.length === 0 ? hint : `; there are: ${someOf(ports)}`;
    yield {
      path: ['staticAddresses', index, 'port'],
      blame: 'value',
      message: `no port named "${port}" on this switch${rest}; the card of a machine is MACHINE.nic0`,
    };
  }
}
