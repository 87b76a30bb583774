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
