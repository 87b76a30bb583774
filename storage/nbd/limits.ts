/**
 * Every bound on what a client may make us hold, in one place, and what they add up to.
 *
 *   an idle connection holds        its objects, about 5 KiB, with TLS 26 KiB; no buffer
 *   a busy one holds at most        1 large chunk of input (while a request is incomplete)
 *                                 + 2 large chunks of output (while the client does not read)
 *                                 + 1 large chunk in flight, and beyond that what the common budget gives
 *
 * With TLS, 65 KiB of records that the socket did not take come to that.
 *
 *   memory <= base + connections x 4 x LARGE_CHUNK_BYTES + IN_FLIGHT_BUDGET_BYTES
 *
 * where base is about 60 MB for the process. For 1,000 connections that is 1.05 GB + 0.25 GB, if every client at
 * once sends half a request and reads none of its replies; clients that behave touch far less, since chunks are
 * mapped lazily and given back when their bytes have gone.
 *
 * The budget is for requests that wait for the disk, and for their replies until they are sent. A request that
 * finds it used up waits, its connection is not read meanwhile, and `budgetWaits` counts. A request of
 * up to PIECE_BYTES whose connection has nothing in flight passes without asking, so that no client is starved by
 * others.
 */

const KiB = 1024;
const MiB = 1024 * KiB;

/** Advertised as NBD_INFO_BLOCK_SIZE. Any offset and length is served; whole blocks of 4096 are served best. */
export const MINIMUM_BLOCK_BYTES = 1;
export const PREFERRED_BLOCK_BYTES = 4096;
/** The longest read or write: the protocol's customary limit. Trims and zeroes carry no payload and may be longer. */
export const MAXIMUM_PAYLOAD_BYTES = 32 * MiB;
/** A write up to here is read past and refused; a longer one ends the connection. */
export const SKIPPED_PAYLOAD_LIMIT_BYTES = 2 * MAXIMUM_PAYLOAD_BYTES;

/** A write up to this length is applied in one piece, and a read is kept in one; longer ones go in several. */
export const PIECE_BYTES = 256 * KiB;
/** Reads from here on are sent from the file where that is possible; shorter ones are cheaper copied. */
export const SEND_FILE_BYTES = 64 * KiB;
/** One piece with its header in front, and the next header behind. */
export const LARGE_CHUNK_BYTES = PIECE_BYTES + 4 * KiB;
/** One block with its header. */
export const SMALL_CHUNK_BYTES = 4 * KiB + 64;

/** Requests of one connection that wait for the disk. More are not read from its socket. */
export const IN_FLIGHT_REQUESTS_LIMIT = 128;
/** The same in bytes of payload; one request may go beyond (so up to MAXIMUM_PAYLOAD_BYTES more). */
export const IN_FLIGHT_LIMIT_BYTES = 8 * MiB;
/** Of all connections together. */
export const IN_FLIGHT_BUDGET_BYTES = 256 * MiB;

/** Of all exports together; fewer where the process may not have so many descriptors: see DESCRIPTORS_FOR_CLIENTS. */
export const CONNECTION_LIMIT = 16_384;
/** Clients of one network address. Those on Unix sockets, which are ours, are not counted by it. */
export const ADDRESS_CONNECTION_LIMIT = (CONNECTION_LIMIT * 3) / 4;
/** Of RLIMIT_NOFILE (which node raises to its hard limit): the rest is for layers, maps and ourselves. */
export const DESCRIPTORS_FOR_CLIENTS = 3 / 4;
/** From accept to the end of the handshake. */
export const HANDSHAKE_LIMIT_MS = 10_000;
/** For what is in flight when an export is withdrawn or the server stops. */
export const DRAIN_LIMIT_MS = 5_000;
/** For a client that has ended its side to read what is still for it. */
export const LINGER_LIMIT_MS = 60_000;

/** Extents of one context in an answer to NBD_CMD_BLOCK_STATUS. */
export const EXTENTS_LIMIT = 512;
/** A volume is asked for the extents of so much at once, and in the same answer for more only where nothing is written. */
export const STATUS_STEP_BYTES = 4096 * MiB;
export const STATUS_STEPS_LIMIT = 256;
/** Of a trim, or zeroes, so much is done in one turn; a volume goes over the states of its blocks. */
export const SLICE_BYTES = 64 * MiB;
