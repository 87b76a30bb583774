/** Authorities and certificates for tests, made by openssl; and a key that both sides may know. */
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import type { TlsOpening } from '../../../storage/volume/opening.js';

export const KEY = '00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff';
export const NO_TLS: TlsOpening = {
  certificate: null,
  key: null,
  authority: null,
  psk: new Map(),
  pskIdentity: null,
  serverName: null,
};

/**
 * Files in a directory of their own, named as nbdkit wants them: an authority, and a server, a client and an expired server of it, all
 * `disks.example`. And a file of keys. Call `remove` when done.
 */
export class Certificates {
  readonly room = fs.mkdtempSync(path.join(os.tmpdir(), 'weft-certificates-'));
  readonly keys = path.join(this.room, 'keys');

  constructor() {
    this.#authority('ca');
    this.#authority('other');
    this.#certificate('server', 2);
    this.#certificate('client', 2);
    this.#certificate('late', -1);
    fs.writeFileSync(this.keys, `someone:${'ff'.repeat(32)}\nweft:${KEY}\n`, { mode: 0o600 });
  }

  read(name: string): string {
    return fs.readFileSync(path.join(this.room, name), 'utf8');
  }

  /** With a certificate of its own. */
  get client(): TlsOpening {
    return {
      ...NO_TLS,
      certificate: this.read('client-cert.pem'),
      key: this.read('client-key.pem'),
      authority: this.read('ca-cert.pem'),
      serverName: 'disks.example',
    };
  }

  remove(): void {
    fs.rmSync(this.room, { recursive: true });
  }

  #openssl(...args: string[]): void {
    execFileSync('openssl', args, { cwd: this.room, stdio: 'ignore' });
  }

  #authority(name: string): void {
    const files = ['-keyout', `${name}-key.pem`, '-out', `${name}-cert.pem`];
    this.#openssl('req', '-x509', ...EC, '-days', '2', '-subj', `/CN=${name}`, ...files);
  }

  #certificate(name: string, days: number): void {
    const made = ['-keyout', `${name}-key.pem`, '-out', `${name}.csr`];
    this.#openssl('req', ...EC, '-subj', `/CN=${name}`, ...made);
    fs.writeFileSync(path.join(this.room, 'ext'), 'subjectAltName=DNS:disks.example,IP:127.0.0.1\n');
    const by = ['-CA', 'ca-cert.pem', '-CAkey', 'ca-key.pem', '-CAcreateserial', '-days', `${days}`];
    const files = ['-in', `${name}.csr`, '-extfile', 'ext', '-out', `${name}-cert.pem`];
    this.#openssl('x509', '-req', ...by, ...files);
  }
}

const EC = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
