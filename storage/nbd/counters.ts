/**
 * Counters that the data thread writes and the main thread reads without asking: one Float64Array on shared
 * memory for each export and one for the server. A name is an index; `status` spells them out.
 */
export const EXPORT_COUNTERS = [
  'connections', // now
  'connectionsTotal',
  'reads',
  'readBytes',
  'writes',
  'writtenBytes',
  'flushes',
  'trims',
  'zeroes',
  'caches',
  'blockStatuses',
  'errorReplies',
  'sentReads', // from the file to the socket, not copied by us
  'slowReads', // that had to wait for the disk
  'slowWrites',
  'fuaWrites',
  'stalls', // pauses because the client did not read, or had too much in flight
  'disconnects', // by NBD_CMD_DISC
  'abruptDisconnects', // by anything else
  'brokenReads', // ended because a file could not be read in the middle of a reply
  'badRequestMagic',
  'oversizedRequests',
  'idleDisconnects', // of clients that asked nothing for idleLimit_ms
  'guestQueues', // vhost-user: that run now
  'guestFaults', // queues that a driver filled with nonsense
  'guestRefused', // peers that broke the protocol
  'resubmitted', // requests that were under way when weft-storage or the connection ended
] as const;

export const SERVER_COUNTERS = [
  'connections', // now
  'connectionsTotal',
  'refusedConnections', // beyond CONNECTION_LIMIT
  'acceptErrors',
  'handshakeTimeouts',
  'aborted',
  'badClientFlags',
  'badOptionMagic',
  'oversizedOption',
  'tooManyOptions',
  'misplacedOptions', // NBD_OPT_EXPORT_NAME after extended headers were agreed
  'unknownExport',
  'fullExport', // beyond its connectionLimit
  'forbiddenExport', // asked for by a client that may not use it, which is told that there is none
  'handshakeHangups',
  'plaintextRefused', // sessions that asked for an export without TLS where it is required
  'tlsInjections', // bytes in plaintext directly behind NBD_OPT_STARTTLS
  'tlsHandshakes',
  'tlsFailures',
  'fullAddress', // refusedConnections of an address that has its share already
  'drainTimeouts',
  'turns',
  'budgetWaits',
  'bufferBytes', // mapped now
  'ioUring', // 1 when slow requests go through io_uring, 0 when they block the thread
  'ioUringRequests',
] as const;

export type ExportCounter = (typeof EXPORT_COUNTERS)[number];
export type ServerCounter = (typeof SERVER_COUNTERS)[number];

/** Name to index. */
export const AT_EXPORT = indexOf(EXPORT_COUNTERS);
export const AT_SERVER = indexOf(SERVER_COUNTERS);

function indexOf<N extends string>(names: readonly N[]): Readonly<Record<N, number>> {
  return Object.fromEntries(names.map((name, index) => [name, index])) as Record<N, number>;
}

export function newCounters(names: readonly string[]): Float64Array {
  return new Float64Array(new SharedArrayBuffer(names.length * Float64Array.BYTES_PER_ELEMENT));
}

export function spellCounters(names: readonly string[], counters: Float64Array): Record<string, number> {
  return Object.fromEntries(names.map((name, index) => [name, counters[index] ?? 0]));
}
