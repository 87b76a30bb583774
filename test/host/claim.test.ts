import t from 'tap';
import { claim, claims, endClaim } from '../../host/claim.js';

const NAME = `weft-test-${process.pid}`;

await t.test('a claim is seen, held once, and ends with its fd', async t => {
  t.notOk(claims(NAME).has(NAME));
  const fd = claim(NAME);
  t.ok(claims(NAME).has(NAME));
  t.throws(() => claim(NAME), { code: 'EADDRINUSE', message: /somebody holds/ });
  endClaim(fd);
  t.notOk(claims(NAME).has(NAME));
  endClaim(claim(NAME));
});

await t.test('what is no name', async t => {
  for (const name of ['', 'a b', 'x'.repeat(108)]) t.throws(() => claim(name), { code: 'EINVAL' });
});
