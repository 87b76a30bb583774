/** What other NBD servers say that they offer: bytes of made-up servers, qemu-nbd, nbdkit, ourselves with many names, and TLS refused. */
import { spawn, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import t from 'tap';
import { RemoteExports } from '../../../storage/contract.js';
import * as wire from '../../../storage/nbd/wire.js';
import { ClientListing, INFO_LIMIT, NAMES_LIMIT } from '../../../storage/remote/clientListing.js';
import { listExports } from '../../../storage/remote/session.js';
import { Plane, eventually } from '../plane.js';

const MiB = 1024 * 1024;
const { LIST, INFO, STARTTLS } = wire.NBD_OPT;
const { ACK, SERVER } = wire.NBD_REP;
const reply = wire.optionReply;

function said(tls: boolean, ...bytes: Uint8Array[]): ClientListing {
  const listing = new ClientListing({ tls });
  listing.step(Uint8Array.from(Buffer.concat([wire.greeting(), ...bytes])), []);
  return listing;
}

void t.test('servers of straw', async t => {
  const names = (count: number): Uint8Array[] =>
    Array.from({ length: count }, (_, i) => reply(LIST, SERVER, wire.serverRecord(`n${i}`)));
  const many = said(false, ...names(NAMES_LIMIT + 5), reply(LIST, ACK), reply(INFO, wire.NBD_REP.ERR_UNSUP));
  t.equal(many.agreed?.exports.length, NAMES_LIMIT);
  t.equal(many.agreed?.isCut, true);

  const info = [reply(INFO, wire.NBD_REP.INFO, wire.infoExport(4096, 3)), reply(INFO, ACK)];
  const asked = Array.from({ length: INFO_LIMIT }, () => info).flat();
  const sized = said(false, ...names(INFO_LIMIT + 1), reply(LIST, ACK), ...asked).agreed?.exports;
  t.match(sized?.[INFO_LIMIT - 1], { size_bytes: 4096, readOnly: true });
  t.match(sized?.[INFO_LIMIT], { size_bytes: null }, 'not asked any more');

  t.match(said(false, reply(LIST, wire.NBD_REP.ERR_POLICY)).refused, /does not list.*its rules forbid it/);
  t.match(said(false, reply(LIST, wire.NBD_REP.ERR_TLS_REQD)).refused, /it wants TLS/);
  t.match(said(true, reply(STARTTLS, wire.NBD_REP.ERR_UNSUP)).refused, /TLS was asked for/);
  t.match(said(true, reply(STARTTLS, ACK), reply(LIST, ACK)).refused, /in plain text/);
  t.match(said(false, reply(LIST, SERVER, Uint8Array.of(0, 0, 0, 9, 65))).refused, /cut short/);
  const strange = said(false, reply(LIST, SERVER, Uint8Array.of(0, 0, 0, 1, 0xff)), reply(LIST, ACK));
  t.same(strange.agreed, { exports: [], isCut: true }, 'a name that is no UTF-8');
});

for (const [program, options] of [
  ['nbdkit', ['-f', '-r', '-e', 'some', '-U']],
  ['qemu-nbd', ['-t', '-r', '-f', 'raw', '-x', 'some', '-D', 'a disk', '-k']],
] as const)
  void t.test(
    program,
    { skip: spawnSync(program, ['--version']).status === 0 ? false : `${program} is not installed` },
    async t => {
      const directory = fs.mkdtempSync('/tmp/weft-listing-');
      const [file, path] = [`${directory}/f`, `${directory}/s`];
      fs.writeFileSync(file, '');
      fs.truncateSync(file, MiB);
      const how = program === 'nbdkit' ? [path, 'file', file] : [path, file];
      const child = spawn(program, [...options, ...how], { stdio: 'ignore' });
      t.teardown(() => {
        child.kill('SIGKILL');
        fs.rmSync(directory, { recursive: true });
      });
      await eventually('it listens', () => fs.existsSync(path));
      const { exports, isCut } = await listExports({ kind: 'unix', path }, null);
      t.equal(isCut, false);
      t.equal(exports.length, 1);
      t.match(exports[0], { size_bytes: MiB, readOnly: true, reason: null });
      if (program === 'qemu-nbd') t.match(exports[0], { name: 'some', description: 'a disk' });
    },
  );

void t.test('a pool of kind remote says what its server offers', async t => {
  const far = await Plane.start(t);
  const volumes = ['one', 'two', 'drei'];
  const pools = [{ name: 'p', directory: far.path('pool') }];
  const socket = { kind: 'unix' as const, path: far.path('far.sock') };
  const exports = volumes.map(volume => ({
    name: volume,
    nbdName: `${volume}/ü`,
    description: `the ${volume}`,
    pool: 'p',
    volume,
    readOnly: volume === 'two',
    listen: [socket],
  }));
  const first = await far.ask('PUT', '/config', { generation: 1, pools, exports: [] });
  t.equal(first.status, 200);
  for (const volume of volumes)
    await far.ask('PUT', `/pools/p/volumes/${volume}`, { size_bytes: volume === 'one' ? MiB : 2 * MiB });
  await far.ask('PUT', '/config', { generation: 2, pools, exports });

  const near = await Plane.start(t);
  const nowhere = { kind: 'unix' as const, path: near.path('none.sock') };
  const remotes = [
    { name: 'far', remote: { server: socket } },
    { name: 'away', remote: { server: nowhere } },
    { name: 'p', directory: near.path('pool') },
  ];
  t.equal((await near.ask('PUT', '/config', { generation: 1, pools: remotes, exports: [] })).status, 200);
  const answer = RemoteExports.parse((await near.ask('GET', '/pools/far/exports')).body);
  t.same(
    answer.exports
      .toSorted((a, b) => (a.name < b.name ? -1 : 1))
      .map(one => [one.name, one.description, one.size_bytes, one.readOnly]),
    [
      ['drei/ü', 'the drei', 2 * MiB, false],
      ['one/ü', 'the one', MiB, false],
      ['two/ü', 'the two', 2 * MiB, true],
    ],
  );
  t.equal(answer.isCut, false);
  t.match(await near.ask('GET', '/pools/away/exports'), {
    status: 502,
    body: { error: { code: 'REMOTE_UNREACHABLE', message: /none\.sock/ } },
  });
  t.match(await near.ask('GET', '/pools/p/exports'), { status: 409, body: { error: { code: 'POOL_KIND' } } });
  t.match(await near.ask('GET', '/pools/x/exports'), { status: 404 });
});
