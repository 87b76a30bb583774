/**
 * STARTTLS of the server, with the data thread as it is and clients of node:tls: who gets in and who does not, in which words, what is not
 * taken from before, and that bytes come through whole.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as net from 'node:net';
import * as os from 'node:os';
import * as path from 'node:path';
import * as tls from 'node:tls';
import t, { type Test } from 'tap';
import type { ExportListen, TlsFiles } from '../../../storage/contract.js';
import {
  AT_SERVER,
  EXPORT_COUNTERS,
  newCounters,
  type ServerCounter,
} from '../../../storage/nbd/counters.js';
import { NO_RULES, type OfferRules } from '../../../storage/nbd/rules.js';
import { NbdServer } from '../../../storage/nbd/server.js';
import * as wire from '../../../storage/nbd/wire.js';
import { eventually } from '../plane.js';
import { Certificates, KEY } from '../remote/certificates.js';
import { NetClient } from './netClient.js';
import { flags, option } from './talk.js';
import { firstSeed } from '../../seed.js';

const SIZE = 64 * 1024 * 1024;
const skip = spawnSync('openssl', ['version']).status === 0 ? false : 'openssl is not installed';

async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await new Promise(resolve => server.once('listening', resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise(resolve => server.close(resolve));
  return port;
}

/** A server of one file, on one address. */
class House {
  readonly room = fs.mkdtempSync(path.join(os.tmpdir(), 'weft-nbd-tls-'));
  readonly failures: string[] = [];
  server!: NbdServer;
  port = 0;
  listen!: ExportListen;
  #fd = -1;

  static async open(t: Test, files: TlsFiles | null, rules: Partial<OfferRules> = {}): Promise<House> {
    const house = new House();
    house.port = await freePort();
    const file = path.join(house.room, 'disk');
    fs.writeFileSync(file, '');
    fs.truncateSync(file, SIZE);
    house.#fd = fs.openSync(file, 'r+');
    house.server = new NbdServer(
      {
        volumeState: () => undefined,
        listenerChanged: () => undefined,
        tlsFailed: (_at, _peer, reason) => void house.failures.push(reason),
        threadGone: error => {
          throw error;
        },
      },
      { ioUring: true },
    );
    t.teardown(() => house.close());
    await house.server.ready();
    const base = { kind: 'file', fd: house.#fd, size_bytes: SIZE, writable: true } as const;
    house.server.openVolume(1, { base, encryptionKey: null, limits: null });
    house.listen = {
      kind: 'tcp',
      host: '127.0.0.1',
      port: house.port,
      ...(files === null ? {} : { tls: files }),
    };
    house.server.offer({
      exportId: 2,
      nbdName: 'disk',
      volumeId: 1,
      readOnly: false,
      counters: newCounters(EXPORT_COUNTERS),
      rules: { ...NO_RULES, ...rules },
      listen: [house.listen],
    });
    return house;
  }

  client(secrets?: tls.ConnectionOptions): Promise<NetClient> {
    const options = secrets === undefined ? {} : { tls: secrets };
    return NetClient.connect({ host: '127.0.0.1', port: this.port }, 'disk', options);
  }

  count(name: ServerCounter): number {
    return this.server.serverCounters[AT_SERVER[name]]!;
  }

  async close(): Promise<void> {
    await this.server.stop();
    fs.closeSync(this.#fd);
    fs.rmSync(this.room, { recursive: true });
  }
}

/** Of a plain socket: what has come so far, and what to wait for. */
class Raw {
  readonly socket: net.Socket;
  closed = false;
  bytes = Buffer.alloc(0);

  constructor(port: number) {
    this.socket = net.connect({ host: '127.0.0.1', port });
    this.socket.on('data', data => (this.bytes = Buffer.concat([this.bytes, data])));
    this.socket.on('error', () => undefined);
    this.socket.on('close', () => (this.closed = true));
  }

  async take(length: number): Promise<Buffer> {
    await eventually('bytes, or the end', () => this.bytes.length >= length || this.closed);
    const taken = this.bytes.subarray(0, length);
    this.bytes = this.bytes.subarray(length);
    return taken;
  }

  /** Type and words of the answer to an option. */
  async reply(): Promise<{ type: number; words: string }> {
    const header = await this.take(20);
    if (header.length < 20) return { type: -1, words: 'closed' };
    const data = await this.take(header.readUInt32BE(16));
    return { type: header.readUInt32BE(12), words: data.toString() };
  }
}

function tests(files: Certificates): void {
  const at = (name: string): string => path.join(files.room, name);
  const pair = { certificate: at('server-cert.pem'), key: at('server-key.pem') };
  const mutual: TlsFiles = { ...pair, authority: at('ca-cert.pem') };
  const ca = files.read('ca-cert.pem');
  const trusting = { ca, servername: 'disks.example' };
  const client = { ...trusting, cert: files.read('client-cert.pem'), key: files.read('client-key.pem') };
  const byKey = (identity: string, hex: string): tls.ConnectionOptions => ({
    pskCallback: () => ({ identity, psk: Buffer.from(hex, 'hex') }),
    ciphers: 'PSK',
    maxVersion: 'TLSv1.2',
    checkServerIdentity: () => undefined,
  });

  void t.test('certificates of both sides: bytes come through whole, in both directions', async t => {
    const house = await House.open(t, mutual);
    const one = await house.client(client);
    t.equal(one.size_bytes, SIZE);
    const bytes = Buffer.alloc(4 * 1024 * 1024 + 4096);
    for (let i = 0; i < bytes.length; i += 4) bytes.writeUInt32LE((i * 2654435761) >>> 0, i);
    t.equal(await one.write(8192, bytes), 0);
    t.ok((await one.read(8192, bytes.length)).equals(bytes), 'one long read');
    const reads = Array.from({ length: 90 }, (_, i) => one.read(8192 + i * 40_960, 4096 * (1 + (i % 9))));
    const parts = await Promise.all(reads);
    for (const [i, part] of parts.entries())
      if (!part.equals(bytes.subarray(i * 40_960, i * 40_960 + part.length))) t.fail(`read ${i} differs`);
    t.equal(await one.flush(), 0);
    await one.disconnect();
    t.equal(house.count('tlsHandshakes'), 1);
    t.equal(house.count('tlsFailures'), 0);
  });

  void t.test('TLS 1.2 too, and a server that asks for no certificate', async t => {
    const house = await House.open(t, pair);
    const one = await house.client({ ...trusting, maxVersion: 'TLSv1.2' });
    t.equal((await one.read(0, 65_536)).length, 65_536);
    await one.disconnect();
    const two = await house.client(trusting);
    await two.disconnect();
    await t.rejects(house.client({ ...trusting, maxVersion: 'TLSv1.1' }), 'nothing below');
  });

  void t.test('pre-shared keys', async t => {
    const house = await House.open(t, { psk: files.keys }, { identities: ['weft'] });
    const one = await house.client(byKey('weft', KEY));
    t.equal((await one.read(0, 4096)).length, 4096);
    await one.disconnect();
    await t.rejects(house.client(byKey('weft', 'ab'.repeat(32))), 'another key');
    await t.rejects(house.client(byKey('nobody', KEY)), 'an identity that is not known');
    await t.rejects(house.client(byKey('someone', 'ff'.repeat(32))), /refused/, 'one that may not use it');
    t.equal(house.count('forbiddenExport'), 1);
    t.equal(house.count('tlsFailures'), 2);
    t.equal(house.failures.length >= 1, true);
    t.notMatch(house.failures.join(), KEY);
  });

  void t.test('who is not let in', async t => {
    const house = await House.open(t, mutual);
    await t.rejects(house.client(), /NBD_OPT_STARTTLS must come first/, 'in plain text');
    await t.rejects(
      house.client(trusting).then(one => one.read(0, 4096)),
      'without a certificate',
    );
    const other = { ...client, cert: files.read('other-cert.pem'), key: files.read('other-key.pem') };
    await t.rejects(
      house.client(other).then(one => one.read(0, 4096)),
      'of another authority',
    );
    const late = { ...client, cert: files.read('late-cert.pem'), key: files.read('late-key.pem') };
    await t.rejects(
      house.client(late).then(one => one.read(0, 4096)),
      'expired',
    );
    await eventually('failures are counted', () => house.count('tlsFailures') === 3);
    t.equal(house.count('tlsFailures'), 3);
    t.equal(house.count('plaintextRefused'), 1);
    t.equal(house.count('tlsHandshakes'), 0);
    t.match(house.failures[0], /certificate/, 'the reason is told');
    t.ok(house.failures.length <= 2, 'but not of each');
  });

  void t.test('identities: by the name in the certificate', async t => {
    const yes = await House.open(t, mutual, { identities: ['client'] });
    await (await yes.client(client)).disconnect();
    const no = await House.open(t, mutual, { identities: ['server', 'clients'] });
    await t.rejects(no.client(client), /no such export/);
    t.equal(no.count('forbiddenExport'), 1);
    const plain = await House.open(t, null, { identities: ['client'] });
    await t.rejects(plain.client(), /no such export/, 'who proves nothing is nobody');
  });

  void t.test('before TLS there is nothing but STARTTLS and ABORT', async t => {
    const house = await House.open(t, mutual);
    const raw = new Raw(house.port);
    await raw.take(18);
    raw.socket.write(flags(3));
    for (const asked of [
      wire.NBD_OPT.LIST,
      wire.NBD_OPT.STRUCTURED_REPLY,
      wire.NBD_OPT.EXTENDED_HEADERS,
      777,
    ]) {
      raw.socket.write(option(asked));
      t.equal((await raw.reply()).type, wire.NBD_REP.ERR_TLS_REQD, `option ${asked}`);
    }
    raw.socket.write(option(wire.NBD_OPT.GO, wire.emitGo('disk', [])));
    t.equal((await raw.reply()).type, wire.NBD_REP.ERR_TLS_REQD);
    raw.socket.write(option(wire.NBD_OPT.STARTTLS, Buffer.from('x')));
    t.equal((await raw.reply()).type, wire.NBD_REP.ERR_INVALID, 'it takes no data');
    raw.socket.write(option(wire.NBD_OPT.ABORT));
    t.equal((await raw.reply()).type, wire.NBD_REP.ACK);
    await eventually('the end', () => raw.closed);
    const name = new Raw(house.port);
    await name.take(18);
    name.socket.write(Buffer.concat([flags(3), option(wire.NBD_OPT.EXPORT_NAME, Buffer.from('disk'))]));
    t.equal((await name.take(1)).length, 0, 'EXPORT_NAME ends the connection');
    t.equal(house.count('plaintextRefused'), 2);
  });

  void t.test('where there is no TLS, and where it is already', async t => {
    const plain = await House.open(t, null);
    const raw = new Raw(plain.port);
    await raw.take(18);
    raw.socket.write(Buffer.concat([flags(3), option(wire.NBD_OPT.STARTTLS)]));
    t.equal((await raw.reply()).type, wire.NBD_REP.ERR_POLICY);
    raw.socket.write(option(wire.NBD_OPT.LIST));
    t.equal((await raw.reply()).type, wire.NBD_REP.SERVER, 'haggling goes on');
    raw.socket.destroy();
    const house = await House.open(t, mutual);
    const secure = await session(house.port, client);
    secure.write(option(wire.NBD_OPT.STARTTLS));
    t.equal((await reply(secure)).type, wire.NBD_REP.ERR_INVALID);
    secure.write(option(wire.NBD_OPT.SET_META_CONTEXT, wire.emitGo('disk', [])));
    t.match((await reply(secure)).words, /must come first/, 'nothing was agreed under TLS yet');
    secure.destroy();
  });

  void t.test('bytes in plain text behind STARTTLS are not taken for those of the session', async t => {
    const house = await House.open(t, mutual);
    const raw = new Raw(house.port);
    await raw.take(18);
    const injected = option(wire.NBD_OPT.STRUCTURED_REPLY);
    raw.socket.write(Buffer.concat([flags(3), option(wire.NBD_OPT.STARTTLS), injected]));
    t.equal((await raw.take(1)).length, 0, 'no answer, and the end');
    t.equal(house.count('tlsInjections'), 1);
    // In a packet of their own they are garbage to TLS.
    const later = new Raw(house.port);
    await later.take(18);
    later.socket.write(Buffer.concat([flags(3), option(wire.NBD_OPT.STARTTLS)]));
    t.equal((await later.reply()).type, wire.NBD_REP.ACK);
    later.socket.write(injected);
    await eventually('the end', () => later.closed);
    t.equal(house.count('tlsFailures'), 1);
  });

  void t.test('any cut of the bytes, slow handshakes beside others', async t => {
    const house = await House.open(t, mutual);
    const idle = new Raw(house.port);
    await idle.take(18);
    idle.socket.write(Buffer.concat([flags(3), option(wire.NBD_OPT.STARTTLS)]));
    const port = await crumbling(t, house.port);
    const where = { host: '127.0.0.1', port };
    const clients = await Promise.all([1, 2, 3].map(() => NetClient.connect(where, 'disk', { tls: client })));
    for (const [i, one] of clients.entries()) {
      const bytes = Buffer.alloc(150_000, i + 1);
      t.equal(await one.write(i * 1_000_000, bytes), 0);
      t.ok((await one.read(i * 1_000_000, bytes.length)).equals(bytes));
      await one.disconnect();
    }
    idle.socket.destroy();
    await eventually('failures are counted', () => house.count('tlsFailures') === 1);
    t.equal(house.count('tlsHandshakes'), 3);
  });

  void t.test('a client cannot renegotiate', async t => {
    const house = await House.open(t, mutual);
    const secure = await session(house.port, { ...client, maxVersion: 'TLSv1.2' });
    const failed = await new Promise<Error | null>(resolve => {
      secure.on('error', error => resolve(error));
      secure.renegotiate({}, error => resolve(error));
    });
    t.ok(failed, 'refused');
    secure.destroy();
  });

  void t.test('new files count for new clients, and a listener that cannot be had is not plain', async t => {
    const renewed = path.join(files.room, 'renewed');
    const put = (name: string): void => {
      fs.copyFileSync(at(`${name}-cert.pem`), `${renewed}-cert.pem`);
      fs.copyFileSync(at(`${name}-key.pem`), `${renewed}-key.pem`);
      fs.chmodSync(`${renewed}-key.pem`, 0o600);
    };
    put('server');
    const house = await House.open(t, { certificate: `${renewed}-cert.pem`, key: `${renewed}-key.pem` });
    const nameOf = async (): Promise<string> => {
      const one = await house.client(trusting);
      const { CN } = (one.socket as tls.TLSSocket).getPeerCertificate().subject;
      return String(CN);
    };
    const before = await house.client(trusting);
    t.equal(await nameOf(), 'server');
    put('client');
    await house.server.keepListeners([house.listen]);
    t.equal(await nameOf(), 'client');
    t.equal((await before.read(0, 4096)).length, 4096, 'old clients stay');
    fs.writeFileSync(`${renewed}-cert.pem`, 'nonsense');
    await house.server.keepListeners([house.listen]);
    t.match(house.server.problem(house.listen), /goes on with .* had: the certificate/);
    t.equal(await nameOf(), 'client');
    put('server');
    await house.server.keepListeners([house.listen]);
    t.equal(house.server.problem(house.listen), null);
    t.equal(await nameOf(), 'server');

    const none = await House.open(t, { certificate: at('absent.pem'), key: at('server-key.pem') });
    t.match(none.server.problem(none.listen), /absent\.pem cannot be read: ENOENT/);
    await t.rejects(none.client(), /closed/);
    fs.copyFileSync(at('server-cert.pem'), at('absent.pem'));
    await eventually('it is listened', () => none.server.problem(none.listen) === null);
    await (await none.client(trusting)).disconnect();
  });
}

/** Past NBD_OPT_STARTTLS and the handshake of TLS. */
async function session(port: number, secrets: tls.ConnectionOptions): Promise<tls.TLSSocket> {
  const raw = new Raw(port);
  await raw.take(18);
  raw.socket.write(Buffer.concat([flags(3), option(wire.NBD_OPT.STRUCTURED_REPLY).subarray(0, 0)]));
  raw.socket.write(option(wire.NBD_OPT.STARTTLS));
  await raw.reply();
  raw.socket.removeAllListeners('data');
  const secure = tls.connect({ socket: raw.socket, ...secrets });
  secure.on('error', () => undefined);
  await new Promise(resolve => secure.once('secureConnect', resolve));
  return secure;
}

async function reply(socket: tls.TLSSocket): Promise<{ type: number; words: string }> {
  const data = await new Promise<Buffer>(resolve => socket.once('data', resolve));
  return { type: data.readUInt32BE(12), words: data.subarray(20).toString() };
}

/** A proxy that hands on bytes in pieces of odd lengths; its port. */
async function crumbling(t: Test, port: number): Promise<number> {
  let seed = firstSeed;
  t.comment(`seed ${seed}`);
  const next = (limit: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
    return 1 + (seed % limit);
  };
  const crumble = (from: net.Socket, to: net.Socket): void => {
    from.on('data', data => {
      for (let at = 0; at < data.length;) {
        const end = Math.min(data.length, at + next(at === 0 ? 7 : 9000));
        to.write(data.subarray(at, end));
        at = end;
      }
    });
    from.on('error', () => undefined);
    from.on('close', () => to.destroy());
  };
  const proxy = net.createServer(near => {
    const far = net.connect({ host: '127.0.0.1', port });
    near.setNoDelay(true);
    far.setNoDelay(true);
    crumble(near, far);
    crumble(far, near);
  });
  proxy.listen(0, '127.0.0.1');
  await new Promise(resolve => proxy.once('listening', resolve));
  t.teardown(() => proxy.close());
  return (proxy.address() as net.AddressInfo).port;
}

if (skip === false) {
  const files = new Certificates();
  t.teardown(() => files.remove());
  fs.chmodSync(path.join(files.room, 'server-key.pem'), 0o600);
  execFileSync('chmod', ['600', path.join(files.room, 'client-key.pem')]);
  tests(files);
} else void t.test('TLS', { skip }, async () => undefined);
