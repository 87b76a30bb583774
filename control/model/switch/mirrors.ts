/** Mirror sessions, as users say them, and in the plane's words. */
import { z } from 'zod';
import type { MirrorSession } from '../../../dataplane/contract.js';
import { MIRROR_SESSIONS_MAX, VlanId } from '../../../dataplane/contract.js';
import type { Fault } from '../fault.js';
import { vlanRanges } from '../ranges.js';
import type { SwitchSpec } from '../spec.js';
import { VlanRange } from '../words.js';

/** Of the switch itself, or a card of a machine: `web.nic0`. */
const PortName = z.string().min(1).max(64);

const MIN_SNAPLEN_BYTES = 64;

/** One session; a switch has them by name. */
export const SessionWords = z
  .strictObject({
    ports: z
      .record(PortName, z.enum(['in', 'out', 'both']))
      .optional()
      .meta({
        description:
          'ports that are watched, and which way: frames that come in by them, that go out, or both; MACHINE.nicN for a card',
      }),
    vlans: z
      .array(VlanRange)
      .min(1)
      .optional()
      .meta({ description: 'frames that come in and belong to these' }),
    to: z
      .strictObject({
        port: PortName.optional().meta({
          description: 'who watches: a port of this switch, or MACHINE.nicN; it then carries nothing else',
        }),
        vlan: VlanId.optional().meta({
          description: 'a VLAN that takes the copies to another switch, and has no other use',
        }),
      })
      .refine(to => (to.port === undefined) !== (to.vlan === undefined), 'either port or vlan'),
    snaplen: z.int().min(MIN_SNAPLEN_BYTES).max(65_557).optional().meta({
      description: 'cut longer frames to so many bytes',
    }),
    oneIn: z.int().min(1).max(1_000_000).optional().meta({
      description: 'copy one frame in so many; default: all',
    }),
  })
  .refine(
    words => words.to.port === undefined || words.ports?.[words.to.port] === undefined,
    'a port that is watched cannot be where the copies go: they would be copied again',
  );
export type SessionWords = z.infer<typeof SessionWords>;

export function sessionToPlane(name: string, words: SessionWords): MirrorSession {
  const ports = Object.entries(words.ports ?? {});
  const watched = (way: 'in' | 'out'): string[] =>
    ports.filter(([, which]) => which === way || which === 'both').map(([port]) => port);
  return {
    name,
    in: watched('in'),
    out: watched('out'),
    vlans: vlanRanges(words.vlans ?? []),
    destination: words.to.vlan === undefined ? { port: words.to.port ?? '' } : { vlan: words.to.vlan },
    ...(words.snaplen === undefined ? {} : { snaplen_bytes: words.snaplen }),
    ...(words.oneIn === undefined ? {} : { oneIn: words.oneIn }),
  };
}

/** A card of a machine is not in the switch's spec; whoever names one is believed. */
const isCard = (name: string): boolean => /\.nic\d+$/.test(name);

export function* faults(spec: SwitchSpec): Generator<Fault> {
  const sessions = Object.entries(spec.mirrors ?? {});
  if (sessions.length > MIRROR_SESSIONS_MAX)
    yield {
      path: ['mirrors'],
      blame: 'key',
      message: `a switch has ${MIRROR_SESSIONS_MAX} mirror sessions at most: let one watch several ports`,
    };
  const toPorts = new Map<string, string>();
  const toVlans = new Map<number, string>();
  for (const [name, { to }] of sessions) {
    if (to.port !== undefined) toPorts.set(to.port, name);
    if (to.vlan !== undefined) toVlans.set(to.vlan, name);
  }
  for (const [name, { ports = {}, vlans = [], to }] of sessions) {
    if (to.port !== undefined && !isCard(to.port) && spec.ports[to.port] === undefined)
      yield {
        path: ['mirrors', name, 'to', 'port'],
        blame: 'value',
        message: `this switch has no port ${to.port}; a card of a machine is MACHINE.nicN`,
      };
    for (const port of Object.keys(ports)) {
      const path = ['mirrors', name, 'ports', port];
      if (!isCard(port) && spec.ports[port] === undefined)
        yield {
          path,
          blame: 'key',
          message: `this switch has no port ${port}; a card of a machine is MACHINE.nicN`,
        };
      const other = toPorts.get(port);
      if (other !== undefined && other !== name)
        yield {
          path,
          blame: 'key',
          message: `copies of the session ${other} go to ${port}: watching it would mirror the mirror`,
        };
    }
    if (to.vlan === undefined) continue;
    for (const [first, last] of vlanRanges(vlans))
      for (const [vlan, other] of toVlans)
        if (vlan >= first && vlan <= last)
          yield {
            path: ['mirrors', name, 'vlans'],
            blame: 'key',
            message: `copies of the session ${other} are in VLAN ${vlan}: watching it, into a VLAN again, would mirror the mirror`,
          };
  }
}
