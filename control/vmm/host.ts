/**
 * What the reconciler asks of the guests' edge, and what it is told. `process.ts` is the real body (QEMU),
 * `double.ts` the one for tests. The reconciler knows nothing of QMP, the edge nothing of resources.
 *
 * The order of a start: `prepare(name)` makes run/machines/NAME and settles whose it is; the disks' sockets
 * are put there, given to `owner(name)`; `start(plan)`; QEMU makes the NICs' sockets, the dataplane dials them.
 */
import type { Duplex } from 'node:stream';

/** All that is needed to start one guest; two equal plans start the same guest. */
export interface BootPlan {
  name: string;
  cpus: number;
  memory_bytes: number;
  accel: 'auto' | 'kvm' | 'tcg';
  /** Direct kernel boot; null boots the first disk. */
  kernel: { path: string; initrd: string | null; cmdline: string } | null;
  /**
   * In order: /dev/vda, /dev/vdb, … Served at `socketPath`: by NBD, or to a vhost-user device of so many queues.
   * `block`: bytes of a logical block, 512 if unsaid.
   */
  disks: readonly {
    socketPath: string;
    nbdName: string;
    readOnly: boolean;
    block?: 512 | 4096 | undefined;
    vhost?: { queues: number } | undefined;
  }[];
  /**
   * In order. The guest's QEMU listens at `socketPath`; the dataplane connects. `vhost`: vhost-user, with so many pairs
   * of queues; `stream`: frames behind their lengths.
   */
  nics: readonly { socketPath: string; mac: string; transport: 'vhost' | 'stream'; queues: number }[];
}

/**
 *   stopped --start--> starting --QMP answers--> running <--> paused
 *   running --powerdown asked--> stopping --exit--> stopped
 *   any --QEMU gone without being asked--> crashed        any --QMP silent past its deadline--> unresponsive
 */
export type GuestState =
  'stopped' | 'starting' | 'running' | 'paused' | 'stopping' | 'crashed' | 'unresponsive';

export interface ObservedGuest {
  name: string;
  state: GuestState;
  /** In words: why it is not running, or what is wrong; null when there is nothing to say. */
  reason: string | null;
  /** How the last run ended: the guest powered off by itself, was asked to, was killed, or QEMU died. */
  ended: 'guest-poweroff' | 'stopped' | 'killed' | 'crashed' | null;
  pid: number | null;
  /** New with each boot of QEMU; the same across a restart of weftd and a reset. */
  bootId: string | null;
  startedAt_ms: number | null;
  accel: 'kvm' | 'tcg' | null;
  /** Why that accelerator was taken. */
  accelReason: string | null;
  /** The plan that it was booted with, for RestartRequired. */
  plan: BootPlan | null;
  /** QMP `query-status` in QEMU's word (`running`, `io-error`, …). */
  qemuStatus: string | null;
  /** Disk requests that failed and were reported to the guest since it was booted (as far as we saw them). */
  diskErrors: { count: number; last: string } | null;
  /**
   * How long QEMU takes each disk of the plan to be, in bytes; null for one by vhost-user, which has its size from the
   * plane. Empty until QEMU was asked.
   */
  diskSizes_bytes: readonly (number | null)[];
}

export interface GuestHost {
  /** Take over what an earlier weftd left running. Call once before anything else. */
  adopt(): Promise<void>;
  /** What is known now, of every guest prepared or started and not forgotten; never waits for a guest. */
  list(): readonly ObservedGuest[];
  /** Make the guest's run directory and settle its user; the same again is no change. Before sockets are put there. */
  prepare(name: string): Promise<void>;
  /** Start it. Resolves when QMP answers and the guest's CPUs run; rejects with a VmmError in words. */
  start(plan: BootPlan): Promise<void>;
  /**
   * Ask the guest to power off (ACPI), and wait at most so long; rejects with VMM_STOP_TIMEOUT, guest untouched.
   * A paused guest is resumed first, since it cannot hear. One that does not run is left as it is.
   */
  stop(name: string, timeout_ms: number): Promise<void>;
  /** End QEMU at once, as by pulling the plug. One that does not run is left as it is. */
  kill(name: string): Promise<void>;
  reset(name: string): Promise<void>;
  pause(name: string): Promise<void>;
  resume(name: string): Promise<void>;
  /** The volume under this NBD disk of the plan is so long now: QEMU is made to look, and its guest is told. */
  growDisk(name: string, index: number, size_bytes: number): Promise<void>;
  /** The guest's run directory is removed; refused while it runs. */
  forget(name: string): Promise<void>;
  /**
   * Which user owns this guest's QEMU (its disks' sockets are given to it); null: our own.
   * Throws VMM_UNKNOWN before `prepare`.
   */
  owner(name: string): { uid: number; gid: number } | null;
  /** Paths under the guest's run directory. */
  paths(name: string): { directory: string; serialSocket: string; serialLog: string; qemuLog: string };
  nicSocket(name: string, index: number): string;
  diskSocket(name: string, index: number): string;
  /**
   * The serial line, both ways. One at a time: rejects with VMM_CONSOLE_BUSY while another is open, with
   * VMM_NOT_RUNNING when there is none. Destroy it to hang up; it ends when QEMU does.
   */
  console(name: string): Promise<Duplex>;
  /** Called after anything in `list()` changed. Returns how to stop listening. */
  onChange(listener: (name: string) => void): () => void;
  /** Let go of all monitors without touching the guests. */
  detach(): Promise<void>;
}
