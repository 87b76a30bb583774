/**
 * What the reconciler asks of the images' edge. `process.ts` is the real body (apt, dpkg-deb, qemu-img),
 * `double.ts` the one for tests.
 *
 * An image is something to boot from that outlives every machine: a kernel with an initrd (kinds `tiny` and
 * `kernel`), or a disk that volumes are filled from (kind `disk`). Only `tiny` is made by us; the other two are
 * the user's files, looked at and used where they lie.
 */
import type { ImageSpec } from '../model/spec.js';

export interface ObservedImage {
  name: string;
  /** `absent`: can be built (tiny only). `failed`: see reason; building again may help. */
  state: 'absent' | 'building' | 'ready' | 'failed';
  /** In words: what is wrong and what to do, or what is being done; null when there is nothing to say. */
  reason: string | null;
  /** What it is made of, in words: `linux 6.1.0-44-cloud-amd64, busybox 1.35.0`; null until known. */
  made: string | null;
  /** Of a disk image: how large a volume must be to hold it. Null for the others. */
  virtualSize_bytes: number | null;
}

export interface BuildProgress {
  /** In words, in the present: `downloading linux-image-6.1.0-44-cloud-amd64`. */
  stage: string;
  /** 0 to 1 of the whole; null when not known. */
  fraction: number | null;
}

/** What a BootPlan needs: `cmdline` ends where the machine's own words begin. */
export type BootFiles =
  | { kind: 'kernel'; kernel: string; initrd: string | null; cmdline: string }
  | { kind: 'disk'; path: string; format: 'raw' | 'qcow2'; virtualSize_bytes: number };

export interface ImageHost {
  /** Looks at files; quick, and never builds. */
  observe(name: string, spec: ImageSpec): Promise<ObservedImage>;
  /**
   * Make it ready; at once when it is. Two calls for the same name share one build. An aborted or failed build
   * leaves nothing half-made. Rejects with an ImageError in words.
   */
  build(
    name: string,
    spec: ImageSpec,
    onProgress: (progress: BuildProgress) => void,
    signal?: AbortSignal,
  ): Promise<void>;
  /** Rejects with IMAGE_NOT_READY before it was built. */
  bootFiles(name: string, spec: ImageSpec): Promise<BootFiles>;
  /**
   * Copy a disk image into an NBD export at least as large. Not atomic: when it rejects, or never ends, the
   * export holds a part; whoever calls must remember that the filling was completed, and else begin again.
   */
  fill(
    image: Extract<BootFiles, { kind: 'disk' }>,
    target: { socketPath: string; nbdName: string },
    onProgress: (progress: BuildProgress) => void,
    signal?: AbortSignal,
  ): Promise<void>;
  /** Remove what was built for this name; the user's own files are never touched. */
  forget(name: string): Promise<void>;
}
