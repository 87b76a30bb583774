/** A session over TLS with nbdkit: by certificates, and by a pre-shared key; and what is refused. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import * as path from 'node:path';
import t, { type Test } from 'tap';
import { connect } from '../../../storage/remote/session.js';
import type { TlsOpening } from '../../../storage/volume/opening.js';
import { eventually } from '../plane.js';
import { Certificates, KEY, NO_TLS as NONE } from './certificates.js';
import { isListening } from '../../listening.js';

const missing = [['nbdkit', '--version'] as const, ['openssl', 'version'] as const].find(
  ([program, argument]) => spawnSync(program, [argument]).status !== 0,
);
const skip = missing === undefined ? false : `${missing[0]} is not installed`;

function makeHouse(t: Test): Certificates {
  const house = new Certificates();
  t.teardown(() => house.remove());
  return house;
}

async function serve(t: Test, room: string, ...settings: string[]): Promise<{ kind: 'unix'; path: string }> {
  const socket = path.join(room, 'sock');
  const child: ChildProcess = spawn(
    'nbdkit',
    ['-f', '-U', socket, '--tls=require', ...settings, 'memory', '8M'],
    {
      stdio: 'ignore',
    },
  );
  t.teardown(() => child.kill('SIGKILL'));
  await eventually('nbdkit listens', () => isListening(socket));
  return { kind: 'unix', path: socket };
}

async function works(t: Test, address: { kind: 'unix'; path: string }, tls: TlsOpening): Promise<void> {
  const session = await connect(address, '', tls);
  const bytes = new Uint8Array(300_000).fill(7);
  await session.write(4096, bytes);
  const back = new Uint8Array(300_000);
  await session.read(4096, back);
  t.ok(Buffer.compare(bytes, back) === 0);
  await session.close();
}

void t.test('certificates', { skip }, async t => {
  const house = makeHouse(t);
  const { room, client: tls } = house;
  const address = await serve(t, room, `--tls-certificates=${room}`, '--tls-verify-peer');
  await works(t, address, tls);
  await works(t, address, { ...tls, serverName: null });
  const refused = { code: 'REMOTE_REFUSED' };
  await t.rejects(connect(address, '', null), { ...refused, message: /wants TLS/ });
  await t.rejects(connect(address, '', { ...tls, serverName: 'other.example' }), {
    ...refused,
    message: /TLS: certificate verify failed: hostname mismatch/i,
  });
  await t.rejects(connect(address, '', { ...tls, authority: null }), refused, 'nobody vouches for it');
  await t.rejects(
    connect(address, '', { ...tls, certificate: null, key: null }).then(async session => {
      // In TLS 1.3 a client learns only afterwards that it was not wanted.
      await session.read(0, new Uint8Array(512));
    }),
    'we show no certificate',
  );
});

void t.test('a pre-shared key', { skip }, async t => {
  const { room, keys } = makeHouse(t);
  const address = await serve(t, room, `--tls-psk=${keys}`);
  await works(t, address, { ...NONE, psk: new Map([['weft', KEY]]) });
  await works(t, address, {
    ...NONE,
    psk: new Map([
      ['x', KEY],
      ['weft', KEY],
    ]),
    pskIdentity: 'weft',
  });
  await t.rejects(connect(address, '', { ...NONE, psk: new Map([['weft', 'ab'.repeat(32)]]) }), {
    code: 'REMOTE_REFUSED',
  });
});
