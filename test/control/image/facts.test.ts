import fc from 'fast-check';
import t from 'tap';
import { parseFact, parseFacts } from '../../../control/image/facts.js';

await t.test('facts, as a guest printed them', async t => {
  t.same(parseFact('\rWEFT {"fact":"boot","id":"85ba13a4","uptime_s":3.03,"image":"1"}\r'), {
    fact: 'boot',
    id: '85ba13a4',
    uptime_s: 3.03,
    image: '1',
  });
  t.match(
    parseFact(
      'weft guest # \u001b[6n\rWEFT {"fact":"ping","peer":"10.0.10.2","reached":true,"sent":1,"received":1}',
    ),
    { fact: 'ping', peer: '10.0.10.2', reached: true },
    "behind a shell's prompt",
  );
  const disk = '{"fact":"disk","device":"/dev/vda","formatted":true,"new":false,"boots":2,"intact":true}';
  t.match(parseFacts(`noise\r\nWEFT ${disk}\r\nWEFT {"fact":"written","upto":32}\r\n`), [
    { fact: 'disk', boots: 2 },
    { fact: 'written', upto: 32 },
  ]);
});

await t.test('a guest can print anything: what is not a fact is not one', async t => {
  for (const line of [
    '',
    'WEFT',
    'WEFT {',
    'WEFT {}',
    'WEFT {"fact":"unknown"}',
    'WEFT {"fact":"written","upto":"32"}',
    'WEFT {"fact":"written","upto":-1}',
    'WEFT {"fact":"written","upto":32} and more',
    `WEFT {"fact":"boot","id":"${'x'.repeat(5000)}","uptime_s":1,"image":"1"}`,
  ])
    t.equal(parseFact(line), undefined, line.slice(0, 60));
  fc.assert(
    fc.property(fc.string(), text => {
      t.equal(parseFact(`WEFT {${text}`), undefined);
    }),
  );
});
