/** What can go wrong with the durable desired state. The code is stable, the message says what to do. */

export type StoreErrorCode =
  /** Another process has it open. */
  | 'STORE_LOCKED'
  /** Its files are damaged, or hold what we never wrote. */
  | 'STORE_CORRUPT'
  /** Written by another version of weft, in a form that this one does not know. */
  | 'STORE_FORMAT'
  /** It cannot be opened or written: permissions, full disk, … */
  | 'STORE_IO';

export class StoreError extends Error {
  override readonly name = 'StoreError';
  readonly code: StoreErrorCode;
  constructor(code: StoreErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
