/** What can go wrong at the guests' edge. The code is stable, the message is for people and says what to do. */

export type VmmErrorCode =
  /** No guest of this name has been prepared or started. */
  | 'VMM_UNKNOWN'
  /** It runs already (start), or still (forget). */
  | 'VMM_RUNNING'
  /** It does not run, so it cannot be asked for this. */
  | 'VMM_NOT_RUNNING'
  /** Another verb on the same guest has not ended yet. */
  | 'VMM_BUSY'
  /** The plan cannot be booted: a file is missing, a path is too long, … */
  | 'VMM_BAD_PLAN'
  /** There is no usable QEMU on this machine. */
  | 'VMM_NO_QEMU'
  /** The accelerator that was asked for does not work here. */
  | 'VMM_ACCEL'
  /** QEMU did not come up; the message holds its last words. */
  | 'VMM_START_FAILED'
  /** The guest did not react to the power button in time; it still runs. */
  | 'VMM_STOP_TIMEOUT'
  /** QEMU does not answer on its monitor. */
  | 'VMM_UNRESPONSIVE'
  /** QEMU answered with an error. */
  | 'VMM_QMP'
  /** QEMU could not be ended, even by SIGKILL. */
  | 'VMM_KILL_FAILED'
  /** Somebody is on the serial console already. */
  | 'VMM_CONSOLE_BUSY'
  /** The run directory cannot be made or is not ours. */
  | 'VMM_DIRECTORY'
  /** The edge has been detached. */
  | 'VMM_DETACHED';

export class VmmError extends Error {
  override readonly name = 'VmmError';
  readonly code: VmmErrorCode;
  constructor(code: VmmErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
