/** Tars and OVF descriptors, good, odd and harmful. */
import t from 'tap';
import fc from 'fast-check';
import { parseManifest, parseOvf } from '../../../cli/transfer/ovf.js';
import { isTar, listTar, TarError, type TarMember } from '../../../cli/transfer/tar.js';
import { formatOf } from '../../../cli/transfer/source.js';
import { ovfOf, padded, tarHeader, tarOf } from './samples.js';

const list = (bytes: Uint8Array): Promise<TarMember[]> =>
  listTar(async (at, length) => bytes.subarray(at, at + length), bytes.length);

await t.test('members are ranges of the file', async t => {
  const tar = tarOf({ 'a.ovf': Buffer.from('one'), 'b.vmdk': Buffer.alloc(1000, 7), c: Buffer.alloc(0) });
  t.ok(isTar(tar));
  t.same(await list(tar), [
    { name: 'a.ovf', offset_bytes: 512, size_bytes: 3 },
    { name: 'b.vmdk', offset_bytes: 1536, size_bytes: 1000 },
    { name: 'c', offset_bytes: 3072, size_bytes: 0 },
  ]);
  t.same((await list(tar.subarray(0, tar.length - 1024))).length, 3, 'without its end');
});

await t.test('long names and large sizes', async t => {
  const name = `${'d/'.repeat(80)}disk.vmdk`;
  const pax = (key: string, value: string): Buffer => {
    const rest = ` ${key}=${value}\n`;
    const length = rest.length + String(rest.length + 3).length;
    return Buffer.from(`${length}${rest}`);
  };
  const body = Buffer.concat([pax('path', name), pax('size', '5')]);
  const tar = Buffer.concat([
    tarHeader('x', body.length, 'x'),
    padded(body),
    tarHeader('short', 0),
    padded(Buffer.from('12345')),
    tarHeader('././@LongLink', name.length + 1, 'L'),
    padded(Buffer.from(`${name}\0`)),
    tarHeader('short', 3),
    padded(Buffer.from('123')),
    // GNU's base-256.
    tarHeader('big', 0, '0', '\u0080\0\0\0\0\0\0\0\0\0\0\u0004'),
    padded(Buffer.from('1234')),
    tarHeader('directory', 0, '5'),
  ]);
  t.same(
    (await list(tar)).map(member => [member.name, member.size_bytes]),
    [
      [name, 5],
      [name, 3],
      ['big', 4],
    ],
  );
});

await t.test('what is no whole tar', async t => {
  const tar = tarOf({ a: Buffer.alloc(2000, 1), b: Buffer.from('x') });
  await t.rejects(list(tar.subarray(0, 1200)), /cut off/);
  await t.rejects(list(tar.subarray(0, 512 + 2048 + 100)), /cut off in a header/);
  const damaged = Buffer.from(tar);
  damaged[512 + 2048 + 3] ^= 1;
  await t.rejects(list(damaged), /damaged/);
  await t.rejects(list(tarHeader('a', 8 ** 11 - 1)), /cut off/);
  await t.rejects(list(Buffer.concat([tarHeader('x', 70_000, 'x'), Buffer.alloc(80_000)])), /too long/);
  const many = Buffer.concat(Array.from({ length: 1002 }, () => tarHeader('a', 0)));
  await t.rejects(list(many), /more than 1000/);
  t.notOk(isTar(Buffer.alloc(512)));
  t.notOk(isTar(Buffer.from('ustar')));
});

await t.test('random changes end in a list or a TarError', async t => {
  const tar = tarOf({ 'a.ovf': Buffer.from(ovfOf(['b'])), b: Buffer.alloc(3000, 1) });
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat(tar.length - 1), fc.nat(255)), { maxLength: 8 }),
      fc.nat(tar.length),
      async (changes, length) => {
        const bytes = Buffer.from(tar);
        for (const [at, value] of changes) bytes[at] = value;
        try {
          for (const { offset_bytes, size_bytes } of await list(bytes.subarray(0, length)))
            if (offset_bytes + size_bytes > length) throw new Error('beyond the end');
        } catch (error) {
          if (!(error instanceof TarError)) throw error;
        }
      },
    ),
    { numRuns: 300 },
  );
  t.pass();
});

await t.test('descriptors', async t => {
  const { disks } = parseOvf(ovfOf(['a.vmdk', 'b.vmdk']));
  t.same(disks, [
    { id: 'disk0', href: 'a.vmdk', capacity_bytes: 8 * 2 ** 20 },
    { id: 'disk1', href: 'b.vmdk', capacity_bytes: 8 * 2 ** 20 },
  ]);
  const of = (files: string, more: string): string =>
    `<ovf:Envelope><File ovf:id='f' ovf:href='a &amp; b>.vmdk' ${files}/><Disk ovf:diskId='d' ovf:fileRef='f' ${more}/></ovf:Envelope>`;
  t.match(parseOvf(of('', '')).disks, [{ href: 'a & b>.vmdk', capacity_bytes: null }]);
  t.match(parseOvf(of('ovf:compression="gzip"', '')).problem, /compressed/);
  t.match(parseOvf(of('ovf:chunkSize="100"', '')).problem, /chunks/);
  t.match(parseOvf(of('', 'ovf:parentRef="x"')).problem, /builds upon/);
  t.match(parseOvf('<Envelope><Disk diskId="d" fileRef="none"/></Envelope>').problem, /not listed/);
  t.match(parseOvf('<html/>').problem, /not OVF/);
  t.same(parseOvf('<Envelope><Disk diskId="empty" capacity="8"/></Envelope>').disks, []);
  t.match(parseOvf(`<Envelope>${'<a/>'.repeat(100_001)}`).problem, /too long/);
  for (const cut of ['<', '<!-- ', '<![CDATA[', '<Envelope a="', '<Envelope'])
    t.match(parseOvf(cut).problem, /not OVF/);
  fc.assert(
    fc.property(
      fc.string({ unit: fc.constantFrom(...'<>"\'=&;! -[]ovf:Disk'.split('')), maxLength: 200 }),
      text => {
        parseOvf(`<Envelope>${text}`);
        parseManifest(text);
      },
    ),
  );
});

await t.test('manifests', async t => {
  const hex = 'a'.repeat(40);
  t.same(parseManifest(`SHA1(a b.vmdk)= ${hex}\n\nSHA-256(x)=${'B'.repeat(64)}\r\n`), [
    { name: 'a b.vmdk', algorithm: 'sha1', hex },
    { name: 'x', algorithm: 'sha256', hex: 'b'.repeat(64) },
  ]);
  t.equal(parseManifest('MD5(x)= 00'), null);
});

await t.test('formats by their first bytes', async t => {
  const at = (text: string, offset = 0): Uint8Array => {
    const bytes = Buffer.alloc(512);
    bytes.write(text, offset, 'latin1');
    return bytes;
  };
  t.equal(formatOf(at('KDMV')), 'vmdk');
  t.equal(formatOf(at('QFI\u00fb')), 'qcow2');
  t.equal(formatOf(at('\u007f\u0010\u00da\u00be', 0x40)), 'vdi');
  t.equal(formatOf(at('# Disk DescriptorFile')), null);
  t.equal(formatOf(new Uint8Array()), null);
});
