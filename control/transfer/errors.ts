/** Why nothing is imported or exported; the message says what to do. */
export type TransferErrorCode =
  | 'POOL_UNKNOWN'
  | 'POOL_ERROR'
  | 'VOLUME_UNKNOWN'
  | 'VOLUME_EXISTS'
  | 'VOLUME_TOO_SMALL'
  | 'VOLUME_IN_USE'
  | 'SNAPSHOT_FAILED'
  | 'TRANSFER_LIMIT'
  | 'TRANSFER_UNKNOWN';

export class TransferError extends Error {
  override readonly name = 'TransferError';
  readonly code: TransferErrorCode;
  constructor(code: TransferErrorCode, message: string) {
    super(message);
    this.code = code;
  }

  get status(): number {
    return this.code.endsWith('_UNKNOWN') ? 404 : 409;
  }
}
