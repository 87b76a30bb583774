/**
 * The images' edge on a real host: the body of `ImageHost` that weftd uses. Kind `tiny` is built by tiny/, kind
 * `disk` is read by qemu-img (disk/), kind `kernel` is two files of the user's.
 *
 *   const images = new HostImages(`${state}/images`);
 */
import * as fs from 'node:fs';
import { join } from 'node:path';
import type { ImageSpec } from '../model/spec.js';
import { copyDisk, inspectDisk, mustBeReadable } from './disk/process.js';
import { ImageError } from './errors.js';
import type { BootFiles, BuildProgress, ImageHost, ObservedImage } from './host.js';
import { tinyCmdline } from './recipe.js';
import { madeOf } from './tiny/manifest.js';
import { buildTiny, readBuilt } from './tiny/process.js';

interface Build {
  done: Promise<unknown>;
  listeners: Set<(progress: BuildProgress) => void>;
  /** Calls the build off; done when nobody waits for it any more. */
  controller: AbortController;
  stage: string;
}

export class HostImages implements ImageHost {
  readonly #directory: string;
  readonly #builds = new Map<string, Build>();
  /** Why the last build failed. */
  readonly #failures = new Map<string, string>();

  constructor(directory: string) {
    this.#directory = directory;
  }

  async observe(name: string, spec: ImageSpec): Promise<ObservedImage> {
    const seen = { name, reason: null, made: null, virtualSize_bytes: null };
    try {
      if ('disk' in spec) {
        const disk = await inspectDisk(spec.disk, spec.format);
        return {
          ...seen,
          state: 'ready',
          made: `${spec.disk} (${disk.format})`,
          virtualSize_bytes: disk.virtualSize_bytes,
        };
      }
      if ('kernel' in spec) {
        mustBeReadable(spec.kernel);
        if (spec.initrd !== undefined) mustBeReadable(spec.initrd);
        return { ...seen, state: 'ready', made: spec.kernel };
      }
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
      return { ...seen, state: 'failed', reason: error.message };
    }
    const build = this.#builds.get(name);
    if (build !== undefined) return { ...seen, state: 'building', reason: build.stage };
    const manifest = readBuilt(join(this.#directory, name));
    if (manifest !== undefined) return { ...seen, state: 'ready', made: madeOf(manifest) };
    const failure = this.#failures.get(name);
    return failure === undefined
      ? { ...seen, state: 'absent' }
      : { ...seen, state: 'failed', reason: failure };
  }

  async build(
    name: string,
    spec: ImageSpec,
    onProgress: (progress: BuildProgress) => void,
    signal?: AbortSignal,
  ): Promise<void> {
    if (!('tiny' in spec)) {
      const seen = await this.observe(name, spec);
      if (seen.state === 'failed') throw new ImageError('IMAGE_FILE', `image ${name}: ${seen.reason}`);
      return;
    }
    if (this.#builds.get(name) === undefined && readBuilt(join(this.#directory, name)) !== undefined) return;
    const build = this.#builds.get(name) ?? this.#begin(name);
    build.listeners.add(onProgress);
    let leave = (): void => {};
    const calledOff = new Promise<never>((_resolve, reject) => {
      leave = () => {
        build.listeners.delete(onProgress);
        if (build.listeners.size === 0) build.controller.abort();
        reject(new ImageError('IMAGE_ABORTED', `building image ${name} was called off`));
      };
      if (signal?.aborted === true) leave();
      else signal?.addEventListener('abort', leave, { once: true });
    });
    try {
      await Promise.race([build.done, calledOff]);
    } finally {
      signal?.removeEventListener('abort', leave);
      build.listeners.delete(onProgress);
    }
  }

  async bootFiles(name: string, spec: ImageSpec): Promise<BootFiles> {
    if ('disk' in spec) {
      const disk = await inspectDisk(spec.disk, spec.format);
      return { kind: 'disk', path: spec.disk, ...disk };
    }
    if ('kernel' in spec) {
      mustBeReadable(spec.kernel);
      if (spec.initrd !== undefined) mustBeReadable(spec.initrd);
      return {
        kind: 'kernel',
        kernel: spec.kernel,
        initrd: spec.initrd ?? null,
        cmdline: spec.cmdline ?? '',
      };
    }
    const directory = join(this.#directory, name);
    if (readBuilt(directory) === undefined)
      throw new ImageError('IMAGE_NOT_READY', `image ${name} is not built yet: \`weft image build ${name}\``);
    return {
      kind: 'kernel',
      kernel: join(directory, 'kernel'),
      initrd: join(directory, 'initrd'),
      cmdline: tinyCmdline(process.arch),
    };
  }

  async fill(
    image: Extract<BootFiles, { kind: 'disk' }>,
    target: { socketPath: string; nbdName: string },
    onProgress: (progress: BuildProgress) => void,
    signal?: AbortSignal,
  ): Promise<void> {
    await copyDisk(image, target, onProgress, signal);
  }

  async forget(name: string): Promise<void> {
    const build = this.#builds.get(name);
    build?.controller.abort();
    await build?.done.catch(() => {});
    this.#failures.delete(name);
    fs.rmSync(join(this.#directory, name), { recursive: true, force: true });
  }

  #begin(name: string): Build {
    const controller = new AbortController();
    const listeners: Build['listeners'] = new Set();
    const tell = (progress: BuildProgress): void => {
      build.stage = progress.stage;
      for (const listener of listeners) listener(progress);
    };
    const build: Build = { done: Promise.resolve(), listeners, controller, stage: 'beginning' };
    this.#builds.set(name, build);
    this.#failures.delete(name);
    // Begun in a moment, so that who asked hears of the first stage too.
    build.done = Promise.resolve()
      .then(() => buildTiny(this.#directory, name, tell, controller.signal))
      .catch((error: unknown) => {
        if (!(error instanceof ImageError) || error.code !== 'IMAGE_ABORTED')
          this.#failures.set(name, error instanceof Error ? error.message : String(error));
        throw error;
      })
      .finally(() => this.#builds.delete(name));
    // Whoever waits is told; that nobody does is no error.
    build.done.catch(() => {});
    return build;
  }
}
