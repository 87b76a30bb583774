/** What can go wrong with pools and volumes; `code` is for machines and stays, the message is for people. */
export type StorageErrorCode =
  | 'POOL_IN_USE' // another process, or another pool name, has it open
  | 'POOL_NOT_A_POOL' // the directory holds other things
  | 'POOL_DAMAGED'
  | 'POOL_UNKNOWN'
  | 'POOL_IO'
  | 'VOLUME_NAME_INVALID'
  | 'VOLUME_UNKNOWN'
  | 'VOLUME_DAMAGED'
  | 'VOLUME_SHRINK'
  | 'VOLUME_TOO_LARGE'
  | 'VOLUME_EXPORTED'
  | 'VOLUME_NO_SPACE';

export class StorageError extends Error {
  readonly code: StorageErrorCode;

  constructor(code: StorageErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'StorageError';
    this.code = code;
  }
}
