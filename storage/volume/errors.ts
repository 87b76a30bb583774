/** What can go wrong with pools and volumes; `code` is for machines and stays, the message is for people. */
export type StorageErrorCode =
  | 'REMOTE_UNREACHABLE' // another NBD server does not answer; trying again may help
  | 'REMOTE_REFUSED' // it, or we, said no: name, TLS, rules
  | 'REMOTE_IO' // it answered a request with an error
  | 'REMOTE_GONE' // the connection ended
  | 'POOL_IN_USE' // another process, or another pool name, has it open
  | 'POOL_NOT_A_POOL' // the directory holds other things
  | 'POOL_DAMAGED'
  | 'POOL_UNKNOWN'
  | 'POOL_KIND' // that cannot be done with a device or another server
  | 'POOL_IO'
  | 'VOLUME_NAME_INVALID'
  | 'VOLUME_UNKNOWN'
  | 'VOLUME_DAMAGED'
  | 'VOLUME_SHRINK'
  | 'VOLUME_TOO_LARGE'
  | 'VOLUME_EXPORTED'
  | 'VOLUME_NO_SPACE'
  | 'VOLUME_EXISTS'
  | 'VOLUME_DIFFERS' // it was made otherwise, and that cannot be changed
  | 'VOLUME_HAS_SNAPSHOTS'
  | 'VOLUME_KEY' // the key file is missing, unfit, or another volume's
  | 'LEASE_EXISTS'
  | 'LEASE_UNKNOWN'
  | 'LEASE_FAILED'
  | 'SNAPSHOT_UNKNOWN'
  | 'SNAPSHOT_EXISTS'
  | 'SNAPSHOT_NAME_INVALID'
  | 'SNAPSHOT_FAILED';

export class StorageError extends Error {
  readonly code: StorageErrorCode;

  constructor(code: StorageErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'StorageError';
    this.code = code;
  }
}
