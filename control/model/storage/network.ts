/** Where an NBD server is, and how either side of a connection proves who it is: words that pools and exports share. */
import { z } from 'zod';
import type { TlsFiles } from '../../../storage/contract.js';

export const FilePath = z.string().startsWith('/', 'a file is an absolute path').max(4096);

export const TcpAddress = z.strictObject({
  host: z.string().min(1).max(253).meta({ description: 'address or name' }),
  port: z.int().min(1).max(65_535),
});
export type TcpAddress = z.infer<typeof TcpAddress>;

const tlsWords = {
  certificate: FilePath.optional().meta({ description: 'file with our certificate and its chain, PEM' }),
  key: FilePath.optional().meta({ description: 'file with its private key, PEM' }),
  authority: FilePath.optional().meta({
    description: 'file with the authority whose certificates the other side must show, PEM',
  }),
  psk: FilePath.optional().meta({ description: 'file with pre-shared keys, one identity:hex to a line' }),
};

/** The keys stay in their files: what is written here is shown to everybody who may see the configuration. */
export const ServerTls = z.strictObject(tlsWords).superRefine((tls, context) => {
  if (tls.certificate === undefined && tls.psk === undefined)
    context.addIssue({
      code: 'custom',
      message: 'a server needs certificate and key, or psk: say which files',
    });
  pairs(tls, context);
});
export type ServerTls = z.infer<typeof ServerTls>;

export const ClientTls = z
  .strictObject({
    ...tlsWords,
    identity: z.string().min(1).max(128).optional().meta({
      description: 'which of the pre-shared keys; default: the first',
    }),
  })
  .superRefine((tls, context) => {
    if (tls.identity !== undefined && tls.psk === undefined)
      context.addIssue({
        code: 'custom',
        path: ['identity'],
        message: 'an identity is of a psk: name its file',
      });
    pairs(tls, context);
  });
export type ClientTls = z.infer<typeof ClientTls>;

function pairs(
  tls: { certificate?: string | undefined; key?: string | undefined },
  context: z.RefinementCtx,
): void {
  if ((tls.certificate === undefined) === (tls.key === undefined)) return;
  const [there, lacks] = tls.key === undefined ? ['certificate', 'key'] : ['key', 'certificate'];
  context.addIssue({
    code: 'custom',
    path: [there ?? ''],
    message: `${there} goes with ${lacks}: name both files`,
  });
}

export function tlsToPlane(words: ServerTls | ClientTls): TlsFiles {
  const { certificate, key, authority, psk } = words;
  const pskIdentity = 'identity' in words ? words.identity : undefined;
  // Absent stays absent.
  return JSON.parse(JSON.stringify({ certificate, key, authority, psk, pskIdentity })) as TlsFiles;
}
