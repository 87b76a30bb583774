/** Which state directory is meant: ARCHITECTURE.md's rule. */
import t from 'tap';
import { stateDirectory, statePaths } from '../../cli/state.js';

const around = (extra: object) => ({ env: {}, cwd: '/here', uid: 1000, home: '/home/me', ...extra });

await t.test('option, environment, root, XDG, home, in this order', async t => {
  const env = { WEFT_STATE: '/env', XDG_STATE_HOME: '/xdg' };
  t.equal(stateDirectory('/opt', around({ env, uid: 0 })), '/opt');
  t.equal(stateDirectory('rel', around({})), '/here/rel');
  t.equal(stateDirectory(undefined, around({ env, uid: 0 })), '/env');
  t.equal(stateDirectory(undefined, around({ env: { WEFT_STATE: '' }, uid: 0 })), '/var/lib/weft');
  t.equal(stateDirectory(undefined, around({ env: { XDG_STATE_HOME: '/xdg' } })), '/xdg/weft');
  t.equal(
    stateDirectory(undefined, around({ env: { XDG_STATE_HOME: 'relative' } })),
    '/home/me/.local/state/weft',
  );
  t.equal(stateDirectory(undefined, around({})), '/home/me/.local/state/weft');
});

await t.test('paths in it', async t => {
  t.match(statePaths('/s'), {
    apiSocket: '/s/run/weftd.sock',
    weftdLog: '/s/logs/weftd.log',
    machines: '/s/run/machines',
  });
});
