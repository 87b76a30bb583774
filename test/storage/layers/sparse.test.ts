/** What is done with a large volume in which little was written costs what was written: calls of the disk are counted, never time. */
import t from 'tap';
import { History } from './history.js';
import { Rig } from './rig.js';

const SIZE = 16 * 2 ** 30;
const LENGTH = 64 * 2 ** 20;

void t.test('all of it is trimmed, and the space is given back', async t => {
  const rig = Rig.make(1, { size_bytes: SIZE, checksums: true });
  const history = new History(rig, [1]);
  history.run({ kind: 'write', sector: 8, count: 8 });
  history.run({ kind: 'flush' });
  const before = rig.disk.calls;
  for (let at = 0; at < SIZE; at += LENGTH)
    t.equal(
      rig.wait((waiter, token) => rig.volume.trim(at, LENGTH, waiter, token)),
      0,
    );
  t.equal(rig.flush(), 0);
  rig.until(() => !rig.volume.busy, 'the space');
  const calls = rig.disk.calls - before;
  const pieces = SIZE / LENGTH;
  // One punch a piece; a few to clear and to commit what was written.
  t.ok(calls < pieces + 40, `${calls} calls for ${pieces} pieces`);
  t.equal(rig.disk.files.get(rig.layers[0]!.dataFd)!.pages.size, 0, 'nothing is left of it');
});
