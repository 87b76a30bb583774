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
import { MachineDisk } from './storage/disk.js';
import { ExportSpec } from './storage/export.js';
import { PoolSpec } from './storage/pool.js';
import { VolumeSpec } from './storage/volume.js';
import { deviceWords, refineDevice } from './switch/devices.js';
import { portWords, refinePort, switchWords } from './switch/words.js';
import { Duration, Name, Size, StationMac } from './words.js';

export * from './words.js';
export { ExportSpec, MachineDisk, PoolSpec, VolumeSpec };

export const SwitchPort = z
  .strictObject({ ...portWords, ...deviceWords })
  .superRefine(refinePort)
  .superRefine(refineDevice);

export const SwitchSpec = z.strictObject({
  ageing: Duration.default('300s').meta({ description: 'how long a learned address is kept, 10 s or more' }),
  macLimit: z.int().min(1).max(1_000_000).default(32_768),
  ...switchWords,
  ports: z.record(Name, SwitchPort).default({}),
});
export type SwitchSpec = z.infer<typeof SwitchSpec>;

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

export const MachineNic = z
  .strictObject({
    switch: Name,
    ...portWords,
    mac: StationMac.optional().meta({
      description: 'default: derived from the machine and its place in the list, so it never changes',
    }),
    transport: z.enum(['vhost', 'stream']).optional().meta({
      description:
        'how frames reach the guest: vhost (default), by memory shared with the switch, or stream, copied through QEMU',
    }),
    queues: z.int().min(1).max(16).optional().meta({
      description: 'pairs of queues of a vhost card, so that several CPUs of the guest can use it; default 1',
    }),
  })
  .superRefine((nic, context) => {
    refinePort(nic, context);
    if (nic.transport === 'stream' && nic.queues !== undefined && nic.queues > 1)
      context.addIssue({
        code: 'custom',
        path: ['queues'],
        message:
          'a card with transport stream has one pair of queues: leave queues out, or take transport vhost',
      });
  });

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
