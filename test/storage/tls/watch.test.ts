/** Files of certificates and keys that are exchanged while somebody uses them: what counts, and what is said of those that cannot be used. */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import t from 'tap';
import { TlsWatch } from '../../../storage/tls/watch.js';
import { Certificates } from '../remote/certificates.js';

const skip = spawnSync('openssl', ['version']).status === 0 ? false : 'openssl is not installed';

void t.test('files that change', { skip }, async t => {
  const house = new Certificates();
  t.teardown(() => house.remove());
  const at = (name: string): string => path.join(house.room, name);
  for (const side of ['client', 'server'] as const) {
    const files = {
      certificate: at(`${side}-cert.pem`),
      key: at(`${side}-key.pem`),
      authority: at('ca-cert.pem'),
    };
    const [certificate, key] = [house.read(`${side}-cert.pem`), house.read(`${side}-key.pem`)];
    const watch = new TlsWatch(side, files, 'disks.example');
    const first = watch.opening;
    t.match(first, { certificate, key, serverName: 'disks.example' });
    t.notOk(watch.look());
    t.equal(watch.opening, first, 'the same object while nothing changed');

    // The one before the other, as a script writes them: together they cannot be used.
    fs.writeFileSync(at(`${side}-cert.pem`), house.read('late-cert.pem'));
    t.notOk(watch.look());
    t.match(watch.reason, /the private key is not that of the certificate/);
    t.equal(watch.opening, first);
    fs.rmSync(at(`${side}-key.pem`));
    t.notOk(watch.look());
    t.match(watch.reason, /key\.pem cannot be read: ENOENT/);
    fs.writeFileSync(at(`${side}-key.pem`), house.read('late-key.pem'), { mode: 0o644 });
    t.notOk(watch.look());
    t.match(watch.reason, /everyone may read it/);
    fs.chmodSync(at(`${side}-key.pem`), 0o600);
    t.ok(watch.look());
    t.equal(watch.reason, null);
    t.equal(watch.opening.certificate, house.read('late-cert.pem'));

    t.ok(watch.look({ psk: house.keys }), 'other files');
    t.equal(watch.opening.certificate, null);
    t.throws(
      () => new TlsWatch(side, { authority: at('none.pem') }, null),
      /none\.pem cannot be read: ENOENT/,
    );
    fs.writeFileSync(at(`${side}-cert.pem`), certificate);
    fs.writeFileSync(at(`${side}-key.pem`), key);
  }
});
