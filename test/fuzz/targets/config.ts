import assert from 'node:assert';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { MAX_PROBLEMS, parse } from '../../../control/model/parse.js';
import { bytesOf } from '../harness.js';
import type { Target } from '../harness.js';

const EXAMPLES = path.resolve(import.meta.dirname, '../../../../configs');
const samples = fs
  .readdirSync(EXAMPLES)
  .filter(name => name.endsWith('.yaml'))
  .sort((a, b) => (a < b ? -1 : 1))
  .map(name => new Uint8Array(fs.readFileSync(path.join(EXAMPLES, name))));

export const target: Target = {
  says: 'configuration files: never an exception, every problem has a place inside the file',
  samples,
  words: [
    '\n',
    ': ',
    '- ',
    '  ',
    '&a ',
    '*a',
    '<<: *a',
    '{',
    '}',
    '[',
    ']',
    '"',
    "'",
    '|',
    '>',
    '---\n',
    '# ',
    '!!binary ',
    '? ',
    'null',
    '~',
    '1e400',
    '-1',
    '0x10',
    '.inf',
    '2001-01-01',
    'switch:',
    'machine:',
    'vlan: 4095',
    'ports:',
    '\t',
  ].map(bytesOf),
  run(input) {
    // Longer files are no other files, and the YAML library is not what is tested.
    const text = Buffer.from(input.subarray(0, 4096)).toString();
    const lines = text.split(/\r\n|\n|\r/);
    const parsed = parse([{ path: 'a.yaml', text }]);
    assert(parsed.problems.length <= MAX_PROBLEMS + 1);
    for (const { path, line, column, message } of parsed.problems) {
      assert(message.length > 0);
      assert(path === 'a.yaml' || path === '');
      assert(line >= 0 && line <= lines.length, `line ${line} of ${lines.length}`);
      assert(column >= 0);
    }
    for (const { kind, name } of parsed.declared.values()) {
      const place = parsed.locate([kind, name], 'key');
      assert(place.line > 0 && place.column > 0, `${kind} ${name} has no place`);
    }
    // The same again is the same: nothing is remembered.
    assert.deepEqual(parse([{ path: 'a.yaml', text }]).problems, parsed.problems);
  },
};
