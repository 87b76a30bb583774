import { existsSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import t from 'tap';
import { EM_AARCH64, EM_X86_64, moduleName, parseModule, parseProgram } from '../../../control/image/elf.js';

/** The smallest ELF-64 file with one section of our own beside the names of the sections. */
function elf(sectionName: string, content: string, programTypes: readonly number[] = []): Uint8Array {
  const names = `\0${sectionName}\0.shstrtab\0`;
  const bytes = new Uint8Array(64 + programTypes.length * 56 + names.length + content.length + 3 * 64);
  const view = new DataView(bytes.buffer);
  const text = new TextEncoder();
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(18, EM_X86_64, true);
  view.setBigUint64(32, 64n, true);
  view.setUint16(54, 56, true);
  view.setUint16(56, programTypes.length, true);
  for (const [index, type] of programTypes.entries()) view.setUint32(64 + index * 56, type, true);
  const namesAt = 64 + programTypes.length * 56;
  const contentAt = namesAt + names.length;
  const table = contentAt + content.length;
  bytes.set(text.encode(names), namesAt);
  bytes.set(text.encode(content), contentAt);
  view.setBigUint64(40, BigInt(table), true);
  view.setUint16(58, 64, true);
  view.setUint16(60, 3, true);
  view.setUint16(62, 2, true);
  const section = (index: number, nameAt: number, at: number, size: number): void => {
    view.setUint32(table + index * 64, nameAt, true);
    view.setBigUint64(table + index * 64 + 24, BigInt(at), true);
    view.setBigUint64(table + index * 64 + 32, BigInt(size), true);
  };
  section(1, 1, contentAt, content.length);
  section(2, 2 + sectionName.length, namesAt, names.length);
  return bytes;
}

const MODINFO =
  'license=GPL\0depends=virtio_ring,virtio-pci\0softdep=pre: crc32c other post: after\0name=x\0';

await t.test('what a module depends on', async t => {
  t.same(parseModule(elf('.modinfo', MODINFO)), {
    depends: ['virtio_ring', 'virtio_pci'],
    softPre: ['crc32c', 'other'],
  });
  t.same(parseModule(elf('.modinfo', 'depends=\0')), { depends: [], softPre: [] });
  t.same(parseModule(elf('.modinfo', 'softdep=post: a\0')), { depends: [], softPre: [] });
  t.equal(parseModule(elf('.other', MODINFO)), undefined);
});

await t.test('whether a program is static', async t => {
  t.same(parseProgram(elf('.x', '', [1, 2])), { machine: EM_X86_64, static: true });
  t.same(parseProgram(elf('.x', '', [1, 3])), { machine: EM_X86_64, static: false });
  const node = parseProgram(readFileSync(process.execPath));
  t.same(node, { machine: process.arch === 'arm64' ? EM_AARCH64 : EM_X86_64, static: false });
  const busybox = '/bin/busybox';
  if (existsSync(busybox)) t.ok(parseProgram(readFileSync(busybox)));
});

await t.test('odd bytes are no ELF, and no exception', async t => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), bytes => {
      t.equal(parseModule(bytes), undefined);
      t.equal(parseProgram(bytes), undefined);
    }),
  );
  const good = elf('.modinfo', MODINFO, [1]);
  fc.assert(
    fc.property(fc.nat(good.length - 1), fc.nat(255), (at, value) => {
      const bytes = good.slice();
      bytes[at] = value;
      parseModule(bytes);
      parseProgram(bytes);
      parseModule(good.subarray(0, at));
      parseProgram(good.subarray(0, at));
    }),
    { numRuns: 2000 },
  );
  t.pass('none threw');
});

await t.test('names', async t => {
  t.equal(moduleName('kernel/drivers/char/hw_random/virtio-rng.ko.xz'), 'virtio_rng');
  t.equal(moduleName('ext4.ko'), 'ext4');
  t.equal(moduleName('pvpanic-pci'), 'pvpanic_pci');
});
