/** Who is at the other end of a socket, as rules.ts asks for it. */
import { HostError } from '../../host/errno.js';
import { peerEndpoint } from '../../host/inet.js';
import { LOCAL_PEER, type Peer } from './rules.js';

/** Of a socket that was accepted. */
export function peerOf(fd: number, tcp: boolean): Peer {
  try {
    return tcp ? peerEndpoint(fd).host : LOCAL_PEER;
  } catch (error) {
    if (!(error instanceof HostError)) throw error;
    return null; // gone already
  }
}
