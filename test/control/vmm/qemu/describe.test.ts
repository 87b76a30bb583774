import t from 'tap';
import {
  isNewEnough,
  lastWords,
  parseMachineType,
  parseVersion,
  qemuArch,
} from '../../../../control/vmm/qemu/describe.js';

await t.test('versions', async t => {
  t.equal(
    parseVersion('QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright'),
    '7.2.22',
  );
  t.equal(parseVersion('QEMU emulator version 10.1.0'), '10.1.0');
  t.equal(parseVersion('bash: no such thing'), undefined);
  for (const version of ['7.2', '7.2.22', '8.0.0', '10.1.0']) t.ok(isNewEnough(version), version);
  for (const version of ['7.1.9', '6.2', '2.11']) t.notOk(isNewEnough(version), version);
});

await t.test('the versioned machine behind the alias', async t => {
  const pc = `Supported machines are:
microvm              microvm (i386)
pc                   Standard PC (i440FX + PIIX, 1996) (alias of pc-i440fx-7.2)
pc-i440fx-7.2        Standard PC (i440FX + PIIX, 1996) (default)
q35                  Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-7.2)
pc-q35-7.2           Standard PC (Q35 + ICH9, 2009)
`;
  t.equal(parseMachineType(pc, 'x86_64'), 'pc-q35-7.2');
  const arm = 'virt                 QEMU 7.2 ARM Virtual Machine (alias of virt-7.2)\nvirt-7.2 QEMU\n';
  t.equal(parseMachineType(arm, 'aarch64'), 'virt-7.2');
  t.equal(parseMachineType(pc, 'aarch64'), undefined);
  t.equal(qemuArch('x64'), 'x86_64');
  t.equal(qemuArch('arm64'), 'aarch64');
  t.equal(qemuArch('ia32'), undefined);
});

await t.test('last words are short and clean', async t => {
  const log =
    '2026-11-21T01:58:40.123456Z qemu-system-x86_64: -kernel /k: could not open\n\n\u001b[31mred\u001b[0m\u0007\n';
  t.equal(lastWords(log), 'qemu-system-x86_64: -kernel /k: could not open | [31mred [0m');
  t.equal(lastWords('a\nb\nc\nd\n'), 'b | c | d');
  t.equal(lastWords(''), '');
  t.ok(lastWords('x'.repeat(10_000)).length <= 600);
});
