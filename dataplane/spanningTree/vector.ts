/**
 * Priority vectors and timer values (IEEE 802.1D-2004 17.5, 17.6, 17.18.4): which of two is the better, and how an
 * identifier is written for people. Lower is better throughout.
 */

/** The first four components of a vector; the fifth, the port it came in by, stands beside it where it counts. */
export interface Vector {
  rootHigh: number;
  rootLow: number;
  rootPathCost: number;
  bridgeHigh: number;
  bridgeLow: number;
  portId: number;
}

/** In whole seconds. */
export interface Times {
  messageAge_s: number;
  maxAge_s: number;
  helloTime_s: number;
  forwardDelay_s: number;
}

export function makeVector(): Vector {
  return { rootHigh: 0, rootLow: 0, rootPathCost: 0, bridgeHigh: 0, bridgeLow: 0, portId: 0 };
}

export function makeTimes(): Times {
  return { messageAge_s: 0, maxAge_s: 20, helloTime_s: 2, forwardDelay_s: 15 };
}

export function copyVector(to: Vector, from: Vector): void {
  to.rootHigh = from.rootHigh;
  to.rootLow = from.rootLow;
  to.rootPathCost = from.rootPathCost;
  to.bridgeHigh = from.bridgeHigh;
  to.bridgeLow = from.bridgeLow;
  to.portId = from.portId;
}

export function copyTimes(to: Times, from: Times): void {
  to.messageAge_s = from.messageAge_s;
  to.maxAge_s = from.maxAge_s;
  to.helloTime_s = from.helloTime_s;
  to.forwardDelay_s = from.forwardDelay_s;
}

export function sameTimes(a: Times, b: Times): boolean {
  return (
    a.messageAge_s === b.messageAge_s &&
    a.maxAge_s === b.maxAge_s &&
    a.helloTime_s === b.helloTime_s &&
    a.forwardDelay_s === b.forwardDelay_s
  );
}

/** Negative: a is better; zero: the same in all four components. */
export function compare(a: Vector, b: Vector): number {
  return (
    a.rootHigh - b.rootHigh ||
    a.rootLow - b.rootLow ||
    a.rootPathCost - b.rootPathCost ||
    a.bridgeHigh - b.bridgeHigh ||
    a.bridgeLow - b.bridgeLow ||
    a.portId - b.portId
  );
}

/**
 * 17.6: a message replaces what a port holds when it is better, or comes from the same designated bridge and port
 * (their priorities may have changed: only address and port number are compared).
 */
export function isSuperior(message: Vector, held: Vector): boolean {
  const order = compare(message, held);
  if (order < 0) return true;
  return (
    order !== 0 &&
    (message.bridgeHigh & 0xffff) === (held.bridgeHigh & 0xffff) &&
    message.bridgeLow === held.bridgeLow &&
    (message.portId & 0x0fff) === (held.portId & 0x0fff)
  );
}

const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');

/** `32768.02:00:5e:00:00:01`: priority and address. */
export function formatBridgeId(high: number, low: number): string {
  const address = (hex(high & 0xffff, 4) + hex(low, 8)).replace(/..(?=.)/g, '$&:');
  return `${high >>> 16}.${address}`;
}

/** `128.7`: priority and number (9.2.7: four bits and twelve). */
export function formatPortId(id: number): string {
  return `${(id >>> 8) & 0xf0}.${id & 0x0fff}`;
}
