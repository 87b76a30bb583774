/**
 * The quickstart without root: the same three guests on Unix sockets alone, everything owned by one ordinary user.
 *
 *   user 65534: quickstart, weftd, weft-dataplane, weft-storage, three QEMUs --- in a state directory of the user's
 *
 * lab: guests
 */
import { chownSync, mkdirSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import t from 'tap';
import { FABRIC_NEEDS, Fabric, PROJECT_DIRECTORY } from './harness/fabric.js';
import { Lab } from './harness/lab.js';
import { missing } from './harness/needs.js';

t.setTimeout(600_000);

/** nobody:nogroup on Debian; a user without rights by any name. */
const USER = 65_534;
const AS_USER = ['setpriv', `--reuid=${USER}`, `--regid=${USER}`, '--clear-groups', '--no-new-privs', '--'];

const skip = missing({ ...FABRIC_NEEDS, programs: [...(FABRIC_NEEDS.programs ?? []), 'setpriv'] });

await t.test('an ordinary user brings up the quickstart', { skip }, async t => {
  const lab = Lab.open();
  t.teardown(() => lab.close());
  const home = lab.path('home');
  mkdirSync(home, { mode: 0o700 });
  chownSync(home, USER, USER);
  const fabric = new Fabric(lab, lab.path('home', 's'));
  const project = pathToFileURL(`${await lab.seenByAll(PROJECT_DIRECTORY)}/`).href;

  const ended = await fabric.quickstart({ once: true, as: ['env', `HOME=${home}`, ...AS_USER], project })
    .ended;
  const shown = ended.stdout + ended.stderr;
  t.equal(ended.status, 0, 'it ended by itself', { shown: shown.slice(-4000) });
  t.match(shown, /alice and bob reach each other/);
  t.match(shown, /alice and carol are kept apart/);
  for (const name of ['alice', 'bob', 'carol'])
    t.match(shown, new RegExp(`disk vda of ${name}: formatted, written`));
  t.same(fabric.processes(), [], 'no process is left');
  t.same(fabric.sockets(), [], 'no socket is left');
});
