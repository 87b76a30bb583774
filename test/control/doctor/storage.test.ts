/** What the doctor says of pools, certificates and keys: facts judged, and real files looked at. */
import t from 'tap';
import { execFileSync, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { judgeStorage } from '../../../control/doctor/storage/checks.js';
import type { FileFacts, PoolFacts, StorageFacts } from '../../../control/doctor/storage/checks.js';
import { collectStorageFacts } from '../../../control/doctor/storage/process.js';
import { layoutOf } from '../../../control/model/layout.js';
import { emptySpecs, readSpec, setSpec } from '../../../control/model/resource.js';
import type { Kind } from '../../../control/model/spec.js';
import { fallocate, punchHole } from '../../../host/file.js';

const giveBack = (fd: number, length_bytes: number): boolean => {
  fallocate(fd, 0, length_bytes);
  return punchHole(fd, 0, length_bytes);
};
const NOW_MS = Date.UTC(2026, 10, 21);
const DAY_MS = 86_400_000;
const POOL: PoolFacts = {
  name: 'main',
  directory: '/p',
  lowSpace_percent: 10,
  problem: null,
  fileSystem: 'ext4',
  free_bytes: 500,
  capacity_bytes: 1000,
  sparse: true,
  punchHole: true,
  isOpenToOthers: false,
  ownerUid: 0,
};
const FILE: FileFacts = {
  path: '/k',
  holds: 'key',
  by: 'export "db"',
  problem: null,
  mode: 0o600,
  ownerUid: 0,
  endsAt_ms: null,
};
const GOOD: StorageFacts = {
  uid: 0,
  now_ms: NOW_MS,
  lastWritten_ms: NOW_MS - 1,
  openFilesMax: 2 ** 20,
  pools: [POOL],
  files: [FILE],
};

function faults(change: Partial<StorageFacts>) {
  return judgeStorage({ ...GOOD, ...change }).filter(({ status }) => status !== 'ok');
}
const ofPool = (change: Partial<PoolFacts>) => faults({ pools: [{ ...POOL, ...change }] });
const ofFile = (change: Partial<FileFacts>) => faults({ files: [{ ...FILE, ...change }] });

await t.test('each thing that can be wrong is told, and what to do', async t => {
  t.same(faults({}), []);
  t.same(ofPool({ sparse: null, punchHole: null, ownerUid: null }), [], 'a pool that is not made yet');
  t.match(ofPool({ problem: 'is not a directory' }), [{ status: 'missing', found: /is not a directory/ }]);
  t.match(ofPool({ sparse: false }), [{ status: 'warning', advice: /whole size/ }]);
  t.match(ofPool({ punchHole: false }), [{ status: 'warning', advice: /trim/ }]);
  t.match(ofPool({ free_bytes: 99 }), [{ status: 'warning', advice: /9\.9 % are free/ }]);
  t.match(ofPool({ isOpenToOthers: true }), [{ status: 'warning', advice: /chmod o=/ }]);
  t.match(faults({ uid: 7, pools: [POOL], files: [] }), [{ advice: /user 0's, and weft runs as user 7/ }]);

  t.match(ofFile({ problem: 'is not there' }), [{ status: 'missing', found: /is not there/ }]);
  t.match(ofFile({ mode: 0o604 }), [{ status: 'missing', advice: /chmod o=/ }]);
  t.match(ofFile({ mode: 0o640 }), [{ status: 'warning', advice: /chmod 600/ }]);
  t.match(ofFile({ ownerUid: 9 }), [{ status: 'warning', advice: /user 9's/ }]);
  t.same(ofFile({ holds: 'certificate', mode: 0o644 }), [], 'a certificate is for everybody');
  const ends = (days: number) => ofFile({ holds: 'certificate', endsAt_ms: NOW_MS + days * DAY_MS });
  t.same(ends(31), []);
  t.match(ends(29), [{ status: 'warning', advice: /in 29 days/ }]);
  t.match(ends(-1), [{ status: 'missing', found: /ended on 2026-11-20/ }]);

  t.match(faults({ now_ms: 0, lastWritten_ms: null }), [{ name: 'clock', advice: /never set/ }]);
  t.match(faults({ lastWritten_ms: NOW_MS + DAY_MS }), [{ name: 'clock', advice: /gone back/ }]);
  t.match(faults({ openFilesMax: 1024 }), [{ name: 'open files', status: 'warning' }]);
});

await t.test('files and directories as they are', async t => {
  const home = t.testdir({ pool: {}, file: 'x', 'garbage.pem': 'x', 'short.key': 'x' });
  const at = (name: string) => join(home, name);
  fs.chmodSync(at('pool'), 0o700);
  fs.writeFileSync(at('keys.psk'), 'bob:00ff\n', { mode: 0o600 });
  fs.writeFileSync(at('bad.psk'), 'bob\n', { mode: 0o600 });
  const specs = emptySpecs();
  const add = (kind: Kind, name: string, written: unknown) =>
    setSpec(specs, kind, name, readSpec(kind, written));
  add('pool', 'main', { directory: at('pool') });
  add('pool', 'file', { directory: at('file') });
  add('pool', 'later', { directory: at('none/yet') });
  add('pool', 'far', { remote: { tcp: { host: 'h', port: 1 }, tls: { authority: at('none.pem') } } });
  add('volume', 'v', { pool: 'main', size: '1MiB', encryption: { keyFile: at('short.key') } });
  const tcp = { host: '127.0.0.1', port: 1 };
  add('export', 'a', { volume: 'v', tcp, tls: { psk: at('keys.psk') } });
  add('export', 'b', { volume: 'v', tcp, tls: { psk: at('bad.psk') } });
  add('export', 'c', {
    volume: 'v',
    tcp,
    tls: { certificate: at('garbage.pem'), key: at('garbage.pem') },
  });
  const facts = collectStorageFacts(layoutOf(home), specs, giveBack);
  const pool = (name: string) => facts.pools.find(one => one.name === name);
  t.match(pool('main'), { problem: null, sparse: true, punchHole: true, isOpenToOthers: false });
  t.match(pool('file'), { problem: 'is not a directory' });
  t.match(pool('later'), { problem: null, sparse: null, ownerUid: null });
  t.equal(pool('far'), undefined);
  const file = (name: string, holds: string) =>
    facts.files.find(one => one.path === at(name) && one.holds === holds)?.problem;
  t.equal(file('keys.psk', 'psk'), null);
  t.match(file('bad.psk', 'psk'), /identity:hex/);
  t.match(file('short.key', 'secret'), /shorter/);
  t.match(file('none.pem', 'authority'), /is not there/);
  t.match(file('garbage.pem', 'certificate'), /no certificate/);
  t.match(file('garbage.pem', 'key'), /not a key/);
  t.ok(facts.openFilesMax > 0);
  t.same(fs.readdirSync(at('pool')), [], 'nothing is left of the trial');
});

const skip = spawnSync('openssl', ['version']).status === 0 ? false : 'needs openssl (Debian: openssl)';

await t.test('a key that belongs to another certificate; when one ends', { skip }, async t => {
  const home = t.testdir({});
  const make = (name: string, days: number) => {
    const files = ['-keyout', `${name}.key`, '-out', `${name}.pem`];
    const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
    execFileSync('openssl', ['req', '-x509', ...kind, ...files, '-days', `${days}`, '-subj', `/CN=${name}`], {
      cwd: home,
      stdio: 'ignore',
    });
  };
  make('a', 5);
  make('b', 50);
  const specs = emptySpecs();
  for (const [name, key] of [
    ['right', 'a.key'],
    ['wrong', 'b.key'],
  ] as const) {
    const tls = { certificate: join(home, 'a.pem'), key: join(home, key) };
    const spec = readSpec('export', { volume: 'v', tcp: { host: '::1', port: 1 }, tls });
    setSpec(specs, 'export', name, spec);
  }
  const { files } = collectStorageFacts(layoutOf(home), specs, giveBack);
  const keys = files.filter(({ holds }) => holds === 'key');
  t.match(keys, [{ problem: null }, { problem: /does not belong to .*a\.pem/ }]);
  const end_ms = files.find(({ holds }) => holds === 'certificate')?.endsAt_ms ?? 0;
  t.ok(Math.abs(end_ms - Date.now() - 5 * DAY_MS) < DAY_MS);
});
