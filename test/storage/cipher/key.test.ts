import t from 'tap';
import { deriveKey, keyCheck, keyMatches } from '../../../storage/cipher/key.js';

const FILE = Uint8Array.from({ length: 64 }, (_, i) => i);
const UUID = '6f2c6c58-95b5-4c9e-8a53-5b1b7d3a3f10';

await t.test('the same file and volume give the same key for ever', async t => {
  const key = deriveKey(FILE, UUID);
  t.equal(key.length, 64);
  t.equal(Buffer.from(key.subarray(0, 8)).toString('hex'), 'fcf380ee8fce0708');
  t.notSame(deriveKey(FILE, UUID.replace('6', '7')), key, 'another volume, another key');
  t.notSame(
    deriveKey(
      FILE.map(byte => byte ^ 1),
      UUID,
    ),
    key,
  );
  t.notSame(key.subarray(0, 32), key.subarray(32), 'the halves differ, as IEEE 1619 wants');
});

await t.test('a check tells a wrong key, and not the key', async t => {
  const key = deriveKey(FILE, UUID);
  const check = keyCheck(key);
  t.match(check, /^[0-9a-f]{32}$/);
  t.ok(keyMatches(key, check));
  t.notOk(keyMatches(deriveKey(FILE, 'other'), check));
  t.notOk(keyMatches(key, ''));
  t.notOk(keyMatches(key, 'zz'));
  t.notOk(Buffer.from(key).toString('hex').includes(check));
});

await t.test('no short file is a key', async t => {
  for (const length of [0, 31, 64 * 1024 + 1])
    t.throws(() => deriveKey(new Uint8Array(length), UUID), { code: 'VOLUME_KEY' });
});
