/** What can go wrong with exports and listeners; `code` is for machines and stays, the message is for people. */
export type NbdErrorCode =
  | 'NBD_LISTEN' // the address cannot be had now
  | 'NBD_THREAD_GONE';

export class NbdError extends Error {
  readonly code: NbdErrorCode;

  constructor(code: NbdErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'NbdError';
    this.code = code;
  }
}
