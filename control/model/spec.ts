/**
 * What a user may write: the spec of each kind of resource, as zod schemas. The types, the JSON Schema of
 * `weft config schema`, the OpenAPI page and the messages for wrong input all come from this file.
 *
 * A configuration is a map of kinds, each a map of names:
 *
 *   switch:
 *     lan: {}
 *   machine:
 *     alice: { image: tiny, memory: 128MiB, nics: [{ switch: lan, vlan: 10 }] }
 *
 * Here only what can be judged by looking at one resource alone; what needs the others (references, a disk
 * writable twice) is in validate.ts.
 */
import { z } from 'zod';
import { VlanId, PortFaults } from '../../dataplane/contract.js';

/** Lower case, digits and inner hyphens; short enough for a Unix socket's path to hold it. */
export const Name = z
  .string()
  .regex(/^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$/, 'a name is 1 to 40 of a-z, 0-9 and inner hyphens')
  .meta({ description: '1 to 40 lower-case letters, digits and inner hyphens' });

const SIZE_UNITS: Readonly<Record<string, number>> = {
  B: 1,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
};

/** `64MiB` -> 67108864; undefined when it is not a size. */
export function parseSize(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?) ?(B|KiB|MiB|GiB|TiB)$/.exec(text);
  if (match === null) return undefined;
  const size_bytes = Number(match[1]) * (SIZE_UNITS[match[2] ?? ''] ?? Number.NaN);
  return Number.isSafeInteger(size_bytes) ? size_bytes : undefined;
}

const DURATION_UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** `90s` -> 90000; undefined when it is not a duration. */
export function parseDuration_ms(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(text);
  if (match === null) return undefined;
  return Math.round(Number(match[1]) * (DURATION_UNITS[match[2] ?? ''] ?? Number.NaN));
}

/** Kept as the user wrote it; `parseSize` gives bytes. */
export const Size = z
  .string()
  .refine(text => parseSize(text) !== undefined, 'a size is a number and a unit: B, KiB, MiB, GiB or TiB')
  .meta({ examples: ['64MiB', '20GiB'] });

export const Duration = z
  .string()
  .refine(text => parseDuration_ms(text) !== undefined, 'a duration is a number and a unit: ms, s, m or h')
  .meta({ examples: ['30s', '5m'] });

/** `10` or `"20-29"`. */
export const VlanRange = z.union([
  VlanId,
  z
    .string()
    .regex(/^\d{1,4}-\d{1,4}$/, 'a range of VLANs is written "20-29"')
    .refine(text => {
      const [first = 0, last = 0] = text.split('-').map(Number);
      return first >= 1 && first <= last && last <= 4094;
    }, 'a range of VLANs lies within 1-4094, its smaller end first'),
]);

export const Trunk = z.strictObject({
  allowed: z.array(VlanRange).min(1).meta({ description: 'VLANs that pass with their tag' }),
  native: VlanId.optional().meta({ description: 'the VLAN of untagged frames; none when left out' }),
});

/** How a port stands to VLANs: `vlan` (access) or `trunk`; access to VLAN 1 when neither is said. */
const vlanMembership = {
  vlan: VlanId.optional().meta({ description: 'access port: the one VLAN of this port, untagged' }),
  trunk: Trunk.optional(),
};

const PORT_DEVICES = ['tap', 'stream', 'loopback', 'pcap'] as const;

export const SwitchPort = z
  .strictObject({
    ...vlanMembership,
    tap: z
      .string()
      .regex(/^[^\s/:]{1,15}$/, 'an interface name is 1 to 15 characters without space, slash or colon')
      .optional()
      .meta({ description: 'a tap interface of this host, made if absent' }),
    mtu: z.int().min(576).max(65_521).optional().meta({ description: 'of the tap interface, in bytes' }),
    stream: z
      .strictObject({ path: z.string().min(1).max(107), role: z.enum(['connect', 'listen']) })
      .optional()
      .meta({ description: 'a Unix stream socket as QEMU -netdev stream speaks' }),
    loopback: z.literal(true).optional().meta({ description: 'gives back what it is sent' }),
    pcap: z.string().min(1).optional().meta({ description: 'records what it is sent into this pcapng file' }),
    faults: PortFaults.optional(),
  })
  .refine(port => !(port.vlan !== undefined && port.trunk !== undefined), 'either vlan or trunk, not both')
  .refine(
    port => PORT_DEVICES.filter(device => port[device] !== undefined).length === 1,
    `a port is exactly one of ${PORT_DEVICES.join(', ')}`,
  );

export const SwitchSpec = z.strictObject({
  ageing: Duration.default('300s').meta({ description: 'how long a learned address is kept, 10 s or more' }),
  macLimit: z.int().min(1).max(1_000_000).default(32_768),
  ports: z.record(Name, SwitchPort).default({}),
});
export type SwitchSpec = z.infer<typeof SwitchSpec>;

export const PoolSpec = z.strictObject({
  directory: z
    .string()
    .startsWith('/', 'a directory is an absolute path')
    .optional()
    .meta({ description: "default: pools/NAME in weft's state directory" }),
});
export type PoolSpec = z.infer<typeof PoolSpec>;

export const VolumeSpec = z.strictObject({
  pool: Name,
  size: Size,
  image: Name.optional().meta({ description: 'fill it from this disk image when it is made' }),
});
export type VolumeSpec = z.infer<typeof VolumeSpec>;

export const ExportSpec = z
  .strictObject({
    volume: Name,
    readOnly: z.boolean().default(false),
    unix: z.string().startsWith('/').max(107).optional().meta({
      description: 'path of the Unix socket; default: run/exports/NAME.sock in the state directory',
    }),
    tcp: z
      .strictObject({ host: z.string().min(1), port: z.int().min(1).max(65_535) })
      .optional()
      .meta({ description: 'serve on the network as well; off when left out' }),
    exportName: z
      .string()
      .max(4096)
      .optional()
      .meta({ description: "NBD export name; default: the resource's name" }),
  })
  .meta({ description: 'a volume served by NBD' });
export type ExportSpec = z.infer<typeof ExportSpec>;

export const ImageSpec = z.union([
  /** Debian's kernel with busybox in an initrd, made on this machine. */
  z.strictObject({ tiny: z.strictObject({}) }),
  /** A disk image: volumes are filled from it. */
  z.strictObject({ disk: z.string().startsWith('/'), format: z.enum(['raw', 'qcow2']).optional() }),
  /** A kernel to boot directly. */
  z.strictObject({
    kernel: z.string().startsWith('/'),
    initrd: z.string().startsWith('/').optional(),
    cmdline: z.string().max(2048).optional(),
  }),
]);
export type ImageSpec = z.infer<typeof ImageSpec>;

export const MachineDisk = z.strictObject({ volume: Name, readOnly: z.boolean().default(false) });

export const MachineNic = z
  .strictObject({
    switch: Name,
    ...vlanMembership,
    mac: z
      .string()
      .regex(
        /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/,
        'a MAC address is six lower-case hexadecimal bytes with colons',
      )
      .refine(
        mac => (Number.parseInt(mac.slice(0, 2), 16) & 1) === 0,
        'a group address cannot be the address of a card',
      )
      .optional()
      .meta({
        description: 'default: derived from the machine and its place in the list, so it never changes',
      }),
    faults: PortFaults.optional(),
  })
  .refine(nic => !(nic.vlan !== undefined && nic.trunk !== undefined), 'either vlan or trunk, not both');

export const MachineSpec = z.strictObject({
  image: Name.optional().meta({
    description: 'a kernel or tiny image to boot; without it, boots its first disk',
  }),
  cmdline: z.string().max(1024).optional().meta({ description: 'added to the kernel command line' }),
  cpus: z.int().min(1).max(256).default(1),
  memory: Size.default('256MiB'),
  accel: z.enum(['auto', 'kvm', 'tcg']).default('auto'),
  disks: z.array(MachineDisk).max(24).default([]),
  nics: z.array(MachineNic).max(16).default([]),
  running: z.boolean().default(true).meta({ description: 'whether weft keeps it running' }),
  restart: z
    .enum(['always', 'on-failure', 'never'])
    .default('on-failure')
    .meta({ description: 'what follows when it stops by itself: a crash is a failure, a power-off is not' }),
  stopTimeout: Duration.default('60s').meta({
    description: 'how long a graceful stop may take before it is reported',
  }),
});
export type MachineSpec = z.infer<typeof MachineSpec>;

/** In the order in which they come to be; they go in reverse. */
export const KINDS = ['switch', 'pool', 'image', 'volume', 'export', 'machine'] as const;
export type Kind = (typeof KINDS)[number];

export const SPECS = {
  switch: SwitchSpec,
  pool: PoolSpec,
  image: ImageSpec,
  volume: VolumeSpec,
  export: ExportSpec,
  machine: MachineSpec,
} as const;

export interface SpecOf {
  switch: SwitchSpec;
  pool: PoolSpec;
  image: ImageSpec;
  volume: VolumeSpec;
  export: ExportSpec;
  machine: MachineSpec;
}

/** The whole of a configuration, as one file or many files merged. */
export const Configuration = z
  .strictObject({
    switch: z.record(Name, SwitchSpec).optional(),
    pool: z.record(Name, PoolSpec).optional(),
    image: z.record(Name, ImageSpec).optional(),
    volume: z.record(Name, VolumeSpec).optional(),
    export: z.record(Name, ExportSpec).optional(),
    machine: z.record(Name, MachineSpec).optional(),
  })
  .meta({ id: 'weft', title: 'weft configuration' });
