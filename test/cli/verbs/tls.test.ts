/** `weft tls`: what it makes is what openssl, TLS itself and our readers of keys take; nothing is replaced unasked. */
import t from 'tap';
import { execFileSync } from 'node:child_process';
import { X509Certificate, createPrivateKey } from 'node:crypto';
import * as fs from 'node:fs';
import { join } from 'node:path';
import * as tls from 'node:tls';
import { backupTarget } from '../../../cli/storage/names.js';
import { readTls } from '../../../storage/tls/files.js';
import { runCli } from '../fakeApi.js';

const skip = ((): string | false => {
  try {
    execFileSync('openssl', ['version']);
    return false;
  } catch {
    return 'needs openssl (Debian: openssl)';
  }
})();

const mode = (file: string) => fs.statSync(file).mode & 0o777;
const read = (...parts: string[]) => fs.readFileSync(join(...parts));

await t.test('an authority, a server and a client that know each other', { skip }, async t => {
  const home = t.testdir();
  const room = join(home, 'tls');
  const state = join(home, 's');
  const made = await runCli(['tls', 'server', room, 'disks.example', '127.0.0.1'], { state });
  t.equal(made.code, 0, made.stderr);
  t.match(made.stdout, `certificate: ${room}/server-cert.pem`);
  t.equal((await runCli(['tls', 'client', room, 'bob'], { state })).code, 0);
  const own = join(room, 'clients', 'bob');
  for (const key of [join(room, 'ca-key.pem'), join(room, 'server-key.pem'), join(own, 'client-key.pem')])
    t.equal(mode(key), 0o600, key);
  t.same(fs.readdirSync(own).sort(), ['ca-cert.pem', 'client-cert.pem', 'client-key.pem']);
  t.same(
    fs.readdirSync(room).filter(name => name.startsWith('.')),
    [],
    'no scratch is left',
  );

  const server = new X509Certificate(read(room, 'server-cert.pem'));
  t.equal(server.checkHost('disks.example'), 'disks.example');
  t.equal(server.checkIP('127.0.0.1'), '127.0.0.1');
  t.ok(server.checkPrivateKey(createPrivateKey(read(room, 'server-key.pem'))));

  const listening = tls.createServer({
    cert: read(room, 'server-cert.pem'),
    key: read(room, 'server-key.pem'),
    ca: read(room, 'ca-cert.pem'),
    requestCert: true,
  });
  listening.on('secureConnection', socket => socket.end(String(socket.getPeerCertificate().subject.CN)));
  await new Promise<void>(resolve => listening.listen(0, '127.0.0.1', resolve));
  t.teardown(() => listening.close());
  const address = listening.address();
  const said = await new Promise<string>((resolve, reject) => {
    const socket = tls.connect({
      port: typeof address === 'object' ? address!.port : 0,
      host: '127.0.0.1',
      ca: read(own, 'ca-cert.pem'),
      cert: read(own, 'client-cert.pem'),
      key: read(own, 'client-key.pem'),
    });
    socket.on('error', reject);
    socket.on('data', chunk => resolve(String(chunk)));
  });
  t.equal(said, 'bob', 'each believes the other');

  const again = await runCli(['tls', 'server', room, 'disks.example'], { state });
  t.match(again, { code: 1, stderr: /is there already/ });
  t.ok(server.raw.equals(new X509Certificate(read(room, 'server-cert.pem')).raw), 'and is untouched');
  t.equal((await runCli(['tls', 'server', room, 'other.example', '--force'], { state })).code, 0);
  t.notOk(server.raw.equals(new X509Certificate(read(room, 'server-cert.pem')).raw));
  t.match(await runCli(['tls', 'client', room, 'eve', '--days', '9000'], { state }), {
    code: 1,
    stderr: /the authority ends on/,
  });
  for (const wrong of ['../x', 'a/b', 'a,CN=b', '', 'x'.repeat(65)])
    t.equal((await runCli(['tls', 'client', room, wrong], { state })).code, 2, JSON.stringify(wrong));
  t.equal((await runCli(['tls', 'server', room, 'a,DNS:b'], { state })).code, 2);
});

await t.test('pre-shared keys: a line for each identity, for nobody else to read', async t => {
  const file = join(t.testdir(), 'keys.psk');
  const state = t.testdirName;
  for (const name of ['alice', 'bob'])
    t.match(await runCli(['tls', 'psk', file, name], { state }), { code: 0, stdout: `psk: ${file}` });
  t.equal(mode(file), 0o600);
  const before = readTls({ psk: file }, null).psk;
  t.same([...before.keys()], ['alice', 'bob']);
  t.match(before.get('bob'), /^[0-9a-f]{64}$/);
  t.match(await runCli(['tls', 'psk', file, 'bob'], { state }), { code: 1, stderr: /has a key of "bob"/ });
  t.equal((await runCli(['tls', 'psk', file, 'bob', '--force'], { state })).code, 0);
  const after = readTls({ psk: file }, null).psk;
  t.equal(after.get('alice'), before.get('alice'));
  t.not(after.get('bob'), before.get('bob'));
  const said = await runCli(['tls', 'psk', file, 'eve'], { state });
  t.notMatch(said.stdout + said.stderr, readTls({ psk: file }, null).psk.get('eve')!, 'keys are not shown');
});

await t.test('targets of backups with TLS, in the words of libnbd', async t => {
  const place = { resolve: (path: string) => join('/here', path), isThere: () => true };
  const at = { server: { kind: 'tcp', host: 'far', port: 10_809 }, exportName: 'disk 1' };
  t.same(backupTarget('nbd://far/disk%201', place), at);
  t.same(backupTarget('nbds://far/disk%201', place), { ...at, tls: {} });
  t.same(backupTarget('nbds://far/disk%201?tls-certificates=pki', place), {
    ...at,
    tls: {
      authority: '/here/pki/ca-cert.pem',
      certificate: '/here/pki/client-cert.pem',
      key: '/here/pki/client-key.pem',
    },
  });
  t.same(backupTarget('nbds://far/disk%201?tls-certificates=pki', { ...place, isThere: () => false }), {
    ...at,
    tls: { authority: '/here/pki/ca-cert.pem' },
  });
  t.same(backupTarget('nbds://al@far:9/disk%201?tls-psk-file=k', place), {
    ...at,
    server: { ...at.server, port: 9 },
    tls: { psk: '/here/k', pskIdentity: 'al' },
  });
  t.throws(() => backupTarget('nbds+unix:///x?socket=/s', place), /TCP only/);
});
