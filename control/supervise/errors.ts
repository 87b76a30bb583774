/** What can go wrong between weftd and a plane. The code is stable, the message names the plane. */

export type PlaneErrorCode =
  /** Nobody serves its socket. */
  | 'PLANE_UNREACHABLE'
  /** It did not answer in time. */
  | 'PLANE_TIMEOUT'
  /** It answered what the contract does not allow. */
  | 'PLANE_REPLY'
  /** It answered with an ErrorReply; `status` and `planeCode` are its own. */
  | 'PLANE_REFUSED'
  /** It is being started, or keeps dying. */
  | 'PLANE_DOWN';

export class PlaneError extends Error {
  override readonly name = 'PlaneError';
  readonly code: PlaneErrorCode;
  readonly status: number | undefined;
  readonly planeCode: string | undefined;
  constructor(
    code: PlaneErrorCode,
    message: string,
    options: ErrorOptions & { status?: number; planeCode?: string } = {},
  ) {
    super(message, options);
    this.code = code;
    this.status = options.status;
    this.planeCode = options.planeCode;
  }
}
