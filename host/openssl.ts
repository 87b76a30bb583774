/**
 * What tls.ts calls of the OpenSSL (3) that node itself carries, looked up in the running process. Signatures are those of its
 * manual pages; every pointer is an address. Absent in a node that hides its symbols: `openssl()` then throws in words.
 *
 * Strings from a peer or a file are never passed as `str`, which ends at the first zero byte: they go as address and length.
 */
import { bind } from './libc.js';

type N = number;
const P = 'uintptr_t';

function bound() {
  return {
    clearErrors: bind<() => void>('ERR_clear_error', 'void', []),
    lastError: bind<() => N>('ERR_peek_last_error', 'intptr_t', []),
    reasonText: bind<(code: N) => string | null>('ERR_reason_error_string', 'str', ['ulong']),
    verifyText: bind<(code: N) => string | null>('X509_verify_cert_error_string', 'str', ['ulong']),
    serverMethod: bind<() => N>('TLS_server_method', 'intptr_t', []),
    clientMethod: bind<() => N>('TLS_client_method', 'intptr_t', []),

    newContext: bind<(method: N) => N>('SSL_CTX_new', 'intptr_t', [P]),
    freeContext: bind<(ctx: N) => void>('SSL_CTX_free', 'void', [P]),
    controlContext: bind<(ctx: N, command: N, number: N, pointer: N) => N>('SSL_CTX_ctrl', 'intptr_t', [
      P,
      'int',
      'intptr_t',
      P,
    ]),
    setOptions: bind<(ctx: N, options: N) => N>('SSL_CTX_set_options', 'intptr_t', [P, 'uint64_t']),
    setTickets: bind<(ctx: N, count: N) => N>('SSL_CTX_set_num_tickets', 'int', [P, 'size_t']),
    setCiphers: bind<(ctx: N, list: string) => N>('SSL_CTX_set_cipher_list', 'int', [P, 'str']),
    setSuites: bind<(ctx: N, list: string) => N>('SSL_CTX_set_ciphersuites', 'int', [P, 'str']),
    setReadBuffer: bind<(ctx: N, length: N) => void>('SSL_CTX_set_default_read_buffer_len', 'void', [
      P,
      'size_t',
    ]),
    setVerify: bind<(ctx: N, mode: N, callback: N) => void>('SSL_CTX_set_verify', 'void', [P, 'int', P]),
    setPskServer: bind<(ctx: N, callback: N) => void>('SSL_CTX_set_psk_server_callback', 'void', [P, P]),
    setPskClient: bind<(ctx: N, callback: N) => void>('SSL_CTX_set_psk_client_callback', 'void', [P, P]),
    useCertificate: bind<(ctx: N, x509: N) => N>('SSL_CTX_use_certificate', 'int', [P, P]),
    usePrivateKey: bind<(ctx: N, key: N) => N>('SSL_CTX_use_PrivateKey', 'int', [P, P]),
    checkPrivateKey: bind<(ctx: N) => N>('SSL_CTX_check_private_key', 'int', [P]),
    store: bind<(ctx: N) => N>('SSL_CTX_get_cert_store', 'intptr_t', [P]),
    addToStore: bind<(store: N, x509: N) => N>('X509_STORE_add_cert', 'int', [P, P]),
    addClientAuthority: bind<(ctx: N, x509: N) => N>('SSL_CTX_add_client_CA', 'int', [P, P]),

    memoryBio: bind<(at: N, length: N) => N>('BIO_new_mem_buf', 'intptr_t', [P, 'int']),
    freeBio: bind<(bio: N) => N>('BIO_free', 'int', [P]),
    holdBio: bind<(bio: N) => N>('BIO_up_ref', 'int', [P]),
    newPair: bind<(one: N, oneRoom: N, other: N, otherRoom: N) => N>('BIO_new_bio_pair', 'int', [
      P,
      'size_t',
      P,
      'size_t',
    ]),
    peek: bind<(bio: N, to: N) => N>('BIO_nread0', 'int', [P, P]),
    skip: bind<(bio: N, to: N, length: N) => N>('BIO_nread', 'int', [P, P, 'int']),
    writeBio: bind<(bio: N, at: N, length: N) => N>('BIO_write', 'int', [P, P, 'int']),
    readFromBio: bind<(bio: N, to: N, length: N) => N>('BIO_read', 'int', [P, P, 'int']),
    pending: bind<(bio: N) => N>('BIO_ctrl_pending', 'intptr_t', [P]),
    readX509: bind<(bio: N, to: N, callback: N, user: N) => N>('PEM_read_bio_X509', 'intptr_t', [P, P, P, P]),
    readKey: bind<(bio: N, to: N, callback: N, user: N) => N>('PEM_read_bio_PrivateKey', 'intptr_t', [
      P,
      P,
      P,
      P,
    ]),
    freeX509: bind<(x509: N) => void>('X509_free', 'void', [P]),
    freeKey: bind<(key: N) => void>('EVP_PKEY_free', 'void', [P]),

    newSession: bind<(ctx: N) => N>('SSL_new', 'intptr_t', [P]),
    freeSession: bind<(ssl: N) => void>('SSL_free', 'void', [P]),
    controlSession: bind<(ssl: N, command: N, number: N, text: string) => N>('SSL_ctrl', 'intptr_t', [
      P,
      'int',
      'intptr_t',
      'str',
    ]),
    setFd: bind<(ssl: N, fd: N) => N>('SSL_set_fd', 'int', [P, 'int']),
    setBio: bind<(ssl: N, read: N, write: N) => void>('SSL_set_bio', 'void', [P, P, P]),
    readBio: bind<(ssl: N) => N>('SSL_get_rbio', 'intptr_t', [P]),
    setWriteBio: bind<(ssl: N, bio: N) => void>('SSL_set0_wbio', 'void', [P, P]),
    accepting: bind<(ssl: N) => void>('SSL_set_accept_state', 'void', [P]),
    connecting: bind<(ssl: N) => void>('SSL_set_connect_state', 'void', [P]),
    expectName: bind<(ssl: N, name: string) => N>('SSL_set1_host', 'int', [P, 'str']),
    parameters: bind<(ssl: N) => N>('SSL_get0_param', 'intptr_t', [P]),
    expectAddress: bind<(parameters: N, address: string) => N>('X509_VERIFY_PARAM_set1_ip_asc', 'int', [
      P,
      'str',
    ]),
    handshake: bind<(ssl: N) => N>('SSL_do_handshake', 'int', [P]),
    read: bind<(ssl: N, at: N, length: N) => N>('SSL_read', 'int', [P, P, 'int']),
    hasPending: bind<(ssl: N) => N>('SSL_has_pending', 'int', [P]),
    write: bind<(ssl: N, at: N, length: N) => N>('SSL_write', 'int', [P, P, 'int']),
    shutdown: bind<(ssl: N) => N>('SSL_shutdown', 'int', [P]),
    error: bind<(ssl: N, result: N) => N>('SSL_get_error', 'int', [P, 'int']),
    verifyResult: bind<(ssl: N) => N>('SSL_get_verify_result', 'intptr_t', [P]),
    reused: bind<(ssl: N) => N>('SSL_session_reused', 'int', [P]),
    pskIdentity: bind<(ssl: N) => string | null>('SSL_get_psk_identity', 'str', [P]),
    version: bind<(ssl: N) => string | null>('SSL_get_version', 'str', [P]),
    peerCertificate: bind<(ssl: N) => N>('SSL_get1_peer_certificate', 'intptr_t', [P]),

    subject: bind<(x509: N) => N>('X509_get_subject_name', 'intptr_t', [P]),
    indexOf: bind<(name: N, nid: N, after: N) => N>('X509_NAME_get_index_by_NID', 'int', [P, 'int', 'int']),
    entry: bind<(name: N, index: N) => N>('X509_NAME_get_entry', 'intptr_t', [P, 'int']),
    entryData: bind<(entry: N) => N>('X509_NAME_ENTRY_get_data', 'intptr_t', [P]),
    toUtf8: bind<(to: N, text: N) => N>('ASN1_STRING_to_UTF8', 'int', [P, P]),
    free: bind<(at: N, file: N, line: N) => void>('CRYPTO_free', 'void', [P, P, 'int']),
    copy: bind<(to: N, from: N, length: N) => N>('memcpy', 'intptr_t', [P, P, 'size_t']),
  };
}

export type OpenSsl = ReturnType<typeof bound>;

let known: OpenSsl | null = null;

/** Certificates, keys or a peer that cannot be used, in words without secrets. */
export class TlsError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'TlsError';
  }
}

/** Bound at first use: most threads never speak TLS. */
export function openssl(): OpenSsl {
  if (known !== null) return known;
  if (process.versions['openssl']?.startsWith('3.') !== true)
    throw new TlsError(
      `TLS needs a node with OpenSSL 3, this one has ${process.versions['openssl'] ?? 'none'}`,
    );
  try {
    return (known = bound());
  } catch (error) {
    throw new TlsError('TLS needs the functions of OpenSSL, and this node exports none', { cause: error });
  }
}

/** What OpenSSL says of the call that failed last; then it is forgotten. */
export function lastReason(otherwise: string): string {
  const code = openssl().lastError();
  const reason = code === 0 ? null : openssl().reasonText(code);
  openssl().clearErrors();
  return reason ?? otherwise;
}
