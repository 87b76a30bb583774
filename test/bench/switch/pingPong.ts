/**
 * A program of the benchmark: one datagram there and back, again and again, each after the answer to the last.
 *
 *   node pingPong.js answer OWN OTHER            until it is ended
 *   node pingPong.js ask OWN OTHER SECONDS       prints {"p50_us", "p99_us", "count", "lost"}
 *
 * Both block in the kernel, without an event loop between them and the socket.
 */
import { EAGAIN, HostError, check } from '../../../host/errno.js';
import { parseIp } from '../../../host/ip.js';
import { mapAnonymous } from '../../../host/memory.js';
import { recv, send } from '../../../host/raw.js';
import {
  AF_INET,
  SOCK_DGRAM,
  SOL_SOCKET,
  SO_RCVTIMEO,
  bindAddress,
  connectAddress,
  setOptionBytes,
  socket,
} from '../../../host/socket.js';

const PORT = 4007;
const DATAGRAM_BYTES = 64;
const SETTLING_COUNT = 100;

const [role, own = '', other = '', seconds = '1'] = process.argv.slice(2);

function addressOf(host: string): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, AF_INET, true);
  view.setUint16(2, PORT);
  bytes.set(parseIp(host) ?? [], 4);
  return bytes;
}

const memory = mapAnonymous(4096);
const fd = check(socket(AF_INET, SOCK_DGRAM, 0, true), 'socket', 'UDP');
check(bindAddress(fd, addressOf(own)), 'bind', own);
check(connectAddress(fd, addressOf(other)), 'connect', other);

if (role === 'answer') {
  for (;;) {
    const length = recv(fd, memory.address, 2048, 0);
    if (length > 0) send(fd, memory.address, length, 0);
  }
}

const timeout = new Uint8Array(16);
timeout[0] = 1;
check(setOptionBytes(fd, SOL_SOCKET, SO_RCVTIMEO, timeout), 'setsockopt', 'SO_RCVTIMEO');
const times_us: number[] = [];
let lost = 0;
const until_ms = performance.now() + Number(seconds) * 1000;
for (let i = -SETTLING_COUNT; performance.now() < until_ms; i++) {
  const sentAt_ms = performance.now();
  send(fd, memory.address, DATAGRAM_BYTES, 0);
  const result = recv(fd, memory.address, 2048, 0);
  if (result === -EAGAIN) lost++;
  else if (result < 0) throw new HostError('recv', -result, other, 'does nobody answer there?');
  else if (i >= 0) times_us.push((performance.now() - sentAt_ms) * 1000);
}
times_us.sort((a, b) => a - b);
const at = (part: number): number => times_us[Math.floor(times_us.length * part)] ?? 0;
const told = { p50_us: at(0.5), p99_us: at(0.99), count: times_us.length, lost };
process.stdout.write(`${JSON.stringify(told)}\n`);
