import t from 'tap';
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as net from 'node:net';
import * as nodeTls from 'node:tls';
import { EAGAIN, EPROTO } from '../../host/errno.js';
import { connectTcp } from '../../host/inet.js';
import { mapAnonymous } from '../../host/memory.js';
import * as raw from '../../host/raw.js';
import { TlsContext, TlsSession, type TlsSettings } from '../../host/tls.js';
import { accept, connectUnix, listenUnix } from '../../host/unix.js';
import { firstSeed } from '../seed.js';

const dir = fs.mkdtempSync('/tmp/host-tls-');
t.teardown(() => fs.rmSync(dir, { recursive: true }));

const openssl = (...args: string[]): void => {
  execFileSync('openssl', args, { cwd: dir, stdio: 'ignore' });
};
const EC = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];

function authority(name: string): void {
  const names = ['-keyout', `${name}.key`, '-out', `${name}.pem`, '-subj', `/CN=${name}`];
  openssl('req', '-x509', ...EC, ...names, '-days', '30', '-addext', 'basicConstraints=critical,CA:TRUE');
}

function certificate(by: string, name: string, options: { subject?: string; days?: number } = {}): void {
  const { subject = `/O=weft/CN=${name}`, days = 30 } = options;
  openssl('req', ...EC, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', subject);
  fs.writeFileSync(`${dir}/${name}.ext`, `subjectAltName=DNS:${name},IP:127.0.0.1\n`);
  const signer = ['-CA', `${by}.pem`, '-CAkey', `${by}.key`, '-CAcreateserial'];
  const what = ['-in', `${name}.csr`, '-out', `${name}.pem`, '-extfile', `${name}.ext`];
  openssl('x509', '-req', ...what, ...signer, '-days', `${days}`);
}

authority('one');
authority('other');
certificate('one', 'server.test');
certificate('one', 'alice');
certificate('one', 'late', { days: -1 });
certificate('one', 'nameless', { subject: '/O=weft' });
certificate('one', 'double', { subject: '/CN=first/CN=second' });
certificate('other', 'mallory');

const pem = (name: string): string => fs.readFileSync(`${dir}/${name}`, 'utf8');
const NOTHING: TlsSettings = {
  certificate: null,
  key: null,
  authority: null,
  psk: new Map(),
  pskIdentity: null,
};
const as = (name: string): Partial<TlsSettings> => ({
  certificate: pem(`${name}.pem`),
  key: pem(`${name}.key`),
});
const server = (settings: Partial<TlsSettings>): TlsContext => TlsContext.server({ ...NOTHING, ...settings });
const client = (settings: Partial<TlsSettings>): TlsContext => TlsContext.client({ ...NOTHING, ...settings });
const ALICE = '00112233445566778899aabbccddeeff';

const memory = mapAnonymous(1024 * 1024);
const back = mapAnonymous(1024 * 1024);

interface Pair {
  server: TlsSession;
  client: TlsSession;
  results: [number, number];
  end(): void;
}

let pairs = 0;
/** Both sides shaken until neither moves. */
function pair(of: TlsContext, by: TlsContext, serverName: string | null = 'server.test'): Pair {
  const path = `${dir}/${pairs++}.sock`;
  const listener = listenUnix(path);
  const clientFd = connectUnix(path);
  const serverFd = accept(listener);
  const ours = new TlsSession(of, serverFd, null);
  const theirs = new TlsSession(by, clientFd, serverName);
  const results: [number, number] = [-EAGAIN, -EAGAIN];
  for (let i = 0; i < 20 && results.includes(-EAGAIN); i++) {
    if (results[1] === -EAGAIN) results[1] = theirs.shake();
    if (results[0] === -EAGAIN) results[0] = ours.shake();
    if (results[0] !== 0 && results[0] !== -EAGAIN) raw.close(serverFd);
  }
  const end = (): void => {
    ours.close();
    theirs.close();
    for (const fd of [listener, clientFd]) raw.close(fd);
    if (results[0] === 0 || results[0] === -EAGAIN) raw.close(serverFd);
    of.close();
    by.close();
  };
  return { server: ours, client: theirs, results, end };
}

/** All that comes until -EAGAIN, or what is no byte count. */
function receive(session: TlsSession): { bytes: Buffer; end: number } {
  const parts: Buffer[] = [];
  for (;;) {
    const count = session.recv(back.address, back.length_bytes);
    if (count <= 0) return { bytes: Buffer.concat(parts), end: count };
    parts.push(Buffer.from(back.bytes.subarray(0, count)));
  }
}

await t.test('certificates on both sides; bytes arrive whole and in order', async t => {
  const both = pair(
    server({ ...as('server.test'), authority: pem('one.pem') }),
    client({ ...as('alice'), authority: pem('one.pem') }),
  );
  t.same(both.results, [0, 0]);
  t.equal(both.server.peerIdentity, 'alice');
  t.equal(both.client.peerIdentity, 'server.test');
  t.equal(both.server.version, 'TLSv1.3');
  t.equal(both.server.recv(back.address, 100), -EAGAIN);
  t.ok(both.server.wantsInput);
  t.notOk(both.server.hasInput);
  memory.bytes.forEach((_, index) => (memory.bytes[index] = index * 31 + (index >>> 9)));
  const arrived: Buffer[] = [];
  let sent_bytes = 0;
  let refused = 0;
  while (sent_bytes < memory.length_bytes) {
    const count = both.client.send(memory.address + sent_bytes, memory.length_bytes - sent_bytes);
    if (count > 0) sent_bytes += count;
    else {
      t.equal(count, -EAGAIN);
      t.ok(both.client.wantsOutput);
      refused++;
      arrived.push(receive(both.server).bytes);
    }
  }
  arrived.push(receive(both.server).bytes);
  t.ok(refused > 0, 'the socket was full in between');
  t.ok(Buffer.concat(arrived).equals(Buffer.from(memory.bytes)));
  both.client.end();
  t.equal(receive(both.server).end, 0);
  both.end();
});

await t.test('records that are there come together, and the end after them', async t => {
  const both = pair(server(as('server.test')), client({ authority: pem('one.pem') }));
  t.equal(both.server.recv(back.address, 100), -EAGAIN);
  for (let i = 0; i < 40; i++) {
    memory.bytes.fill(i, 0, 28);
    t.equal(both.client.send(memory.address, 28), 28);
  }
  both.client.end();
  t.equal(both.server.recv(back.address, 100), 100, 'as far as there is room');
  t.ok(both.server.hasInput);
  t.equal(both.server.recv(back.address + 100, 4000), 40 * 28 - 100);
  for (let i = 0; i < 40; i++) t.equal(back.bytes[i * 28 + 27], i);
  t.ok(both.server.hasInput, 'the end is there already');
  t.equal(both.server.recv(back.address, 100), 0);
  t.equal(both.server.recv(back.address, 100), 0, 'and stays');
  both.end();
});

await t.test('long sends, any cut, by sessions in turn, after one that went in the middle', async t => {
  const SEED = Number(process.env['SEED'] ?? firstSeed);
  t.comment(`SEED=${SEED}`);
  let state = SEED >>> 0;
  const random = (below: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  memory.bytes.forEach((_, index) => (memory.bytes[index] = random(256)));
  const LENGTH_BYTES = memory.length_bytes;
  const create = (): { both: Pair; sent_bytes: number; arrived: Buffer[]; arrived_bytes: number } => ({
    both: pair(server(as('server.test')), client({ authority: pem('one.pem') })),
    sent_bytes: 0,
    arrived: [],
    arrived_bytes: 0,
  });
  const [going, ...staying] = [create(), create(), create()];
  t.equal(going!.both.server.send(memory.address, LENGTH_BYTES) < LENGTH_BYTES, true);
  t.equal(going!.both.server.send(memory.address, LENGTH_BYTES), -EAGAIN, 'what is left is not sent twice');
  t.ok(going!.both.server.wantsOutput);
  t.notOk(going!.both.server.wantsInput);
  // What it could not send is nobody else's.
  going!.both.server.end();
  going!.both.end();
  let refused = 0;
  let lastTold = 0;
  for (let step = 0; staying.some(one => one.arrived_bytes < LENGTH_BYTES) && step < 100_000; step++) {
    const one = staying[random(2)]!;
    const left_bytes = LENGTH_BYTES - one.sent_bytes;
    if (random(3) > 0 && left_bytes > 0) {
      // What was refused comes again, with no less behind it.
      const length_bytes = Math.max(lastTold, Math.min(left_bytes, 1 + random(200_000)));
      const count = one.both.server.send(memory.address + one.sent_bytes, Math.min(left_bytes, length_bytes));
      if (count > 0) one.sent_bytes += count;
      else t.equal(count, -EAGAIN);
      lastTold = count === length_bytes ? 0 : 200_000;
      if (count < length_bytes) refused++;
    } else if (left_bytes === 0 || random(4) === 0) {
      const count = one.both.client.recv(back.address, 1 + random(300_000));
      if (count > 0) one.arrived.push(Buffer.from(back.bytes.subarray(0, count)));
      one.arrived_bytes += Math.max(0, count);
    }
  }
  t.ok(refused > 5, `${refused} refused`);
  for (const { both, arrived } of staying) {
    t.ok(Buffer.concat(arrived).equals(memory.bytes));
    both.end();
  }
});

await t.test('the server is who it should be', async t => {
  const cases: [name: string, expected: string | null, authority: string, reason: RegExp][] = [
    ['server.test', 'server.test', 'other', /verify failed: (self.signed|unable to get)/],
    ['server.test', 'elsewhere.test', 'one', /verify failed: hostname mismatch/i],
    ['server.test', '127.0.0.2', 'one', /verify failed: IP address mismatch/],
    ['late', 'late', 'one', /verify failed: certificate has expired/],
  ];
  for (const [name, expected, by, reason] of cases) {
    const both = pair(server(as(name)), client({ authority: pem(`${by}.pem`) }), expected);
    t.equal(both.results[1], -EPROTO, `${name} for ${expected}`);
    t.match(both.client.reason, reason);
    t.not(both.results[0], 0);
    both.end();
  }
  for (const expected of ['127.0.0.1', null]) {
    const both = pair(server(as('server.test')), client({ authority: pem('one.pem') }), expected);
    t.same(both.results, [0, 0], `${expected}`);
    t.equal(both.server.peerIdentity, null);
    both.end();
  }
  const system = pair(server(as('server.test')), client({}));
  t.equal(system.results[1], -EPROTO, 'our authority is not one of the system');
  system.end();
});

await t.test('the client is who it should be', async t => {
  const trust = { authority: pem('one.pem') };
  for (const [who, reason] of [
    ['mallory', /verify failed/],
    ['late', /expired/],
    ['nameless', /common name/],
    [null, /peer did not return a certificate/],
  ] as const) {
    const both = pair(
      server({ ...as('server.test'), ...trust }),
      client({ ...(who === null ? {} : as(who)), ...trust }),
    );
    t.equal(both.results[0], -EPROTO, `${who}`);
    t.match(both.server.reason, reason);
    t.equal(both.server.peerIdentity, null);
    both.end();
  }
  const double = pair(server({ ...as('server.test'), ...trust }), client({ ...as('double'), ...trust }));
  t.equal(double.server.peerIdentity, 'second');
  double.end();
});

await t.test('pre-shared keys', async t => {
  const psk = new Map([
    ['bob', 'ab'.repeat(64)],
    ['alice', ALICE],
  ]);
  for (const pskIdentity of ['alice', null]) {
    const both = pair(server({ psk }), client({ psk, pskIdentity }), null);
    t.same(both.results, [0, 0]);
    t.equal(both.server.peerIdentity, pskIdentity ?? 'bob');
    memory.bytes.set([5, 6, 7]);
    t.equal(both.server.send(memory.address, 3), 3);
    t.same([...receive(both.client).bytes], [5, 6, 7]);
    both.end();
  }
  for (const [identity, key] of [
    ['alice', 'ff'.repeat(16)],
    ['carol', ALICE],
  ] as const) {
    const both = pair(server({ psk }), client({ psk: new Map([[identity, key]]) }), null);
    t.not(both.results[0], 0, identity);
    t.not(both.results[1], 0);
    t.equal(both.server.peerIdentity, null);
    both.end();
  }
  const anonymous = pair(server({ psk, ...as('server.test') }), client({ authority: pem('one.pem') }));
  t.equal(
    anonymous.results[0],
    -EPROTO,
    'a certificate of the server alone lets nobody in where keys are asked for',
  );
  t.match(anonymous.server.reason, /neither/);
  anonymous.end();
  t.throws(() => client({ psk, pskIdentity: 'dave' }), {
    message: /no pre-shared key is of identity "dave"/,
  });
});

/** node:tls is a peer with options of its own. */
async function withNode(
  context: TlsContext,
  options: nodeTls.ConnectionOptions,
): Promise<{ result: number; identity: string | null; reason: string; version: string }> {
  const path = `${dir}/${pairs++}.sock`;
  const listener = listenUnix(path);
  const socket = nodeTls.connect({ socket: net.connect(path), ...options });
  socket.on('error', () => {});
  await new Promise(resolve => setTimeout(resolve, 20));
  const fd = accept(listener);
  const session = new TlsSession(context, fd, null);
  let result = -EAGAIN;
  for (let i = 0; i < 200 && result === -EAGAIN; i++) {
    result = session.shake();
    await new Promise(resolve => setTimeout(resolve, 5));
  }
  const { peerIdentity: identity, reason, version } = session;
  session.close();
  raw.close(fd);
  raw.close(listener);
  socket.destroy();
  context.close();
  return { result, identity, reason, version };
}

await t.test('an identity is believed only when its key was used', async t => {
  const psk = new Map([['alice', ALICE]]);
  const pskCallback = (): { psk: Buffer; identity: string } => ({
    psk: Buffer.from(ALICE, 'hex'),
    identity: 'alice',
  });
  const lax = { checkServerIdentity: () => undefined, rejectUnauthorized: false };
  const keyed = await withNode(server({ psk, ...as('server.test') }), { pskCallback, ...lax });
  t.equal(keyed.result, 0, keyed.reason + keyed.version);
  t.equal(keyed.identity, 'alice');
  const old = await withNode(server({ psk }), {
    pskCallback,
    maxVersion: 'TLSv1.2',
    ciphers: 'PSK',
    ...lax,
  });
  t.match(old, { result: 0, identity: 'alice', version: 'TLSv1.2' });
  // The key's hash is SHA-256: with this cipher it cannot be used, and a certificate is what is left.
  const claimed = await withNode(server({ psk, ...as('server.test') }), {
    pskCallback: () => ({ psk: Buffer.from('00'.repeat(16), 'hex'), identity: 'alice' }),
    ciphers: 'TLS_AES_256_GCM_SHA384',
    ...lax,
  });
  t.not(claimed.result, 0);
  t.equal(claimed.identity, null);
  const ancient = await withNode(server(as('server.test')), {
    maxVersion: 'TLSv1.1',
    minVersion: 'TLSv1',
    ...lax,
  });
  t.equal(ancient.result, -EPROTO);
});

await t.test('what is no TLS, and a peer that goes', async t => {
  const context = server(as('server.test'));
  const path = `${dir}/plain.sock`;
  const listener = listenUnix(path);
  const plain = connectUnix(path);
  const fd = accept(listener);
  const session = new TlsSession(context, fd, null);
  t.equal(session.shake(), -EAGAIN);
  t.ok(session.wantsInput);
  memory.bytes.set(Buffer.from('NBDMAGICIHAVEOPT'));
  raw.send(plain, memory.address, 16, 0);
  t.equal(session.shake(), -EPROTO);
  t.match(session.reason, /wrong version number|unknown protocol|packet length/);
  session.close();
  session.close();
  for (const each of [plain, fd, listener]) raw.close(each);
  context.close();
  t.throws(() => new TlsSession(context, 0, null), { message: /closed/ });

  const both = pair(server(as('server.test')), client({ authority: pem('one.pem') }));
  both.server.context.close();
  t.equal(both.client.send(memory.address, 16), 16);
  t.equal(receive(both.server).bytes.length, 16, 'sessions outlive the close of their context');
  both.end();
});

await t.test('settings that cannot be used are told in words', async t => {
  const refused = (settings: Partial<TlsSettings>): string => {
    try {
      server(settings).close();
    } catch (error) {
      return (error as Error).message;
    }
    return '';
  };
  t.match(refused({}), /needs a certificate or pre-shared keys/);
  t.match(refused({ certificate: 'no', key: pem('alice.key') }), /certificate is no certificate in PEM/);
  t.match(refused({ certificate: pem('alice.pem'), key: 'x' }), /private key is no PEM/);
  t.match(refused({ certificate: pem('alice.pem'), key: pem('late.key') }), /not that of the certificate/);
  t.match(refused({ ...as('alice'), authority: pem('alice.key') }), /authority is no certificate/);
  openssl('ec', '-in', 'alice.key', '-aes128', '-passout', 'pass:secret', '-out', 'locked.key');
  t.match(refused({ certificate: pem('alice.pem'), key: pem('locked.key') }), /without passphrase/);
});

await t.test('over TCP to a server of node:tls', async t => {
  const echo = nodeTls.createServer(
    { cert: pem('server.test.pem'), key: pem('server.test.key'), ca: pem('one.pem'), requestCert: true },
    socket => {
      socket.write(`${String(socket.getPeerCertificate().subject.CN)} asks for ${String(socket.servername)}`);
    },
  );
  await new Promise<void>(resolve => echo.listen(0, '127.0.0.1', resolve));
  const { port } = echo.address() as net.AddressInfo;
  const context = client({ ...as('alice'), authority: pem('one.pem') });
  const fd = connectTcp('127.0.0.1', port);
  await new Promise(resolve => setTimeout(resolve, 20));
  const session = new TlsSession(context, fd, 'server.test');
  let result = -EAGAIN;
  let said = '';
  for (let i = 0; i < 400 && said === ''; i++) {
    if (result === -EAGAIN) result = session.shake();
    if (result === 0) said = receive(session).bytes.toString();
    await new Promise(resolve => setTimeout(resolve, 5));
  }
  t.equal(said, 'alice asks for server.test');
  session.close();
  raw.close(fd);
  context.close();
  await new Promise(resolve => echo.close(resolve));
});
