/** What stands on a machine's card is judged as on a switch's port; and what the plane would not take is told before. */
import t from 'tap';
import { planFiles } from '../../../../control/model/change.js';
import { layoutOf } from '../../../../control/model/layout.js';

function problems(words: string): string[] {
  const text = `image: { k: { kernel: /k } }\nswitch: { lan: { ports: { p: { loopback: true, ${words} } } } }\nmachine: { m: { image: k, nics: [{ switch: lan, ${words} }] } }\n`;
  return planFiles(new Map(), [{ path: 'a', text }], false, {
    layout: layoutOf('/s'),
    volumeSizes: new Map(),
    isActive: () => false,
    buriedGeneration: () => undefined,
  }).problems.map(({ line, message }) => `${line}: ${message}`);
}

const CASES: readonly [words: string, expected: RegExp][] = [
  ['storm: { broadcast: 2000Gbit }', /too fast/],
  ['storm: { broadcast: 1/s, recovery: 1ms }', /whole seconds/],
  ['addresses: { limit: 5, recovery: 1500ms }', /whole seconds/],
  ['qos: { ingress: { rate: 10Mbit, burst: 5 } }', /its burst is a size/],
  ['qos: { ingress: { rate: 10/s, burst: 5KiB } }', /its burst is a number of frames/],
  ['qos: { egress: { rate: 9000Gbit } }', /too fast/],
  ['qos: { egress: { rate: 1Mbit, classes: { a: { limit: 65MiB } } } }', /from 1B to 64MiB/],
  ["qos: { egress: { rate: 1Mbit, classes: { '7': { weight: 1 } } } }", /needs a letter/],
];

for (const [words, expected] of CASES)
  await t.test(words, async t => {
    const found = problems(words);
    for (const line of [2, 3])
      t.ok(
        found.some(one => one.startsWith(`${line}: `) && expected.test(one)),
        `line ${line}: ${found.join('; ')}`,
      );
  });
