/**
 * An ImageHost in memory, for tests of what stands above it. Builds and copies end at once and well, unless
 * the test says otherwise with `failNext`; `filled` tells what was copied where, in order.
 */
import type { ImageSpec } from '../model/spec.js';
import { ImageError } from './errors.js';
import type { BootFiles, BuildProgress, ImageHost, ObservedImage } from './host.js';

export class ImageHostDouble implements ImageHost {
  readonly calls: string[] = [];
  readonly filled: { path: string; socketPath: string; nbdName: string }[] = [];
  /** What every disk image is said to hold. */
  virtualSize_bytes = 16 * 2 ** 20;
  #built = new Set<string>();
  #failures = new Map<'build' | 'fill', Error[]>();

  failNext(verb: 'build' | 'fill', error: Error): void {
    this.#failures.set(verb, [...(this.#failures.get(verb) ?? []), error]);
  }

  async observe(name: string, spec: ImageSpec): Promise<ObservedImage> {
    const ready = !('tiny' in spec) || this.#built.has(name);
    return {
      name,
      state: ready ? 'ready' : 'absent',
      reason: null,
      made: ready ? 'a double' : null,
      virtualSize_bytes: 'disk' in spec ? this.virtualSize_bytes : null,
    };
  }

  async build(
    name: string,
    _spec: ImageSpec,
    onProgress: (progress: BuildProgress) => void,
    signal?: AbortSignal,
  ): Promise<void> {
    this.calls.push(`build ${name}`);
    this.#mayFail('build', signal);
    onProgress({ stage: 'built', fraction: 1 });
    this.#built.add(name);
  }

  async bootFiles(name: string, spec: ImageSpec): Promise<BootFiles> {
    if ('disk' in spec)
      return {
        kind: 'disk',
        path: spec.disk,
        format: spec.format ?? 'raw',
        virtualSize_bytes: this.virtualSize_bytes,
      };
    if ('kernel' in spec)
      return {
        kind: 'kernel',
        kernel: spec.kernel,
        initrd: spec.initrd ?? null,
        cmdline: spec.cmdline ?? '',
      };
    if (!this.#built.has(name)) throw new ImageError('IMAGE_NOT_READY', `image ${name} is not built yet`);
    return {
      kind: 'kernel',
      kernel: `/double/images/${name}/kernel`,
      initrd: `/double/images/${name}/initrd`,
      cmdline: 'console=ttyS0',
    };
  }

  async fill(
    image: Extract<BootFiles, { kind: 'disk' }>,
    target: { socketPath: string; nbdName: string },
    onProgress: (progress: BuildProgress) => void,
    signal?: AbortSignal,
  ): Promise<void> {
    this.calls.push(`fill ${target.nbdName}`);
    this.#mayFail('fill', signal);
    onProgress({ stage: 'filled', fraction: 1 });
    this.filled.push({ path: image.path, ...target });
  }

  async forget(name: string): Promise<void> {
    this.calls.push(`forget ${name}`);
    this.#built.delete(name);
  }

  #mayFail(verb: 'build' | 'fill', signal: AbortSignal | undefined): void {
    if (signal?.aborted === true) throw new ImageError('IMAGE_ABORTED', 'called off');
    const failure = this.#failures.get(verb)?.shift();
    if (failure !== undefined) throw failure;
  }
}
