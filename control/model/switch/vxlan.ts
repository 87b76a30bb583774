/** A VXLAN port, as users say it, and in the plane's words. */
import { z } from 'zod';
import type { SimpleDevice } from '../../../dataplane/contract.js';
import { formatIp, parseIp } from '../../../host/ip.js';

/** RFC 7348 5. */
const PORT = 4789;
const REMOTES_MAX_COUNT = 256;

/** `10.0.0.2`, `10.0.0.2:8472`, `fd00::2`, `[fd00::2]:8472`; undefined when it is none of them. */
export function parseRemote(text: string, port = PORT): { address: string; port: number } | undefined {
  const match = /^\[([^\]]+)\](?::(\d{1,5}))?$/.exec(text) ?? /^([\d.]+)(?::(\d{1,5}))?$/.exec(text);
  const ip = parseIp(match?.[1] ?? text);
  const number = match?.[2] === undefined ? port : Number(match[2]);
  return ip === undefined || number < 1 || number > 65_535
    ? undefined
    : { address: formatIp(ip), port: number };
}

const familyOf = (address: string): 4 | 6 => (address.includes(':') ? 6 : 4);

export const vxlanWords = z
  .strictObject({
    vni: z
      .int()
      .min(0)
      .max(0xff_ffff)
      .meta({ description: 'the number of the segment, the same at all ends' }),
    local: z
      .string()
      .refine(text => parseIp(text) !== undefined, 'an IP address of this host, such as 10.0.0.1')
      .optional()
      .meta({ description: 'address of this host that the tunnel is spoken from; default: all of them' }),
    port: z
      .int()
      .min(1)
      .max(65_535)
      .default(PORT)
      .meta({ description: 'UDP port, here and (by default) there' }),
    remotes: z
      .array(
        z
          .string()
          .refine(
            text => parseRemote(text) !== undefined,
            'a remote end is an IP address, with a port if it is not the usual one: 10.0.0.2, 10.0.0.2:8472 or [fd00::2]:8472',
          ),
      )
      .max(REMOTES_MAX_COUNT)
      .default([])
      .meta({ description: 'the other ends of the segment; frames to unknown stations go to all of them' }),
    anySender: z.boolean().default(false).meta({
      description:
        'take frames from ends that are not among the remotes: whoever reaches the UDP port is in the segment',
    }),
    dontFragment: z.boolean().default(false).meta({
      description: 'drop what does not fit the path, instead of sending it in fragments',
    }),
  })
  .superRefine(({ local, remotes, anySender }, context) => {
    const families = new Set(
      [...(local === undefined ? [] : [local]), ...remotes.map(text => parseRemote(text)?.address ?? '')].map(
        familyOf,
      ),
    );
    if (families.size > 1)
      context.addIssue({
        code: 'custom',
        path: ['remotes'],
        message: 'local address and remote ends are all IPv4 or all IPv6: make a port for each family',
      });
    if (remotes.length === 0 && !anySender)
      context.addIssue({
        code: 'custom',
        path: ['remotes'],
        message: 'with no remote end and anySender false nobody can be spoken to: name the other ends',
      });
  });
export type VxlanWords = z.infer<typeof vxlanWords>;

export function vxlanToPlane(words: VxlanWords): SimpleDevice {
  const { vni, local, port, remotes, anySender, dontFragment } = words;
  return {
    kind: 'vxlan',
    vni,
    ...(local === undefined ? {} : { local }),
    port,
    remotes: remotes.flatMap(text => parseRemote(text, port) ?? []),
    ...(anySender ? { anySender } : {}),
    ...(dontFragment ? { dontFragment } : {}),
  };
}
