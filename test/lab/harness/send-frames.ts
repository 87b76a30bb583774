/**
 * A program of the lab: sends frames out of an interface of the network namespace that it runs in.
 *
 *   node send-frames.js IFNAME               each line of stdin, a frame in hexadecimal, once and in order
 *   node send-frames.js IFNAME --rate PPS    the same, no faster than so many in a second
 *   node send-frames.js IFNAME --for SECONDS the frames over and over, as fast as the kernel takes them
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

const [ifname = '', option, value] = process.argv.slice(2);
const frames = readFileSync(0, 'latin1')
  .split('\n')
  .filter(line => line !== '')
  .map(line => Buffer.from(line, 'hex'));
const counts = { accepted: 0, refused: 0, seconds: 0 };
const startedAt_ms = performance.now();

function count(result: number): void {
  if (result > 0) counts.accepted += result;
  else if (result === -ENOBUFS) counts.refused += 1;
  else throw new HostError('send', -result, ifname);
}

// As an application's frames go: through the hooks and the queueing discipline of the interface.
const fd = openPacketSocket({ ifname, receive: false });
if (option !== '--for') {
  const rate_pps = option === '--rate' ? Number(value) : Infinity;
  const memory = mapAnonymous(MAX_FRAME_BYTES);
  for (const [i, frame] of frames.entries()) {
    while ((performance.now() - startedAt_ms) * rate_pps < i * 1000);
    memory.bytes.set(frame);
    count(Math.min(send(fd, memory.address, frame.length, 0), 1));
  }
} else {
  const memory = mapAnonymous(frames.reduce((sum, frame) => sum + frame.length, 0));
  const addresses = new Float64Array(frames.length);
  let end = 0;
  for (const [i, frame] of frames.entries()) {
    addresses[i] = memory.address + end;
    memory.bytes.set(frame, end);
    end += frame.length;
  }
  const messages = new MessageVector(BURST);
  const lay = (i: number, number: number): void =>
    messages.set(i, addresses[number]!, frames[number]!.length);
  for (let i = 0; i < BURST; i++) lay(i, i % frames.length);
  let next = BURST % frames.length;
  const until_ms = startedAt_ms + Number(value) * 1000;
  while (performance.now() < until_ms) {
    count(sendmmsg(fd, messages.address, BURST, 0));
    if (frames.length === 1) continue;
    for (let i = 0; i < BURST; i++) {
      lay(i, next);
      if (++next === frames.length) next = 0;
    }
  }
}
close(fd);
counts.seconds = (performance.now() - startedAt_ms) / 1000;
process.stdout.write(`${JSON.stringify(counts)}\n`);
