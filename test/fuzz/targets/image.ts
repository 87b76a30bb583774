import assert from 'node:assert';
import {
  MAX_ENTRIES,
  characterDevice,
  directory,
  emitCpio,
  file,
  link,
  parseCpio,
} from '../../../control/image/cpio.js';
import { parseModule, parseProgram } from '../../../control/image/elf.js';
import { parseManifest } from '../../../control/image/tiny/manifest.js';
import { bytesOf } from '../harness.js';
import type { Target } from '../harness.js';

const archive = emitCpio([
  directory('bin'),
  file('bin/sh', bytesOf('#!')),
  link('bin/ls', 'sh'),
  characterDevice('dev/null', 1, 3),
]);

/** An ELF file of one program header and a .modinfo section, as small as one can be. */
function elf(): Uint8Array {
  const [programAt, namesAt, infoAt, sectionsAt] = [64, 128, 160, 256];
  const bytes = new Uint8Array(sectionsAt + 3 * 64);
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 1, true);
  view.setUint16(18, 62, true);
  view.setBigUint64(32, BigInt(programAt), true);
  view.setBigUint64(40, BigInt(sectionsAt), true);
  view.setUint16(54, 56, true);
  view.setUint16(56, 1, true);
  view.setUint16(58, 64, true);
  view.setUint16(60, 3, true);
  view.setUint16(62, 1, true);
  view.setUint32(programAt, 1, true);
  bytes.set(bytesOf('\0.shstrtab\0.modinfo\0'), namesAt);
  bytes.set(bytesOf('depends=virtio,virtio-ring\0softdep=pre: crc32c post: x\0'), infoAt);
  const section = (index: number, name: number, type: number, at: number, size: number) => {
    const base = sectionsAt + index * 64;
    view.setUint32(base, name, true);
    view.setUint32(base + 4, type, true);
    view.setBigUint64(base + 24, BigInt(at), true);
    view.setBigUint64(base + 32, BigInt(size), true);
  };
  section(1, 1, 3, namesAt, 20);
  section(2, 11, 1, infoAt, 56);
  return bytes;
}

export const target: Target = {
  says: 'files that images are made of: archives, ELF programs and modules, manifests',
  samples: [archive, elf(), bytesOf('{"name":"tiny"}')],
  words: ['070701', 'TRAILER!!!', '\0', 'depends=', 'softdep=pre: '].map(bytesOf),
  run(input) {
    const entries = parseCpio(input);
    if (entries !== undefined) {
      assert(entries.length <= MAX_ENTRIES + 1);
      assert(
        entries.reduce((sum, { data }) => sum + data.length, 0) <= input.length,
        'more data than there is',
      );
    }
    const program = parseProgram(input);
    assert(program === undefined || Number.isInteger(program.machine));
    const module = parseModule(input);
    assert(module === undefined || module.depends.every(name => name.length > 0));
    parseManifest(Buffer.from(input).toString());
  },
};
