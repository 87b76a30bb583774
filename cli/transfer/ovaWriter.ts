/**
 * An OVA of one disk (DMTF DSP0243 1.1: what the programs that take OVAs all read): descriptor, manifest, disk, in that
 * order, in a tar. The machine around the disk is the least that lets an importer ask its user for the rest. The pieces that are
 * text are pure; `writeOva` is the edge.
 */
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { CliError } from '../errors.js';

const BLOCK_BYTES = 512;
const PIECE_BYTES = 2 ** 20;
/** What eleven octal digits hold. */
const OCTAL_MAX = 8 ** 11 - 1;

/** POSIX.1-2017 ustar; a size beyond its field in GNU's base-256, which all that read OVAs know. */
export function tarHeaderOf(name: string, size_bytes: number, modified_s: number): Uint8Array {
  const head = Buffer.alloc(BLOCK_BYTES);
  const octal = (value: number, digits: number): string => `${value.toString(8).padStart(digits, '0')}\0`;
  head.write(name, 0, 100);
  head.write(octal(0o644, 7), 100);
  head.write(octal(0, 7), 108);
  head.write(octal(0, 7), 116);
  if (size_bytes <= OCTAL_MAX) head.write(octal(size_bytes, 11), 124);
  else {
    head[124] = 0x80;
    head.writeBigUInt64BE(BigInt(size_bytes), 128);
  }
  head.write(octal(modified_s, 11), 136);
  head.write('        ', 148);
  head.write('0', 156);
  head.write('ustar\u000000', 257, 'latin1');
  const sum = head.reduce((total, byte) => total + byte, 0);
  head.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return head;
}

/** Names are of weft's own alphabet, which needs no escape in XML. */
export function descriptorOf(disk: {
  name: string;
  file: string;
  size_bytes: number;
  capacity_bytes: number;
}): string {
  const { name, file, size_bytes, capacity_bytes } = disk;
  const item = (id: number, type: number, called: string, words: string): string => `      <Item>
        <rasd:ElementName>${called}</rasd:ElementName>
        <rasd:InstanceID>${id}</rasd:InstanceID>
        <rasd:ResourceType>${type}</rasd:ResourceType>${words}
      </Item>`;
  const element = (key: string, value: string): string => `\n        <rasd:${key}>${value}</rasd:${key}>`;
  return `<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData">
  <References>
    <File ovf:href="${file}" ovf:id="file1" ovf:size="${size_bytes}"/>
  </References>
  <DiskSection>
    <Info>The disk</Info>
    <Disk ovf:capacity="${capacity_bytes}" ovf:capacityAllocationUnits="byte" ovf:diskId="disk1" ovf:fileRef="file1" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
  </DiskSection>
  <VirtualSystem ovf:id="${name}">
    <Info>A machine around a volume of weft</Info>
    <Name>${name}</Name>
    <VirtualHardwareSection>
      <Info>The least that it needs</Info>
      <System>
        <vssd:ElementName>Virtual hardware</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemType>vmx-07</vssd:VirtualSystemType>
      </System>
${item(1, 3, '1 virtual CPU', element('VirtualQuantity', '1'))}
${item(2, 4, '1024 MB of memory', element('AllocationUnits', 'byte * 2^20') + element('VirtualQuantity', '1024'))}
${item(3, 6, 'SCSI controller', element('Address', '0') + element('ResourceSubType', 'lsilogic'))}
${item(4, 17, 'Hard disk', element('AddressOnParent', '0') + element('HostResource', 'ovf:/disk/disk1') + element('Parent', '3'))}
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
`;
}

/** `path`: made before, empty. `disk`: a file with the image, streamOptimized. */
export async function writeOva(
  path: string,
  disk: { path: string; name: string; capacity_bytes: number; now_ms: number },
  onFraction: (fraction: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const now_s = Math.floor(disk.now_ms / 1000);
  const file = `${disk.name}-disk1.vmdk`;
  const source = await open(disk.path, 'r');
  const target = await open(path, 'r+');
  try {
    const { size: size_bytes } = await source.stat();
    const descriptor = Buffer.from(
      descriptorOf({ name: disk.name, file, size_bytes, capacity_bytes: disk.capacity_bytes }),
    );
    let at = 0;
    const put = async (bytes: Uint8Array): Promise<void> => {
      for (let done = 0; done < bytes.length;)
        done += (await target.write(bytes, done, bytes.length - done, at + done)).bytesWritten;
      at += bytes.length;
    };
    const padding = (size: number): Uint8Array =>
      new Uint8Array((BLOCK_BYTES - (size % BLOCK_BYTES)) % BLOCK_BYTES);
    const member = async (name: string, content: Uint8Array): Promise<void> => {
      await put(tarHeaderOf(name, content.length, now_s));
      await put(content);
      await put(padding(content.length));
    };
    const hash = createHash('sha256');
    await member(`${disk.name}.ovf`, descriptor);
    // Its length is known before its content: the disk is read once only.
    const manifest = (hex: string): Buffer =>
      Buffer.from(`SHA256(${disk.name}.ovf)= ${sha256(descriptor)}\nSHA256(${file})= ${hex}\n`);
    const manifestAt = at;
    await member(`${disk.name}.mf`, manifest('0'.repeat(64)));
    await put(tarHeaderOf(file, size_bytes, now_s));
    const piece = Buffer.alloc(PIECE_BYTES);
    for (let done = 0; done < size_bytes;) {
      if (signal.aborted) throw new CliError('INTERRUPTED', 'interrupted', { exit: 130 });
      const { bytesRead } = await source.read(piece, 0, PIECE_BYTES, done);
      if (bytesRead === 0) throw new CliError('UNREADABLE', `${disk.path} became shorter`);
      const bytes = piece.subarray(0, bytesRead);
      hash.update(bytes);
      await put(bytes);
      done += bytesRead;
      onFraction(done / size_bytes);
    }
    await put(padding(size_bytes));
    await put(new Uint8Array(2 * BLOCK_BYTES));
    at = manifestAt;
    await member(`${disk.name}.mf`, manifest(hash.digest('hex')));
  } finally {
    await source.close();
    await target.close();
  }
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
