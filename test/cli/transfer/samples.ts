/** An OVA made by hand, as VMware's and VirtualBox's tools write them. */

const BLOCK_BYTES = 512;

export function tarHeader(name: string, size_bytes: number, type = '0', sizeField?: string): Buffer {
  const head = Buffer.alloc(BLOCK_BYTES);
  head.write(name.slice(0, 100), 0);
  head.write('0000644\0', 100);
  head.write('0000000\0', 108);
  head.write('0000000\0', 116);
  head.write(sizeField ?? `${size_bytes.toString(8).padStart(11, '0')}\0`, 124, 'latin1');
  head.write('00000000000\0', 136);
  head.write('        ', 148);
  head.write(type, 156);
  head.write('ustar\u000000', 257, 'latin1');
  const sum = head.reduce((total, byte) => total + byte, 0);
  head.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return head;
}

export function padded(content: Buffer): Buffer {
  return Buffer.concat([content, Buffer.alloc((BLOCK_BYTES - (content.length % BLOCK_BYTES)) % BLOCK_BYTES)]);
}

export function tarOf(files: Readonly<Record<string, Buffer>>): Buffer {
  const pieces = Object.entries(files).flatMap(([name, content]) => [
    tarHeader(name, content.length),
    padded(content),
  ]);
  return Buffer.concat([...pieces, Buffer.alloc(2 * BLOCK_BYTES)]);
}

export function ovfOf(names: readonly string[]): string {
  const files = names
    .map((name, i) => `<File ovf:href="${name}" ovf:id="file${i}" ovf:size="1"/>`)
    .join('\n    ');
  const disks = names
    .map(
      (_, i) =>
        `<Disk ovf:capacity="8" ovf:capacityAllocationUnits="byte * 2^20" ovf:diskId="disk${i}" ovf:fileRef="file${i}"/>`,
    )
    .join('\n    ');
  return `<?xml version="1.0"?>
<!-- <Disk ovf:fileRef="none"/> -->
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
  <References>
    ${files}
  </References>
  <DiskSection>
    <Info>Disks &gt; none</Info>
    ${disks}
  </DiskSection>
</Envelope>`;
}
