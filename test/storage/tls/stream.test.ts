/** TLS above one of node's sockets, with a server of node's and with one of our own sessions: any cut of the bytes, long writes, the end. */
import { spawnSync } from 'node:child_process';
import * as net from 'node:net';
import * as tls from 'node:tls';
import t, { type Test } from 'tap';
import { mapAnonymous } from '../../../host/memory.js';
import { TlsPipe } from '../../../host/tlsPipe.js';
import { TlsSecrets } from '../../../storage/tls/secrets.js';
import { SecureStream } from '../../../storage/tls/stream.js';
import { Certificates, KEY, NO_TLS } from '../remote/certificates.js';

const skip = spawnSync('openssl', ['version']).status === 0 ? false : 'openssl is not installed';
const LONG_BYTES = 3_000_001;

const listening = (server: net.Server): Promise<number> =>
  new Promise(resolve =>
    server.listen(0, '127.0.0.1', () => resolve((server.address() as net.AddressInfo).port)),
  );

/** What comes back of what is written, when as much has come. */
function echoed(stream: SecureStream, bytes: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = [];
    let left = bytes.length;
    stream.on('error', reject);
    stream.on('data', (part: Buffer) => {
      parts.push(part);
      left -= part.length;
      if (left <= 0) resolve(Buffer.concat(parts));
    });
    stream.write(bytes);
  });
}

function sample(length: number): Buffer {
  return Buffer.from(Uint8Array.from({ length }, (_, i) => (i * 31 + (i >>> 9)) & 0xff));
}

void t.test('against node, with certificates: long writes both ways, and the end', { skip }, async t => {
  const house = new Certificates();
  t.teardown(() => house.remove());
  const ended: boolean[] = [];
  const server = tls.createServer(
    {
      cert: house.read('server-cert.pem'),
      key: house.read('server-key.pem'),
      ca: house.read('ca-cert.pem'),
      requestCert: true,
    },
    socket => {
      socket.on('end', () => void ended.push(true));
      socket.pipe(socket);
    },
  );
  t.teardown(() => void server.close());
  const port = await listening(server);
  const stream = new SecureStream(net.connect(port, '127.0.0.1'), house.client);
  const bytes = sample(LONG_BYTES);
  t.ok((await echoed(stream, bytes)).equals(bytes));
  t.equal(stream.version, 'TLSv1.3');
  const closed = new Promise(resolve => stream.on('close', resolve));
  stream.end();
  await closed;
  t.same(ended, [true], 'the server was told');
});

/** A server by a session of ours, which is given the bytes cut as `cut` says, and echoes. */
async function ours(t: Test, secrets: TlsSecrets, cut: () => number): Promise<number> {
  const server = net.createServer(socket => {
    const pipe = new TlsPipe();
    const session = secrets.session(pipe);
    const memory = mapAnonymous(16_384);
    let shaken = false;
    const out = (): void => {
      for (let bytes; (bytes = pipe.take()) !== null;)
        for (let at = 0; at < bytes.length;) {
          const next = Math.min(bytes.length, at + cut());
          socket.write(bytes.subarray(at, next));
          at = next;
        }
    };
    socket.on('data', data => {
      for (let at = 0; at < data.length;) {
        at += pipe.put((data as Buffer).subarray(at, at + cut()));
        if (!shaken) shaken = session.shake() === 0;
        for (let n; shaken && (n = session.recv(memory.address, memory.bytes.length)) > 0; out())
          session.send(memory.address, n);
        out();
      }
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      session.close();
      pipe.close();
      memory.unmap();
    });
  });
  t.teardown(() => void server.close());
  return listening(server);
}

void t.test('a pre-shared key in TLS 1.3, however the bytes are cut', async t => {
  const opening = { ...NO_TLS, psk: new Map([['weft', KEY]]) };
  const secrets = new TlsSecrets('server', opening);
  t.teardown(() => secrets.close());
  let x = 7;
  for (const cut of [
    (): number => 1,
    (): number => 1 + ((x = (x * 48_271) % 2_147_483_647) % 900),
    (): number => 100_000,
  ]) {
    const stream = new SecureStream(net.connect(await ours(t, secrets, cut), '127.0.0.1'), opening);
    const bytes = sample(cut() === 1 ? 3000 : 200_000);
    t.ok((await echoed(stream, bytes)).equals(bytes));
    t.equal(stream.version, 'TLSv1.3');
    stream.destroy();
  }
});

void t.test('a server that is none, one with another key, and one that goes away', async t => {
  const opening = { ...NO_TLS, psk: new Map([['weft', KEY]]) };
  const failure = (port: number): Promise<Error> =>
    new Promise(resolve => {
      new SecureStream(net.connect(port, '127.0.0.1'), opening).on('error', resolve).resume();
    });
  const server = net.createServer(socket => void socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
  t.teardown(() => void server.close());
  t.match(await failure(await listening(server)), {
    name: 'TlsError',
    message: /wrong version number|record/,
  });
  const silent = net.createServer(socket => void socket.destroy());
  t.teardown(() => void silent.close());
  t.match(await failure(await listening(silent)), { message: /within the handshake|ECONNRESET|EPIPE/ });
  const other = new TlsSecrets('server', { ...NO_TLS, psk: new Map([['weft', 'ab'.repeat(32)]]) });
  t.teardown(() => other.close());
  t.match(await failure(await ours(t, other, () => 100_000)), { message: /./ });
  t.throws(() => new SecureStream(new net.Socket(), { ...NO_TLS, certificate: 'x', key: 'x' }), {
    name: 'TlsError',
  });
});
