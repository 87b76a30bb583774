/** What can go wrong with a job; `code` is for machines and stays, the message is for people. */
export type JobErrorCode =
  | 'JOB_UNKNOWN'
  | 'JOB_BUSY' // too many wait
  | 'JOB_CANCELLED'
  | 'JOB_STOPPED' // weft-storage ends; what can go on goes on when it is asked for again
  | 'JOB_THREAD_GONE' // the jobs thread ended; what can go on begins again
  | 'JOB_NOT_NOW' // what it needs is in use
  | 'JOB_SNAPSHOT'
  | 'JOB_SIZE' // source and target differ in size
  | 'JOB_IO' // a file could not be read or written
  | 'JOB_SYNC' // fdatasync failed: what was written may be lost, though it can be read
  | 'JOB_KEY' // it is encrypted by another key
  | 'JOB_DAMAGED' // what was read is not what was written
  | 'BACKUP_UNKNOWN'
  | 'BACKUP_DAMAGED'
  | 'BACKUP_PLACE'; // the directory is not there, or is no place for backups

export class JobError extends Error {
  readonly code: JobErrorCode;

  constructor(code: JobErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'JobError';
    this.code = code;
  }
}
