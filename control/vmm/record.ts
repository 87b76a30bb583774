/**
 * plan.json in a guest's run directory: what it was booted with, what was asked of it, and how it ended; all
 * that a later weftd needs to take the guest over, and all that a person needs to see what was started.
 * Written before QEMU is started and whenever `asked` or `end` changes. It holds no secrets.
 */
import { z } from 'zod';

const Plan = z.object({
  name: z.string(),
  cpus: z.int(),
  memory_bytes: z.number(),
  accel: z.enum(['auto', 'kvm', 'tcg']),
  kernel: z.object({ path: z.string(), initrd: z.string().nullable(), cmdline: z.string() }).nullable(),
  disks: z.array(
    z.object({
      socketPath: z.string(),
      nbdName: z.string(),
      readOnly: z.boolean(),
      block: z.union([z.literal(512), z.literal(4096)]).optional(),
      vhost: z.object({ queues: z.int() }).optional(),
    }),
  ),
  nics: z.array(
    z.object({
      socketPath: z.string(),
      mac: z.string(),
      // Guests booted before there was a choice have streams.
      transport: z.enum(['vhost', 'stream']).default('stream'),
      queues: z.int().default(1),
    }),
  ),
});

export const BootRecord = z.object({
  version: z.literal(1),
  bootId: z.string(),
  plan: Plan,
  qemu: z.object({ binary: z.string(), version: z.string() }),
  hardware: z.object({
    arch: z.enum(['x86_64', 'aarch64']),
    machineType: z.string(),
    accel: z.enum(['kvm', 'tcg']),
    firmware: z.string().nullable(),
  }),
  accelReason: z.string(),
  argv: z.array(z.string()),
  startedAt_ms: z.number(),
  asked: z.object({ what: z.enum(['stop', 'kill']), until_ms: z.number() }).nullable(),
  end: z
    .object({
      ended: z.enum(['guest-poweroff', 'stopped', 'killed', 'crashed']),
      reason: z.string().nullable(),
    })
    .nullable(),
});
export type BootRecord = z.infer<typeof BootRecord>;

export function parseRecord(text: string): BootRecord | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const result = BootRecord.safeParse(value);
  return result.success ? result.data : undefined;
}
