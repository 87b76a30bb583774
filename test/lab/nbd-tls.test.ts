/**
 * TLS with other people's clients and servers: certificates and keys made by `weft tls`, weft-storage as server and as client.
 *
 *   nbdinfo nbdcopy qemu-img qemu-io ---TLS on TCP--- weft-storage --- pool
 *                            weft-storage (pool "far") ---TLS on TCP--- nbdkit, or the one above
 *
 * Who may not come in gets nothing: not a list, not a size.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { WEFT } from './harness/fabric.js';
import { Lab } from './harness/lab.js';
import { missing } from './harness/needs.js';
import { freePort } from './harness/ports.js';
import { eventually, run } from './harness/processes.js';
import { sha256 } from './harness/volumes.js';
import { Storage } from './harness/weft.js';

t.setTimeout(600_000);

const MIB = 2 ** 20;
const SIZE_BYTES = 8 * MIB;
const programs = ['openssl', 'nbdinfo', 'nbdcopy', 'qemu-img', 'qemu-io'];
const skip = missing({ programs });

interface House {
  lab: Lab;
  plane: Storage;
  /** Where certificates and keys are. */
  pki: string;
  ports: { x509: number; psk: number; anyone: number };
  tls: { certificate: string; key: string; authority: string };
}

async function open(t: Test): Promise<House> {
  const lab = Lab.open();
  t.teardown(() => lab.close());
  const pki = lab.path('pki');
  const weft = (...args: string[]) => run([process.execPath, WEFT, 'tls', ...args]);
  await weft('server', pki, 'localhost', '127.0.0.1');
  for (const name of ['alice', 'mallory']) await weft('client', pki, name);
  // An authority that nobody here believes, with a client of the right name.
  await weft('client', lab.path('other'), 'alice');
  await run(['mkdir', '-p', lab.path('psk'), lab.path('wrong')]);
  for (const name of ['bob', 'eve']) await weft('psk', lab.path('psk/keys.psk'), name);
  await weft('psk', lab.path('wrong/keys.psk'), 'bob');
  const ports = { x509: await freePort(), psk: await freePort(), anyone: await freePort() };
  const tls = {
    certificate: `${pki}/server-cert.pem`,
    key: `${pki}/server-key.pem`,
    authority: `${pki}/ca-cert.pem`,
  };
  const plane = await Storage.start(lab);
  const pools = [{ name: 'p', directory: lab.path('pool') }];
  await plane.configure({ pools, exports: [] });
  await plane.makeVolume('p', 'v', SIZE_BYTES);
  const at = (port: number) => ({ kind: 'tcp' as const, host: '127.0.0.1', port });
  const common = { pool: 'p', volume: 'v', nbdName: 'disk', readOnly: false };
  await plane.configure({
    pools,
    exports: [
      {
        ...common,
        name: 'x509',
        allow: { identities: ['alice'] },
        // The second address is not in the certificate.
        listen: [
          { ...at(ports.x509), tls },
          { ...at(ports.x509), host: '127.0.0.2', tls },
        ],
      },
      {
        ...common,
        name: 'psk',
        allow: { identities: ['bob'] },
        listen: [{ ...at(ports.psk), tls: { psk: lab.path('psk/keys.psk') } }],
      },
      {
        ...common,
        name: 'anyone',
        listen: [{ ...at(ports.anyone), tls: { certificate: tls.certificate, key: tls.key } }],
      },
    ],
  });
  return { lab, plane, pki, ports, tls };
}

await t.test("libnbd's tools: in with a certificate or a key, and data whole", { skip }, async t => {
  const { lab, pki, ports } = await open(t);
  const x509 = (client: string): string => `nbds://localhost:${ports.x509}/disk?tls-certificates=${client}`;
  const psk = (who: string, file = 'psk'): string =>
    `nbds://${who}@localhost:${ports.psk}/disk?tls-psk-file=${lab.path(`${file}/keys.psk`)}`;
  const alice = x509(`${pki}/clients/alice`);
  for (const uri of [
    alice,
    psk('bob'),
    `nbds://localhost:${ports.anyone}/disk?tls-certificates=${pki}/clients/alice`,
  ]) {
    const { exports, protocol, TLS } = JSON.parse((await run(['nbdinfo', '--json', uri])).stdout) as {
      protocol: string;
      TLS: boolean;
      exports: Record<string, unknown>[];
    };
    t.match(protocol, /^newstyle-fixed/);
    t.equal(TLS, true);
    t.match(exports[0], { 'export-size': SIZE_BYTES, is_read_only: false, can_multi_conn: true });
  }
  const content = randomBytes(SIZE_BYTES);
  writeFileSync(lab.path('in'), content);
  for (const [index, uri] of [alice, psk('bob')].entries()) {
    content.writeUInt32LE(index, MIB);
    writeFileSync(lab.path('in'), content);
    await run(['nbdcopy', '--flush', '--connections=4', '--requests=32', lab.path('in'), uri]);
    await run(['nbdcopy', '--connections=4', '--requests=32', uri, lab.path('out')]);
    t.equal(sha256(readFileSync(lab.path('out'))), sha256(content), uri);
  }

  const refused: [string, string][] = [
    ['in plain', `nbd://localhost:${ports.x509}/disk`],
    ['without a certificate', x509(await onlyAuthority(lab, pki))],
    ['by another authority', x509(await strange(lab, pki))],
    ['by a name that is not allowed', x509(`${pki}/clients/mallory`)],
    ['with a key that is not allowed', psk('eve')],
    ['with the wrong key', psk('bob', 'wrong')],
    ['with no such identity', psk('nobody')],
    ['in plain, where keys are wanted', `nbd://localhost:${ports.psk}/disk`],
    ['in plain, where anyone may come', `nbd://localhost:${ports.anyone}/disk`],
  ];
  for (const [how, uri] of refused) {
    const { status, stdout } = await run(['nbdinfo', '--size', uri], { mayFail: true });
    t.not(status, 0, how);
    t.notMatch(stdout, String(SIZE_BYTES), how);
  }
  const plain = await run(['nbdinfo', '--list', `nbd://localhost:${ports.x509}`], { mayFail: true });
  t.notMatch(plain.stdout, 'disk', 'nor a list');
  const eve = await run(['nbdinfo', '--list', psk('eve').replace('/disk', '/')], { mayFail: true });
  t.notMatch(eve.stdout, '"disk"', 'nor one for a stranger with a key');
  t.equal((await run(['nbdinfo', '--size', alice])).stdout.trim(), String(SIZE_BYTES), 'and it still serves');
});

await t.test("QEMU's tools, by certificate and by key", { skip }, async t => {
  const { lab, pki, ports } = await open(t);
  const of = (object: string, port: number): string[] => [
    '--object',
    `${object},id=t,endpoint=client`,
    '--image-opts',
    `driver=nbd,host=localhost,port=${port},export=disk,tls-creds=t`,
  ];
  const ways = [
    of(`tls-creds-x509,dir=${pki}/clients/alice,verify-peer=on`, ports.x509),
    of(`tls-creds-psk,dir=${lab.path('psk')},username=bob`, ports.psk),
  ];
  for (const [index, way] of ways.entries()) {
    const io = (...commands: string[]) =>
      run(['qemu-io', ...way.slice(0, 2), ...commands.flatMap(one => ['-c', one]), ...way.slice(2)], {
        mayFail: true,
      });
    const pattern = 0x11 * (index + 1);
    const wrote = await io(
      `write -P ${pattern} 1M 3M`,
      `write -f -P ${pattern} 513 1000`,
      'discard 6M 1M',
      'flush',
    );
    t.equal(wrote.status, 0, wrote.stdout + wrote.stderr);
    const read = await io(`read -P ${pattern} 1M 3M`, `read -P ${pattern} 513 1000`, 'read -P 0 6M 1M');
    t.equal(read.status, 0);
    t.notMatch(read.stdout, /verification failed/);
    const converted = await run(['qemu-img', 'convert', '-O', 'raw', ...way, lab.path(`out${index}`)]);
    t.equal(converted.status, 0);
  }
  t.not(sha256(readFileSync(lab.path('out0'))), sha256(readFileSync(lab.path('out1'))));
  const bad = of(`tls-creds-psk,dir=${lab.path('wrong')},username=bob`, ports.psk);
  t.not((await run(['qemu-img', 'info', ...bad], { mayFail: true })).status, 0, 'the wrong key');
});

const toNbdkit = missing({ programs: [...programs, 'nbdkit'] });
await t.test('a pool on another server, by TLS: nbdkit, and ourselves', { skip: toNbdkit }, async t => {
  const { lab, pki, ports } = await open(t);
  await run(['truncate', '-s', String(SIZE_BYTES), lab.path('far.img')]);
  const nbdkitPort = await freePort();
  const nbdkit = lab.start([
    'nbdkit',
    '-f',
    '-p',
    String(nbdkitPort),
    '-i',
    '127.0.0.1',
    '--tls=require',
    `--tls-certificates=${pki}`,
    '--tls-verify-peer',
    'file',
    lab.path('far.img'),
  ]);
  await eventually('nbdkit to listen', async () => {
    if (!nbdkit.isRunning) throw new Error(nbdkit.stderr);
    const uri = `nbds://localhost:${nbdkitPort}/?tls-certificates=${pki}/clients/alice`;
    return (await run(['nbdinfo', '--size', uri], { mayFail: true })).status === 0 ? true : null;
  });
  const own = `${pki}/clients/alice`;
  const client = {
    certificate: `${own}/client-cert.pem`,
    key: `${own}/client-key.pem`,
    authority: `${own}/ca-cert.pem`,
  };
  const second = await Storage.start(lab, { socket: lab.path('second.sock') });
  const server = (port: number) => ({ kind: 'tcp' as const, host: 'localhost', port });
  const path = (name: string): string => lab.path(`${name}.nbd`);
  const pools = [
    { name: 'kit', remote: { server: server(nbdkitPort), tls: client } },
    { name: 'weft', remote: { server: server(ports.x509), tls: client, connections: 2 } },
    {
      name: 'keys',
      remote: { server: server(ports.psk), tls: { psk: lab.path('psk/keys.psk'), pskIdentity: 'bob' } },
    },
  ];
  const config = {
    pools,
    volumes: [
      { pool: 'kit', name: 'v', remoteName: '' },
      { pool: 'weft', name: 'v', remoteName: 'disk' },
      { pool: 'keys', name: 'v', remoteName: 'disk' },
    ],
    exports: pools.map(({ name }) => ({
      name,
      nbdName: name,
      pool: name,
      volume: 'v',
      readOnly: false,
      listen: [{ kind: 'unix' as const, path: path(name) }],
    })),
  };
  // Others' servers are asked in the background.
  await eventually('the pools to be open', async () =>
    second.configure(config).then(
      () => true,
      () => null,
    ),
  );
  for (const [index, { name }] of pools.entries()) {
    const uri = `nbd+unix:///${name}?socket=${path(name)}`;
    const content = randomBytes(SIZE_BYTES);
    writeFileSync(lab.path('in'), content);
    await run(['nbdcopy', '--flush', '--requests=16', lab.path('in'), uri]);
    await run(['nbdcopy', '--requests=16', uri, lab.path('out')]);
    t.equal(sha256(readFileSync(lab.path('out'))), sha256(content), name);
    if (index === 0) t.equal(sha256(readFileSync(lab.path('far.img'))), sha256(content), 'it is there');
  }

  // Whoever is not the server that was meant, or does not let us in, gets no data and gives none.
  const wrong = [
    { name: 'impostor', remote: { server: { ...server(ports.x509), host: '127.0.0.2' }, tls: client } },
    { name: 'plain', remote: { server: server(ports.x509) } },
    { name: 'stranger', remote: { server: server(ports.x509), tls: { authority: client.authority } } },
    {
      name: 'keyless',
      remote: { server: server(ports.psk), tls: { psk: lab.path('wrong/keys.psk'), pskIdentity: 'bob' } },
    },
  ];
  const asked = {
    pools: wrong,
    volumes: wrong.map(({ name }) => ({ pool: name, name: 'v', remoteName: 'disk' })),
    exports: wrong.map(({ name }) => ({ ...config.exports[0]!, name, nbdName: name, pool: name })),
  };
  await t.rejects(second.configure(asked));
  const refusals = await eventually('why they are refused', async () => {
    const { volumes, exports } = await second.status();
    const reasons = wrong.map(
      ({ name }) =>
        exports.find(one => one.name === name)?.reason ??
        volumes.find(one => one.pool === name)?.reason ??
        null,
    );
    return reasons.every(reason => reason !== null && !reason.includes('not yet')) ? reasons : null;
  });
  t.comment(refusals.join(' | '));
  t.notMatch(refusals.join(' '), /[0-9a-f]{32}|PRIVATE/, 'no key is in the words');
  for (const { name } of wrong) {
    const uri = `nbd+unix:///${name}?socket=${path('kit')}`;
    t.not((await run(['nbdinfo', '--size', uri], { mayFail: true })).status, 0, name);
  }
});

/** What a client has that believes us, and shows nothing. */
async function onlyAuthority(lab: Lab, pki: string): Promise<string> {
  await run(['mkdir', '-p', lab.path('bare')]);
  await run(['cp', `${pki}/ca-cert.pem`, lab.path('bare')]);
  return lab.path('bare');
}

/** Believes us, and shows a certificate of an authority that we do not believe. */
async function strange(lab: Lab, pki: string): Promise<string> {
  await run(['cp', `${pki}/ca-cert.pem`, lab.path('other/clients/alice/ca-cert.pem')]);
  return lab.path('other/clients/alice');
}
