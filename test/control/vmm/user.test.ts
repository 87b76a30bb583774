import fc from 'fast-check';
import t from 'tap';
import { chooseUser, FIRST_USER, isGuestUser, PROBE_USER, USER_COUNT } from '../../../control/vmm/user.js';

await t.test('the same machine gets the same user, others get others', async t => {
  t.equal(chooseUser('/s', 'alice', new Set()), chooseUser('/s', 'alice', new Set()));
  t.not(chooseUser('/s', 'alice', new Set()), chooseUser('/s', 'bob', new Set()));
  t.not(chooseUser('/s', 'alice', new Set()), chooseUser('/other', 'alice', new Set()), 'nor two weftd');
  fc.assert(
    fc.property(fc.uniqueArray(fc.string(), { maxLength: 50 }), names => {
      const taken = new Set<number>();
      for (const name of names) {
        const id = chooseUser('/s', name, taken);
        t.notOk(taken.has(id));
        t.ok(isGuestUser(id));
        taken.add(id);
      }
    }),
  );
});

await t.test('when its number is taken the next one is, also around the end', async t => {
  const first = chooseUser('/s', 'alice', new Set());
  t.equal(chooseUser('/s', 'alice', new Set([first])), first + 1);
  const all = new Set(Array.from({ length: USER_COUNT - 1 }, (_, index) => FIRST_USER + 1 + index));
  t.throws(() => chooseUser('/s', 'alice', all), /taken/);
  all.delete(FIRST_USER + 1);
  t.equal(chooseUser('/s', 'alice', all), FIRST_USER + 1);
  t.notOk(isGuestUser(PROBE_USER), 'no guest shares a user with the probe');
});
