/** manifest.json of a built tiny image: what it was made of, and how to know that it is whole. Pure. */
import { z } from 'zod';

const FileFact = z.object({ size_bytes: z.number(), sha256: z.string() });

export const Manifest = z.object({
  /** Of recipe.ts and the guest's scripts; another one means that it is built anew, from `parts/`. */
  recipe: z.string(),
  arch: z.string(),
  kernel: z.object({ release: z.string(), source: z.string() }),
  busybox: z.object({ version: z.string(), source: z.string(), applets: z.array(z.string()) }),
  /** In load order. */
  modules: z.array(z.string()),
  files: z.object({ kernel: FileFact, initrd: FileFact }),
  builtAt: z.string(),
});
export type Manifest = z.infer<typeof Manifest>;

export function parseManifest(text: string): Manifest | undefined {
  try {
    return Manifest.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

export function madeOf(manifest: Manifest): string {
  return `linux ${manifest.kernel.release} (${manifest.kernel.source}), busybox ${manifest.busybox.version} (${manifest.busybox.source})`;
}
