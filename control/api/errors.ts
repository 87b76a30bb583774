/** What the API answers when it cannot do as asked, and how errors of the edges are told to clients. */
import { StoreError } from '../store/errors.js';
import { RevisionConflict } from '../store/keeper.js';
import { PlaneError } from '../supervise/errors.js';
import { VmmError } from '../vmm/errors.js';
import type { VmmErrorCode } from '../vmm/errors.js';
import { ImageError } from '../image/errors.js';
import { MachineError } from '../reconcile/verbs.js';
import { TransferError } from '../transfer/errors.js';
import type { ErrorReply, Problem } from './contract.js';

export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly status: number;
  readonly code: string;
  readonly problems: Problem[] | undefined;
  constructor(status: number, code: string, message: string, problems?: Problem[]) {
    super(message);
    this.status = status;
    this.code = code;
    this.problems = problems;
  }
}

const VMM_STATUS: Readonly<Partial<Record<VmmErrorCode, number>>> = {
  VMM_UNKNOWN: 409,
  VMM_RUNNING: 409,
  VMM_NOT_RUNNING: 409,
  VMM_BUSY: 409,
  VMM_BAD_PLAN: 409,
  VMM_NO_QEMU: 409,
  VMM_ACCEL: 409,
  VMM_STOP_TIMEOUT: 504,
  VMM_UNRESPONSIVE: 504,
  VMM_CONSOLE_BUSY: 409,
};

const PLANE_STATUS: Readonly<Record<string, number>> = {
  PLANE_UNREACHABLE: 503,
  PLANE_DOWN: 503,
  PLANE_TIMEOUT: 504,
  PLANE_REPLY: 502,
};

/** Null: one of our own mistakes, whose words and stack are for the log only. */
export function told(error: unknown): { status: number; reply: ErrorReply } | null {
  const as = (status: number, code: string, message: string) => ({
    status,
    reply: { error: { code, message } },
  });
  if (error instanceof ApiError) {
    const { status, code, message, problems } = error;
    return {
      status,
      reply: { error: { code, message, ...(problems === undefined ? {} : { problems }) } },
    };
  }
  if (error instanceof VmmError) return as(VMM_STATUS[error.code] ?? 500, error.code, error.message);
  if (error instanceof MachineError) {
    const status = { MACHINE_UNKNOWN: 404, MACHINE_START_FAILED: 500, MACHINE_TIMEOUT: 504 }[error.code];
    return as(status, error.code, error.message);
  }
  if (error instanceof ImageError)
    return as(error.code === 'IMAGE_NOT_READY' ? 409 : 500, error.code, error.message);
  if (error instanceof PlaneError) {
    // A plane's own refusal of what the client asked is the client's business.
    const refused = error.status !== undefined && error.status < 500 ? error.status : 502;
    return as(PLANE_STATUS[error.code] ?? refused, error.planeCode ?? error.code, error.message);
  }
  if (error instanceof TransferError) return as(error.status, error.code, error.message);
  if (error instanceof RevisionConflict) return as(409, error.code, error.message);
  if (error instanceof StoreError) return as(500, error.code, error.message);
  return null;
}
