/**
 * A program of the lab: bytes through the kernel's own TCP and UDP, with checks at both ends.
 *
 *   node pour.js listen PORT                   serves both; prints {"bytes": n, "sha256": …} for each TCP connection
 *   node pour.js tcp ADDRESS PORT BYTES        pours so many random bytes; prints the same of what it sent
 *   node pour.js udp ADDRESS PORT COUNT SIZE   datagrams one after the other, each answered with itself; prints
 *                                              {"right": n, "wrong": n, "lost": n}
 */
import { createHash, randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer, isIPv6 } from 'node:net';

const CHUNK_BYTES = 256 * 1024;
/** An answer that is not there by then is lost: far beyond what any switch here takes. */
const ANSWER_MS = 2000;

const say = (what: object): void => {
  process.stdout.write(`${JSON.stringify(what)}\n`);
};

function listen(port: number): void {
  createServer(socket => {
    const hash = createHash('sha256');
    let bytes = 0;
    socket.on('data', chunk => {
      hash.update(chunk);
      bytes += chunk.length;
    });
    socket.on('error', error => say({ error: error.message }));
    socket.on('end', () => say({ bytes, sha256: hash.digest('hex') }));
  }).listen(port, '::', () => say({ listening: port }));
  const socket = createSocket('udp6');
  socket.on('message', (message, from) => socket.send(message, from.port, from.address));
  socket.bind(port);
}

async function pourTcp(address: string, port: number, bytes: number): Promise<void> {
  const socket = connect(port, address);
  await once(socket, 'connect');
  const hash = createHash('sha256');
  for (let left = bytes; left > 0; left -= CHUNK_BYTES) {
    const chunk = randomBytes(Math.min(left, CHUNK_BYTES));
    hash.update(chunk);
    if (!socket.write(chunk)) await once(socket, 'drain');
  }
  socket.end();
  await once(socket, 'close');
  say({ bytes, sha256: hash.digest('hex') });
}

async function pourUdp(address: string, port: number, count: number, size: number): Promise<void> {
  const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4');
  const seen = { right: 0, wrong: 0, lost: 0 };
  for (let i = 0; i < count; i++) {
    const message = randomBytes(size);
    const answer = once(socket, 'message', { signal: AbortSignal.timeout(ANSWER_MS) });
    socket.send(message, port, address);
    try {
      const [back] = (await answer) as [Buffer];
      seen[back.equals(message) ? 'right' : 'wrong']++;
    } catch {
      seen.lost++;
    }
  }
  socket.close();
  say(seen);
}

const [mode = '', ...args] = process.argv.slice(2);
if (mode === 'listen') listen(Number(args[0]));
else if (mode === 'tcp') await pourTcp(args[0] ?? '', Number(args[1]), Number(args[2]));
else if (mode === 'udp') await pourUdp(args[0] ?? '', Number(args[1]), Number(args[2]), Number(args[3]));
else throw new Error(`no mode ${mode}`);
