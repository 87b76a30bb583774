/** Every example in configs/ is a configuration without an error, judged as weftd judges it; and is listed for its readers. */
import t from 'tap';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { layoutOf } from '../../control/model/layout.js';
import { parse } from '../../control/model/parse.js';
import { specsOf } from '../../control/model/resource.js';
import { validate } from '../../control/model/validate.js';

const folder = fileURLToPath(new URL('../../../configs/', import.meta.url));
const names = readdirSync(folder).filter(name => /\.ya?ml$/.test(name));
const index = readFileSync(`${folder}README.md`, 'utf8');

t.ok(names.includes('quickstart.yaml'));

for (const name of names) {
  await t.test(name, async t => {
    const text = readFileSync(folder + name, 'utf8');
    const parsed = parse([{ path: name, text }]);
    t.same(parsed.problems, []);
    t.ok(parsed.declared.size > 0, 'says something');
    const faults = validate(specsOf(parsed.declared.values()), {
      layout: layoutOf('/var/lib/weft'),
      mentioned: parsed.mentioned,
    });
    t.same(faults, []);
    t.match(text, /^#/, 'begins with what it shows');
    t.ok(index.includes(`(${name})`), 'is listed in README.md');
  });
}

await t.test('the quickstart is what the issue and the README promise', async t => {
  const { declared } = parse([{ path: 'q', text: readFileSync(`${folder}quickstart.yaml`, 'utf8') }]);
  const specs = specsOf(declared.values());
  t.equal(specs.switch.size, 1);
  t.same([...specs.machine.keys()], ['alice', 'bob', 'carol']);
  t.same(
    [...specs.machine.values()].map(({ nics }) => nics[0]?.vlan),
    [10, 10, 20],
  );
  t.same(
    [...specs.machine.values()].map(({ disks }) => disks.map(({ volume }) => volume)),
    [['alice'], ['bob'], ['carol']],
  );
});
