/** A disk of a machine, as users say it. */
import { z } from 'zod';
import { Name } from '../words.js';
import { Block } from './volume.js';

export const MachineDisk = z
  .strictObject({
    volume: Name,
    readOnly: z.boolean().default(false),
    undo: z.enum(['keep', 'discard']).default('keep').meta({
      description: 'at power-off, what the guest wrote since it was started is kept, or thrown away',
    }),
    block: Block.optional().meta({
      description: "smallest block that the guest sees; default: the volume's",
    }),
    attach: z.enum(['nbd', 'vhost-user']).optional().meta({
      description:
        'how requests reach weft-storage: nbd (default), through QEMU, or vhost-user, by memory shared with it',
    }),
    queues: z.int().min(1).max(16).optional().meta({
      description: "queues of a vhost-user disk; default: one for each of the guest's CPUs, 8 at most",
    }),
  })
  .superRefine(({ attach, queues }, context) => {
    if (queues !== undefined && attach !== 'vhost-user')
      context.addIssue({
        code: 'custom',
        path: ['queues'],
        message: 'queues are of a disk with attach: vhost-user: leave them out, or say that too',
      });
  })
  .superRefine(({ readOnly, undo }, context) => {
    if (readOnly && undo === 'discard')
      context.addIssue({
        code: 'custom',
        path: ['undo'],
        message: 'a read-only disk has no changes to throw away: say one of them',
      });
  });
export type MachineDisk = z.infer<typeof MachineDisk>;
