import t from 'tap';
import { readSpec } from '../../../../control/model/resource.js';
import { SwitchWords, switchToPlane } from '../../../../control/model/switch/offload.js';

await t.test('the word, and what the plane is told', async t => {
  for (const mode of ['auto', 'off'] as const) t.same(switchToPlane(SwitchWords.parse(mode)), { mode });
  t.throws(() => SwitchWords.parse('on'));
  t.ok(readSpec('switch', { offload: 'off', ports: {} }));
});
