/**
 * What an export tells its clients and asks of them, beside its blocks: plain values that go from the configuration to the
 * data thread, and the one question of who may see it.
 *
 * What cannot be checked admits nobody: an address range that is none, a client whose address is not known, one that has
 * proven no identity where there is a list of them. Who may use a Unix socket says its file.
 */
import { parseCidr, parseIp } from '../../host/ip.js';

export interface OfferRules {
  /** NBD_INFO_DESCRIPTION; '': none. */
  readonly description: string;
  /** NBD_INFO_BLOCK_SIZE minimum, a power of two. Requests that are not whole blocks of it are refused. */
  readonly minimumBlock_bytes: number;
  /** CIDR; null: any. Clients on Unix sockets always pass. */
  readonly addresses: readonly string[] | null;
  /** Common names of certificates, and identities of pre-shared keys; null: any. Clients on Unix sockets always pass. */
  readonly identities: readonly string[] | null;
  readonly connectionLimit: number;
  /** A client that neither asks nor reads for so long, with nothing in flight, is disconnected. */
  readonly idleLimit_ms: number;
  /** Clients are hung up on when the volume has grown: they dial again, and send again what was not answered. */
  readonly redialWhenGrown: boolean;
}

export const NO_RULES: OfferRules = {
  description: '',
  minimumBlock_bytes: 1,
  addresses: null,
  identities: null,
  connectionLimit: Infinity,
  idleLimit_ms: Infinity,
  redialWhenGrown: false,
};

/** Who a client is: 'local' on a Unix socket, else its address as text; null where that could not be had. */
export type Peer = string | null;
export const LOCAL_PEER = 'local';

/** `identity`: what it has proven by TLS; null: nothing. */
export function admits(rules: OfferRules, peer: Peer, identity: string | null = null): boolean {
  if (peer === LOCAL_PEER) return true;
  if (rules.identities !== null && (identity === null || !rules.identities.includes(identity))) return false;
  if (rules.addresses === null) return true;
  const address = peer === null ? undefined : parseIp(peer);
  return address !== undefined && rules.addresses.some(range => isWithin(plain(address), range));
}

function isWithin(address: Uint8Array, range: string): boolean {
  const cidr = parseCidr(range);
  if (cidr === undefined) return false;
  // A range of mapped addresses is one of IPv4, where it is that narrow.
  const mapped = cidr.address.length === 16 && cidr.prefix_bits >= 96 ? plain(cidr.address) : cidr.address;
  const bits = cidr.prefix_bits - 8 * (cidr.address.length - mapped.length);
  if (mapped.length !== address.length) return false;
  for (let bit = 0; bit < bits; bit += 8) {
    const mask = bits - bit >= 8 ? 0xff : 0xff & (0xff00 >> (bits - bit));
    if (((mapped[bit >> 3]! ^ address[bit >> 3]!) & mask) !== 0) return false;
  }
  return true;
}

/** The IPv4 address in ::ffff:a.b.c.d (RFC 4291, 2.5.5.2), others as they are. */
function plain(address: Uint8Array): Uint8Array {
  const mapped =
    address.length === 16 && address.subarray(0, 10).every(byte => byte === 0) && address[10] === 0xff;
  return mapped && address[11] === 0xff ? address.subarray(12) : address;
}
