/**
 * Whether somebody listens at a Unix socket's path. A socket's file is there from bind() on, and whoever connects between
 * that and listen() is refused; to connect in order to see would be the one connection that some servers take.
 *
 * proc(5), /proc/net/unix: Num RefCount Protocol Flags Type St Inode Path; Flags has __SO_ACCEPTCON (1 << 16) after listen().
 */
import { readFileSync } from 'node:fs';

const ACCEPTS_CONNECTIONS = 0x1_0000;

export function isListening(path: string): boolean {
  return readFileSync('/proc/net/unix', 'utf8')
    .split('\n')
    .some(line => {
      const [, , , flags, , , , ...words] = line.trim().split(/\s+/);
      return words.join(' ') === path && (Number.parseInt(flags ?? '0', 16) & ACCEPTS_CONNECTIONS) !== 0;
    });
}
