/**
 * A word that ends with the process: an abstract Unix address, of which there is one in a network namespace. Who
 * holds it is alive; others of the namespace can see that, whatever ends the holder. Needs no privilege and no file.
 */
import { readFileSync } from 'node:fs';
import { EADDRINUSE, EINVAL, HostError, check } from './errno.js';
import { close } from './raw.js';
import { AF_UNIX, SOCK_DGRAM, bindAddress, failClosing, socket } from './socket.js';

/** sun_path less the zero that makes it abstract. */
const NAME_MAX_BYTES = 107;

/** An fd that holds the claim while it is open, in the thread's network namespace. EADDRINUSE: somebody has it. */
export function claim(name: string): number {
  const text = Buffer.from(name);
  if (text.length < 1 || text.length > NAME_MAX_BYTES || !/^[\x21-\x7e]+$/.test(name))
    throw new HostError('bind', EINVAL, JSON.stringify(name), `1 to ${NAME_MAX_BYTES} printable characters`);
  const address = new Uint8Array(3 + text.length);
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(text, 3);
  const fd = check(socket(AF_UNIX, SOCK_DGRAM), 'socket', 'AF_UNIX');
  const result = bindAddress(fd, address);
  if (result < 0)
    failClosing(fd, 'bind', -result, `@${name}`, result === -EADDRINUSE ? 'somebody holds this claim' : '');
  return fd;
}

export function endClaim(fd: number): void {
  close(fd);
}

/** Names that are claimed in the thread's network namespace and begin so. proc(5), /proc/net/unix. */
export function claims(prefix: string): Set<string> {
  const found = new Set<string>();
  for (const line of readFileSync('/proc/thread-self/net/unix', 'latin1').split('\n')) {
    const at = line.indexOf(` @${prefix}`);
    if (at >= 0) found.add(line.slice(at + 2).trim());
  }
  return found;
}
