/**
 * The tiny image that tests of guests share: test/control/vmm/ makes it, and a state directory that is given a copy needs none built.
 * Without one weftd builds its own, as users' do; quickstart and ordinary-user always have it do so.
 */
import { chmodSync, cpSync, existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { HostImages } from '../../../control/image/process.js';

/** From dist/test/lab/harness/. */
export const SHARED_IMAGES = fileURLToPath(
  new URL('../../../../node_modules/.cache/weft-test-images', import.meta.url),
);

/** Image `tiny` of a state directory that has none yet. */
export async function giveTinyImage(state: string): Promise<void> {
  const place = join(state, 'images', 'tiny');
  if (existsSync(place)) return;
  const { state: found } = await new HostImages(SHARED_IMAGES).observe('tiny', { tiny: {} });
  if (found !== 'ready') return;
  mkdirSync(join(state, 'images'), { recursive: true });
  // As weftd makes it: guests' users pass through.
  chmodSync(state, 0o711);
  cpSync(join(SHARED_IMAGES, 'tiny'), place, { recursive: true });
}
