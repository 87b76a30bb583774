/**
 * The remote volume over TLS, with nbdkit that requires it: certificates of both sides, pre-shared keys, the exam, what is refused and in
 * which words, and servers killed under load.
 */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import t from 'tap';
import type { TlsOpening } from '../../../storage/volume/opening.js';
import { EXAM_BYTES, MiB, exam, read, waitFor, write } from '../volume/suite.js';
import { Certificates, KEY, NO_TLS } from './certificates.js';
import { make, type Command, type RealExamined } from './rig.js';

const missing = [['nbdkit', '--version'] as const, ['openssl', 'version'] as const].find(
  ([program, argument]) => spawnSync(program, [argument]).status !== 0,
);
const skip = missing === undefined ? false : `${missing[0]} is not installed`;

function kit(...settings: string[]): Command {
  return (file, socket) => ['nbdkit', '-f', '-U', socket, ...settings, 'file', file];
}

/** Turns until it says why it is not served. */
function refusal(examined: RealExamined): string {
  for (let i = 0; i < 30_000 && examined.volume.state === 'ok'; i++) examined.turn();
  const { reason } = examined.volume;
  examined.close();
  return reason ?? 'served';
}

function tests(house: Certificates): void {
  const { room, keys, client } = house;
  const byCertificate = kit('--tls=require', `--tls-certificates=${room}`, '--tls-verify-peer');
  const byKey = kit('--tls=require', `--tls-psk=${keys}`);
  const psk: TlsOpening = { ...NO_TLS, psk: new Map([['weft', KEY]]) };

  exam(t, 'nbdkit with certificates', () => make(byCertificate, { tls: client, connections: 2 }));
  exam(t, 'nbdkit with a pre-shared key', () => make(byKey, { tls: psk }));

  void t.test('what is refused, in words', async t => {
    const cases: [what: string, command: Command, tls: TlsOpening | null, words: RegExp][] = [
      ['TLS is not asked for', byCertificate, null, /it wants TLS: configure tls/],
      [
        'the server has no TLS',
        kit('--tls=off'),
        client,
        /TLS was asked for: (its rules forbid it|it does not know)/,
      ],
      [
        'another authority',
        byCertificate,
        { ...client, authority: house.read('other-cert.pem') },
        /certificate verify failed: .*(issuer|self-signed)/,
      ],
      ['nobody vouches for it', byCertificate, { ...client, authority: null }, /certificate verify failed/],
      [
        'another name',
        byCertificate,
        { ...client, serverName: 'other.example' },
        /certificate verify failed: hostname mismatch/i,
      ],
      [
        'another key',
        byKey,
        { ...psk, psk: new Map([['weft', 'ab'.repeat(32)]]) },
        /TLS: .*accept our certificate or key/,
      ],
      [
        'unknown to it',
        byKey,
        { ...psk, psk: new Map([['nobody', KEY]]) },
        /TLS: .*accept our certificate or key/,
      ],
      [
        'an identity without a key',
        byKey,
        { ...psk, pskIdentity: 'nobody' },
        /no pre-shared key is of identity "nobody"/,
      ],
      [
        'no certificate of ours',
        byCertificate,
        { ...client, certificate: null, key: null },
        /closed|certificate|lost/,
      ],
      ['ours is no PEM', byCertificate, { ...client, certificate: 'x' }, /is no certificate in PEM/],
    ];
    for (const [what, command, tls, words] of cases) {
      const said = refusal(make(command, { tls }));
      t.match(said, words, what);
      t.notMatch(said, /0011223344|abababab|PRIVATE/, 'and nothing that is secret');
    }
  });

  void t.test('a certificate that is not valid any more', async t => {
    const dated = fs.mkdtempSync(`${room}/late-`);
    for (const [from, to] of [
      ['ca-cert.pem', 'ca-cert.pem'],
      ['late-cert.pem', 'server-cert.pem'],
      ['late-key.pem', 'server-key.pem'],
    ] as const)
      fs.copyFileSync(`${room}/${from}`, `${dated}/${to}`);
    const command = kit('--tls=require', `--tls-certificates=${dated}`);
    t.match(refusal(make(command, { tls: client })), /certificate has expired/);
  });

  void t.test('certificates that come while the volume is open count for the next connection', async t => {
    const examined = make(byCertificate, { tls: { ...client, authority: house.read('other-cert.pem') } });
    for (let i = 0; i < 30_000 && examined.volume.state === 'ok'; i++) examined.turn();
    t.match(examined.volume.reason, /certificate verify failed/);
    examined.remoteTls.set('near', client);
    examined.remoteTls.set('far', client);
    for (let i = 0; i < 30_000 && examined.volume.state !== 'ok'; i++) examined.turn();
    t.equal(examined.volume.state, 'ok');
    t.equal(write(examined, 0, new Uint8Array(4096).fill(7)), 0);
    t.equal(read(examined, 0, 4096)[0], 7);
    examined.close();
  });

  for (const [name, command, tls] of [
    ['certificates', byCertificate, client],
    ['a pre-shared key', byKey, psk],
  ] as const)
    void t.test(`killed and started again under load, with ${name}`, async t => {
      const examined = make(command, { connections: 4, tls });
      t.teardown(() => examined.close());
      const model = Buffer.alloc(EXAM_BYTES);
      for (let round = 0; round < 40; round++) {
        const offset = (round * 97_003) % (EXAM_BYTES - 300_000);
        const bytes = new Uint8Array(1 + ((round * 7919) % 300_000)).fill(round + 1);
        if (round % 12 === 5) examined.server.kill();
        if (round % 12 === 5) examined.server.start();
        t.equal(write(examined, offset, bytes), 0);
        model.set(bytes, offset);
      }
      t.equal(
        waitFor(examined, waiter => examined.volume.flush(waiter, 7)),
        0,
      );
      t.equal(Buffer.compare(read(examined, 0, 3 * MiB), model.subarray(0, 3 * MiB)), 0);
      t.equal(Buffer.compare(fs.readFileSync(examined.server.file), model), 0, 'all of it is in the file');
      t.equal(examined.volume.state, 'ok');
    });
}

if (skip === false) {
  const house = new Certificates();
  t.teardown(() => house.remove());
  tests(house);
} else void t.test('TLS', { skip }, async () => undefined);
