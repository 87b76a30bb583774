/** From what guests say to what `npm start` shows. */
import assert from 'node:assert/strict';
import t from 'tap';
import fc from 'fast-check';
import { factRows, LineSplitter, parseFact, Witness, type Fact } from '../../cli/facts.js';
import { resource } from './fakeApi.js';

const fact = (text: string): Fact => {
  const parsed = parseFact(`WEFT ${text}`);
  assert.ok(parsed !== undefined);
  return parsed;
};

await t.test('lines that are facts, and lines that are not', async t => {
  t.same(parseFact('\rWEFT {"fact":"ping","peer":"10.0.0.1","reached":true}'), {
    fact: 'ping',
    peer: '10.0.0.1',
    reached: true,
  });
  t.same(parseFact('weft guest $ WEFT {"fact":"boot"} '), { fact: 'boot' });
  for (const line of [
    '',
    'WEFT',
    'WEFT {',
    'WEFT {"fact":7}',
    'WEFT {"a":"b"}',
    'WEFT {"fact":"x"',
    '{"fact":"x"}',
  ]) {
    t.equal(parseFact(line), undefined, JSON.stringify(line));
  }
  fc.assert(fc.property(fc.string(), text => void parseFact(`WEFT {${text}`)));
});

await t.test('the serial line may be cut anywhere', async () => {
  fc.assert(
    fc.property(
      fc.array(fc.stringMatching(/^[a-z ]{0,8}$/)),
      fc.integer({ min: 1, max: 7 }),
      (lines, size) => {
        const text = lines.map(line => `${line}\n`).join('');
        const splitter = new LineSplitter();
        const out: string[] = [];
        for (let at = 0; at < text.length; at += size) out.push(...splitter.push(text.slice(at, at + size)));
        assert.deepEqual(out, lines);
      },
    ),
  );
});

function machine(name: string, address: string, vlan: number, peers: string) {
  return resource('machine', name, {
    spec: {
      cmdline: `quiet weft.address=${address}/24 weft.peers=${peers} weft.disk=/dev/vda`,
      nics: [{ switch: 'lan', vlan }],
    },
    observed: { state: 'running', accel: 'tcg' },
  });
}

const ALICE = machine('alice', '10.0.0.1', 10, '10.0.0.2,10.0.0.3');
const BOB = machine('bob', '10.0.0.2', 10, '10.0.0.1,10.0.0.3');
const CAROL = machine('carol', '10.0.0.3', 20, '10.0.0.1,10.0.0.2');
const ALL = [resource('switch', 'lan'), ALICE, BOB, CAROL];

const boot = (id: string) => fact(`{"fact":"boot","id":"${id}"}`);
const ping = (peer: string, reached: boolean) =>
  fact(`{"fact":"ping","peer":"${peer}","reached":${reached}}`);
const disk = (extra = '') =>
  fact(`{"fact":"disk","device":"/dev/vda","formatted":true,"boots":1,"intact":true${extra}}`);

function rowsOf(witness: Witness) {
  return new Map(factRows(ALL, witness).map(row => [row.key, row]));
}

await t.test('nothing said yet: everything is open', async t => {
  const rows = factRows(ALL, new Witness());
  t.same(
    rows.map(({ key }) => key),
    [
      'running alice',
      'running bob',
      'running carol',
      'reach alice bob',
      'reach alice carol',
      'reach bob carol',
      'disk alice /dev/vda',
      'disk bob /dev/vda',
      'disk carol /dev/vda',
    ],
  );
  t.ok(rows.every(({ state }) => state === 'busy'));
  t.ok(
    rows.slice(3).every(({ waiting }) => waiting === true),
    'nothing that is worth a line in a log',
  );
});

await t.test('all as it should be', async t => {
  const witness = new Witness();
  for (const name of ['alice', 'bob', 'carol']) {
    witness.take(name, boot(`of ${name}`));
    witness.take(name, disk());
  }
  for (const [name, seen] of [
    ['alice', [ping('10.0.0.2', true), ping('10.0.0.3', false)]],
    ['bob', [ping('10.0.0.1', true), ping('10.0.0.3', false)]],
    ['carol', [ping('10.0.0.1', false), ping('10.0.0.2', false)]],
  ] as const) {
    for (const one of seen) witness.take(name, one);
  }
  const rows = rowsOf(witness);
  t.ok([...rows.values()].every(({ state }) => state === 'ok'));
  t.equal(rows.get('running alice')?.text, 'alice runs (tcg, 10.0.0.1, VLAN 10)');
  t.equal(rows.get('reach alice bob')?.text, 'alice and bob reach each other (VLAN 10)');
  t.equal(rows.get('reach alice carol')?.text, 'alice and carol are kept apart (VLANs 10 and 20)');
  t.equal(rows.get('disk bob /dev/vda')?.text, 'disk vda of bob: formatted, written, read back');
});

await t.test('one side is not enough', async t => {
  const witness = new Witness();
  witness.take('alice', boot('a'));
  witness.take('bob', boot('b'));
  witness.take('alice', ping('10.0.0.2', true));
  t.equal(rowsOf(witness).get('reach alice bob')?.state, 'busy');
  witness.take('bob', ping('10.0.0.1', false));
  t.match(rowsOf(witness).get('reach alice bob'), {
    state: 'busy',
    text: 'bob does not reach alice (VLAN 10)',
  });
  witness.take('bob', ping('10.0.0.1', true));
  t.equal(rowsOf(witness).get('reach alice bob')?.state, 'ok');
});

await t.test('silence from a peer that has not booted proves nothing', async t => {
  const witness = new Witness();
  witness.take('alice', boot('a'));
  witness.take('alice', ping('10.0.0.3', false));
  witness.take('carol', boot('c'));
  witness.take('carol', ping('10.0.0.1', false));
  t.equal(rowsOf(witness).get('reach alice carol')?.state, 'busy');
  witness.take('alice', ping('10.0.0.3', false));
  t.equal(rowsOf(witness).get('reach alice carol')?.state, 'ok');
});

await t.test('a frame that crosses VLANs is a failure, at once', async t => {
  const witness = new Witness();
  witness.take('alice', boot('a'));
  witness.take('carol', boot('c'));
  witness.take('carol', ping('10.0.0.1', true));
  t.match(rowsOf(witness).get('reach alice carol'), {
    state: 'failed',
    text: 'carol reaches alice (VLANs 10 and 20)',
  });
});

await t.test('a new boot takes back what an earlier one said; the same boot told twice does not', async t => {
  const witness = new Witness();
  witness.take('alice', boot('1'));
  witness.take('alice', disk());
  witness.take('alice', boot('1'));
  t.equal(rowsOf(witness).get('disk alice /dev/vda')?.state, 'ok');
  witness.take('alice', boot('2'));
  t.equal(rowsOf(witness).get('disk alice /dev/vda')?.state, 'busy');
});

await t.test('disks: found again, lost, refused', async t => {
  const witness = new Witness();
  const row = (text: string) => {
    witness.take('alice', fact(text));
    return rowsOf(witness).get('disk alice /dev/vda');
  };
  const head = '{"fact":"disk","device":"/dev/vda"';
  t.match(row(`${head},"formatted":true,"boots":3,"intact":true}`), {
    state: 'ok',
    text: /found again, data intact; boot 3/,
  });
  t.match(row(`${head},"formatted":true,"boots":3,"intact":false}`), {
    state: 'failed',
    text: /not what was written/,
  });
  t.match(row(`${head},"formatted":false,"boots":0,"intact":false,"error":"no such device"}`), {
    state: 'failed',
    text: /: no such device$/,
  });
});

await t.test('a machine that is not ready is not said to run', async t => {
  const witness = new Witness();
  witness.take('alice', boot('a'));
  const rows = factRows(
    [
      resource('machine', 'alice', {
        ready: 'False',
        reason: 'Crashed',
        message: 'QEMU died',
        observed: { state: 'crashed' },
      }),
    ],
    witness,
  );
  t.match(rows[0], { state: 'busy', text: 'alice: Crashed: QEMU died' });
});
