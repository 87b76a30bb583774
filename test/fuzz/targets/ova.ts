import assert from 'node:assert';
import { parseManifest, parseOvf } from '../../../cli/transfer/ovf.js';
import { TarError, isTar, walkTar } from '../../../cli/transfer/tar.js';
import { judgeDiskOf, IMPORT_FORMATS } from '../../../control/image/disk/describe.js';
import { ovfOf, tarHeader, tarOf } from '../../cli/transfer/samples.js';
import { bytesOf } from '../harness.js';
import type { Target } from '../harness.js';

const manifest = `SHA256(x.ovf)= ${'ab'.repeat(32)}\nSHA1(a.vmdk)= ${'cd'.repeat(20)}\n`;
const info =
  '{"format":"vmdk","virtual-size":4096,"format-specific":{"data":{"extents":[{"filename":"x.vmdk"}]}}}';

export const target: Target = {
  says: 'what strangers hand to weft volume import: tars, descriptors, manifests, what qemu-img says of images',
  samples: [
    tarOf({ 'x.ovf': Buffer.from(ovfOf(['a.vmdk'])), 'a.vmdk': Buffer.alloc(700, 1) }),
    Buffer.concat([
      tarHeader('x', 14, 'x'),
      Buffer.from('14 path=abcd\n\0'.padEnd(512, '\0')),
      tarHeader('b', 0),
    ]),
    bytesOf(ovfOf(['a.vmdk', 'b.vmdk'])),
    bytesOf(manifest),
    bytesOf(info),
  ],
  words: [
    'ustar',
    '<!--',
    '-->',
    '<![CDATA[',
    'ovf:href="',
    '\0',
    "'",
    '77777777777',
    '\u0080',
    '__proto__',
  ].map(bytesOf),
  run(input) {
    isTar(input);
    const walk = walkTar(input.length);
    try {
      let step = walk.next();
      for (let reads = 0; step.done !== true; reads++) {
        assert(reads < 10_000, 'it does not end');
        const [at, length] = step.value;
        assert(length <= 64 * 1024, 'a read without bound');
        step = walk.next(input.subarray(at, at + length));
      }
      for (const { offset_bytes, size_bytes } of step.value)
        assert(size_bytes >= 0 && offset_bytes + size_bytes <= input.length, 'a member beyond the end');
    } catch (error) {
      if (!(error instanceof TarError)) throw error;
    }
    const text = Buffer.from(input).toString();
    const { disks, problem } = parseOvf(text);
    assert((disks === null) !== (problem === null));
    for (const { algorithm, hex } of parseManifest(text) ?? [])
      assert(/^sha(1|256|384|512)$/.test(algorithm) && /^[0-9a-f]+$/.test(hex));
    const judged = judgeDiskOf(IMPORT_FORMATS, text, 'x.vmdk');
    if ('problem' in judged) assert(judged.problem.length > 0);
    else assert(IMPORT_FORMATS.includes(judged.format));
  },
};
