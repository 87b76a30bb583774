/**
 * A capture as an HTTP reply: reads the ring that the engine fills, and sends it as a pcapng file without end.
 * Memory is bounded by the ring and the socket's own buffer: a reader that is slower than the frames loses
 * frames, and the statistics block at the end says how many.
 */
import type { ServerResponse } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import type { ByteRing } from '../engine/byteRing.js';
import * as pcapng from '../wire/pcapng.js';

export const RING_BYTES = 4 * 1024 * 1024;
const CHUNK_BYTES = 256 * 1024;
/** How often the ring is looked at while it is empty. */
const LOOK_EVERY_MS = 20;
/** Captures at a time; each has a ring. */
export const CAPTURES_MAX_COUNT = 16;
export const SNAP_MAX_BYTES = 65_536 + 64;

function fileHead(ports: readonly string[], snap_bytes: number): Uint8Array {
  const names = ports.map(name => Buffer.from(name));
  const length = names.reduce(
    (sum, name) => sum + pcapng.interfaceDescriptionLength(name),
    pcapng.SECTION_HEADER_LENGTH,
  );
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  let at = pcapng.emitSectionHeader(view, 0);
  for (const name of names) at += pcapng.emitInterfaceDescription(view, at, name, snap_bytes);
  return bytes;
}

function fileEnd(lost: number): Uint8Array {
  const bytes = new Uint8Array(pcapng.INTERFACE_STATISTICS_LENGTH);
  pcapng.emitInterfaceStatistics(new DataView(bytes.buffer), 0, 0, Date.now() * 1000, lost);
  return bytes;
}

/** Resolves when the reader has gone or the capture is complete. */
export async function streamCapture(
  response: ServerResponse,
  ring: ByteRing,
  ports: readonly string[],
  snap_bytes: number,
): Promise<void> {
  let isGone = false;
  response.on('close', () => (isGone = true));
  response.writeHead(200, { 'content-type': 'application/x-pcapng' });
  response.write(fileHead(ports, snap_bytes));
  while (!isGone) {
    // Asked before the bytes are: what is written before the ring is closed is then seen.
    const isClosed = ring.isClosed;
    if (ring.available > 0) {
      if (!response.write(ring.read(CHUNK_BYTES))) await drained(response);
    } else if (isClosed) {
      break;
    } else {
      await pause(LOOK_EVERY_MS);
    }
  }
  if (!isGone) response.end(fileEnd(ring.lost));
}

async function drained(response: ServerResponse): Promise<void> {
  await new Promise<void>(resolve => {
    const done = (): void => {
      response.off('drain', done);
      response.off('close', done);
      resolve();
    };
    response.on('drain', done);
    response.on('close', done);
  });
}
