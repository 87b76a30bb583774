/**
 * Counters: one row of 64-bit floats per link in a SharedArrayBuffer, written by the engine's thread alone and
 * read by the HTTP thread without asking. Whole numbers up to 2^53 are exact, and a 64-bit aligned store is
 * not torn on the machines we run on.
 *
 * The first names are the engine's and the ports'; who takes a link's frames (a switch) adds its own behind them.
 */

/** Names as in IF-MIB (RFC 2863) where it has one. README.md says what each means. */
export const LINK_COUNTERS = [
  'ifHCInOctets',
  'ifHCInUcastPkts',
  'ifHCInMulticastPkts',
  'ifHCInBroadcastPkts',
  'ifInErrors',
  'ifHCOutOctets',
  'ifHCOutUcastPkts',
  'ifHCOutMulticastPkts',
  'ifHCOutBroadcastPkts',
  'ifOutErrors',
  'gsoInFrames',
  'gsoOutFrames',
  'gsoSegmentedFrames',
  'gsoSegments',
  'checksumsCompleted',
  'dropBadLength',
  'dropNoBuffer',
  'dropNotUp',
  'dropQueueFull',
  'dropOffload',
  'dropFault',
  'faultsCorrupted',
  'faultsDuplicated',
  'opens',
  'disconnects',
  'peersRefused',
  'readCalls',
  'writeCalls',
  'dropTooBig',
  'dropLoop',
  'dropTunnelHeader',
  'dropTunnelSender',
  'stationsReplaced',
  'ringFaults',
  'messagesRefused',
] as const;
export type LinkCounter = (typeof LINK_COUNTERS)[number];

/** Index of each name in a row. */
export const C = Object.freeze(
  Object.fromEntries(LINK_COUNTERS.map((name, index) => [name, index])),
) as Readonly<Record<LinkCounter, number>>;

/** Where the names of who takes the frames begin. */
export const SINK_COUNTERS_AT = 48;
export const ROW_LENGTH = 160;

export function makeRow(): Float64Array<SharedArrayBuffer> {
  return new Float64Array(new SharedArrayBuffer(ROW_LENGTH * 8));
}

/** Of the engine itself, in a row of its own. */
export const ENGINE_COUNTERS = [
  'turns',
  'sleeps',
  'flushes',
  'commands',
  'buffers',
  'buffersUsed',
  'buffersExhausted',
  'links',
  'timersRun',
] as const;
export type EngineCounter = (typeof ENGINE_COUNTERS)[number];
export const E = Object.freeze(
  Object.fromEntries(ENGINE_COUNTERS.map((name, index) => [name, index])),
) as Readonly<Record<EngineCounter, number>>;
