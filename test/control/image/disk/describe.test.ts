import fc from 'fast-check';
import t from 'tap';
import { judgeDisk, lastProgress, nbdUri } from '../../../../control/image/disk/describe.js';

const judge = (info: object) => judgeDisk(JSON.stringify(info), '/x.img');

await t.test('images that stand alone are taken', async t => {
  t.same(judge({ format: 'raw', 'virtual-size': 512, filename: '/x.img' }), {
    format: 'raw',
    virtualSize_bytes: 512,
  });
  t.match(judge({ format: 'qcow2', 'virtual-size': 512, 'format-specific': { type: 'qcow2', data: {} } }), {
    format: 'qcow2',
  });
});

await t.test('others are refused in words', async t => {
  const qcow2 = { format: 'qcow2', 'virtual-size': 512 };
  const cases: [object, RegExp][] = [
    [{ format: 'vmdk', 'virtual-size': 512 }, /format vmdk; weft takes raw and qcow2. Convert it: qemu-img/],
    [{ ...qcow2, 'backing-filename': '/etc/shadow' }, /needs another file \(\/etc\/shadow\).*Flatten it/],
    [
      { ...qcow2, 'format-specific': { data: { 'data-file': '/dev/sda' } } },
      /needs another file \(\/dev\/sda\)/,
    ],
    [{ ...qcow2, encrypted: true }, /is encrypted/],
    [{ ...qcow2, 'format-specific': { data: { corrupt: true } } }, /is marked as corrupt/],
    [{}, /nothing that can be understood/],
  ];
  for (const [info, words] of cases) t.match(judge(info), { problem: words });
  t.match(judgeDisk('not json', '/x'), { problem: /nothing that can be read/ });
  fc.assert(
    fc.property(fc.json(), text => {
      judgeDisk(text, '/x');
    }),
  );
});

await t.test('progress', async t => {
  t.equal(lastProgress('    (0.00/100%)\r    (12.50/100%)\r'), 0.125);
  t.equal(lastProgress('    (100.00/100%)\r\n'), 1);
  t.equal(lastProgress('(12.5'), null);
  t.equal(lastProgress(''), null);
});

await t.test('any name and path makes one NBD URI', async t => {
  t.equal(
    nbdUri({ socketPath: '/run/a b/x.sock', nbdName: 'my/vol?' }),
    'nbd+unix:///my%2Fvol%3F?socket=%2Frun%2Fa%20b%2Fx.sock',
  );
});
