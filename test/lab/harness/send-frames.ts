/**
 * A program of the lab: sends frames out of an interface of the network namespace that it runs in.
 *
 *   node send-frames.js IFNAME               each line of stdin, a frame in hexadecimal, once and in order
 *   node send-frames.js IFNAME --for SECONDS the first line's frame over and over, as fast as the kernel takes it
 *
 * Prints {"accepted": frames, "refused": frames, "seconds": s} at the end. `refused` counts those for which
 * the interface had no room. Ends with 1 when a frame was refused for any other reason.
 */
import { readFileSync } from 'node:fs';
import { ENOBUFS, HostError } from '../../../host/errno.js';
import { MessageVector } from '../../../host/iovec.js';
import { mapAnonymous } from '../../../host/memory.js';
import { openPacketSocket } from '../../../host/packet.js';
import { close, send, sendmmsg } from '../../../host/raw.js';

const BURST = 64;
const MAX_FRAME_BYTES = 65_536;

const [ifname = '', forOption, seconds] = process.argv.slice(2);
const frames = readFileSync(0, 'latin1')
  .split('\n')
  .filter(line => line !== '')
  .map(line => Buffer.from(line, 'hex'));
const memory = mapAnonymous(MAX_FRAME_BYTES);
const counts = { accepted: 0, refused: 0, seconds: 0 };
const startedAt_ms = performance.now();

function count(result: number): void {
  if (result > 0) counts.accepted += result;
  else if (result === -ENOBUFS) counts.refused += 1;
  else throw new HostError('send', -result, ifname);
}

if (forOption === undefined) {
  const fd = openPacketSocket({ ifname, receive: false });
  for (const frame of frames) {
    memory.bytes.set(frame);
    count(Math.min(send(fd, memory.address, frame.length, 0), 1));
  }
  close(fd);
} else {
  const fd = openPacketSocket({ ifname, receive: false, qdiscBypass: true });
  const frame = frames[0] ?? new Uint8Array();
  memory.bytes.set(frame);
  const messages = new MessageVector(BURST);
  for (let i = 0; i < BURST; i++) messages.set(i, memory.address, frame.length);
  const until_ms = startedAt_ms + Number(seconds) * 1000;
  while (performance.now() < until_ms) count(sendmmsg(fd, messages.address, BURST, 0));
  close(fd);
}
counts.seconds = (performance.now() - startedAt_ms) / 1000;
process.stdout.write(`${JSON.stringify(counts)}\n`);
