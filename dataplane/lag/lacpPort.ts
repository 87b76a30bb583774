/**
 * One port as LACP knows it (IEEE 802.1AX-2014 6.4.6 to 6.4.8): what the machines of this room read and write.
 * Begin with group.ts, which turns them; each machine is a file: receive, periodic, selection, mux, transmit, churn.
 *
 * A machine is a function `step(port, now_ms)` that makes at most one transition and says whether it made one.
 * A timer is the time at which it expires, Infinity while it is stopped.
 */
import { AGGREGATION, DEFAULTED, LACP_ACTIVITY, LACP_TIMEOUT, blankInfo } from '../wire/lacp.js';
import type { Info } from '../wire/lacp.js';

// Specification constants: 6.4.4.
export const FAST_PERIODIC_TIME_MS = 1000;
export const SLOW_PERIODIC_TIME_MS = 30_000;
export const SHORT_TIMEOUT_TIME_MS = 3 * FAST_PERIODIC_TIME_MS;
export const LONG_TIMEOUT_TIME_MS = 3 * SLOW_PERIODIC_TIME_MS;
export const CHURN_DETECTION_TIME_MS = 60_000;
export const AGGREGATE_WAIT_TIME_MS = 2000;

/** 6.4.8 Selected. */
export type Selected = 'UNSELECTED' | 'SELECTED' | 'STANDBY';
export type ReceiveState = 'PORT_DISABLED' | 'EXPIRED' | 'DEFAULTED' | 'CURRENT';
export type PeriodicState = 'NO_PERIODIC' | 'FAST_PERIODIC' | 'SLOW_PERIODIC' | 'PERIODIC_TX';
/** COLLECTING_DISTRIBUTING belongs to the coupled machine, COLLECTING and DISTRIBUTING to the independent one. */
export type MuxState =
  'DETACHED' | 'WAITING' | 'ATTACHED' | 'COLLECTING' | 'DISTRIBUTING' | 'COLLECTING_DISTRIBUTING';
export type ChurnState = 'NO_CHURN' | 'CHURN_MONITOR' | 'CHURN';

export interface LacpPort {
  readonly name: string;
  /** Actor_Oper_*: also the configuration, of which the state machines change bits of `state` alone. */
  readonly actor: Info;
  /** Partner_Oper_*. */
  readonly partner: Info;
  /** Partner_Admin_*: what is believed of a partner that is not heard. */
  readonly partnerAdmin: Info;
  portEnabled: boolean;
  /** Since when, for the up delay. */
  enabledAt_ms: number;
  selected: Selected;
  readyN: boolean;
  /** Of the aggregator, written here by the selection logic. */
  ready: boolean;
  ntt: boolean;
  receive: ReceiveState;
  periodic: PeriodicState;
  mux: MuxState;
  actorChurn: ChurnState;
  partnerChurn: ChurnState;
  currentWhile_ms: number;
  periodic_ms: number;
  waitWhile_ms: number;
  actorChurn_ms: number;
  partnerChurn_ms: number;
  /** When the last LACPDUs went, the oldest first: 6.4.16 allows three in a Fast_Periodic_Time. */
  readonly sentAt_ms: number[];
  /** The last LACPDU on it was of this very system: the cable leads back to us. Until then, -Infinity. */
  loopedAt_ms: number;
  /** Coupled is a word of the aggregate's, and stands here since the mux machine looks at one port alone. */
  isCoupled: boolean;
}

/** As after BEGIN: the receive machine's INITIALIZE has been passed. */
export function makePort(name: string): LacpPort {
  const port: LacpPort = {
    name,
    actor: blankInfo(),
    partner: blankInfo(),
    partnerAdmin: blankInfo(),
    portEnabled: false,
    enabledAt_ms: 0,
    selected: 'UNSELECTED',
    readyN: false,
    ready: false,
    ntt: false,
    receive: 'PORT_DISABLED',
    periodic: 'NO_PERIODIC',
    mux: 'DETACHED',
    actorChurn: 'CHURN_MONITOR',
    partnerChurn: 'CHURN_MONITOR',
    currentWhile_ms: Infinity,
    periodic_ms: Infinity,
    waitWhile_ms: Infinity,
    actorChurn_ms: Infinity,
    partnerChurn_ms: Infinity,
    sentAt_ms: [],
    loopedAt_ms: -Infinity,
    isCoupled: false,
  };
  port.actor.state = AGGREGATION | DEFAULTED | LACP_ACTIVITY | LACP_TIMEOUT;
  // Who is not heard is asked every second: a peer that comes is found at once, though slow was agreed before.
  port.partnerAdmin.state = LACP_TIMEOUT;
  port.partner.state = LACP_TIMEOUT;
  return port;
}

export function has(info: Info, bit: number): boolean {
  return (info.state & bit) !== 0;
}

export function put(info: Info, bit: number, value: boolean): void {
  info.state = value ? info.state | bit : info.state & ~bit;
}

/** Same port of the same system: everything but the state. */
export function samePort(a: Info, b: Info): boolean {
  return (
    a.port === b.port &&
    a.portPriority === b.portPriority &&
    a.systemLow32 === b.systemLow32 &&
    a.systemHigh16 === b.systemHigh16 &&
    a.systemPriority === b.systemPriority &&
    a.key === b.key
  );
}

/** 6.3.2: the system identifier is the priority and then the address; the lower is the better. */
export function isBetterSystem(a: Info, b: Info): boolean {
  if (a.systemPriority !== b.systemPriority) return a.systemPriority < b.systemPriority;
  if (a.systemHigh16 !== b.systemHigh16) return a.systemHigh16 < b.systemHigh16;
  return a.systemLow32 < b.systemLow32;
}
