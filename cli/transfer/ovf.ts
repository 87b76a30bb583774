/**
 * The little that an import wants of an OVF package (DMTF DSP0243 2.1): which files are disks, in which order, and the
 * manifest. Not an XML parser: tags and their attributes are read as they come, which is all that disks are written in.
 * Pure; whatever is not understood is said in words.
 */

/** Our constants. */
export const DESCRIPTOR_MAX_BYTES = 4 * 2 ** 20;
export const MANIFEST_MAX_BYTES = 2 ** 20;
const TAGS_MAX = 100_000;

export interface OvfDisk {
  id: string;
  /** Name of the file, as `References` has it. */
  href: string;
  capacity_bytes: number | null;
}

export type Ovf = { disks: OvfDisk[]; problem: null } | { disks: null; problem: string };

/** 7.1 "File references", 9.1 "DiskSection". Disks without a file (they are to be made empty) are left out. */
export function parseOvf(xml: string): Ovf {
  const files = new Map<string, Map<string, string>>();
  const disks: Map<string, string>[] = [];
  let isOvf = false;
  let tags = 0;
  for (const { name, attributes } of tagsOf(xml)) {
    if (++tags > TAGS_MAX) return fault('its descriptor is too long');
    if (name === 'Envelope') isOvf = true;
    if (name === 'File') files.set(attributes.get('id') ?? '', attributes);
    if (name === 'Disk') disks.push(attributes);
  }
  if (!isOvf) return fault('its descriptor is not OVF');
  const found: OvfDisk[] = [];
  for (const disk of disks) {
    const reference = disk.get('fileRef');
    if (reference === undefined) continue;
    const id = disk.get('diskId') ?? reference;
    const file = files.get(reference);
    const href = file?.get('href');
    if (file === undefined || href === undefined) return fault(`disk ${id} names a file that is not listed`);
    if (file.get('compression') !== undefined && file.get('compression') !== 'identity')
      return fault(`${href} is compressed (${file.get('compression')}): unpack the OVA and import the disk`);
    if (file.get('chunkSize') !== undefined)
      return fault(`${href} is cut into chunks: unpack the OVA and join them`);
    if (disk.get('parentRef') !== undefined) return fault(`disk ${id} builds upon another`);
    found.push({ id, href, capacity_bytes: capacityOf(disk) });
  }
  return { disks: found, problem: null };
}

function fault(problem: string): Ovf {
  return { disks: null, problem };
}

/** 9.1: `capacity` in `capacityAllocationUnits`, such as `byte * 2^30`. */
function capacityOf(disk: Map<string, string>): number | null {
  const capacity = disk.get('capacity') ?? '';
  const units = /^byte(?:\s*\*\s*2\s*\^\s*(\d{1,2}))?$/.exec(
    (disk.get('capacityAllocationUnits') ?? 'byte').trim(),
  );
  if (!/^\d{1,15}$/.test(capacity) || units === null) return null;
  const value = Number(capacity) * 2 ** Number(units[1] ?? '0');
  return Number.isSafeInteger(value) ? value : null;
}

interface Tag {
  name: string;
  attributes: Map<string, string>;
}

/** Start tags, their names and attributes without prefixes. Comments and CDATA are passed over. */
function* tagsOf(xml: string): Generator<Tag> {
  const skip: readonly (readonly [string, string])[] = [
    ['<!--', '-->'],
    ['<![CDATA[', ']]>'],
    ['<?', '?>'],
  ];
  let at = 0;
  for (;;) {
    at = xml.indexOf('<', at);
    if (at < 0) return;
    const passed = skip.find(([open]) => xml.startsWith(open, at));
    if (passed !== undefined) {
      const end = xml.indexOf(passed[1], at);
      if (end < 0) return;
      at = end + passed[1].length;
      continue;
    }
    const end = endOfTag(xml, at);
    if (end < 0) return;
    const tag = xml.slice(at + 1, end);
    at = end + 1;
    const name = /^(?:[\w.-]+:)?([\w.-]+)/.exec(tag)?.[1];
    if (name === undefined) continue;
    const attributes = new Map<string, string>();
    for (const [, key = '', double, single] of tag.matchAll(
      /(?:[\w.-]+:)?([\w.-]+)\s*=\s*(?:"([^"]*)"|'([^']*)')/g,
    ))
      attributes.set(key, unescape(double ?? single ?? ''));
    yield { name, attributes };
  }
}

/** A `>` may stand in a quoted value. */
function endOfTag(xml: string, from: number): number {
  let quote = '';
  for (let i = from + 1; i < xml.length; i++) {
    const char = xml[i]!;
    if (quote !== '') {
      if (char === quote) quote = '';
    } else if (char === '"' || char === "'") quote = char;
    else if (char === '>') return i;
  }
  return -1;
}

const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };

function unescape(text: string): string {
  return text.replace(/&(amp|lt|gt|quot|apos);/g, (_, name: string) => ENTITIES[name] ?? '');
}

export interface Digest {
  name: string;
  algorithm: 'sha1' | 'sha256' | 'sha384' | 'sha512';
  hex: string;
}

/** 6.1 "OVF package": lines `SHA256(NAME)= HEX`. null: something in it is not understood. */
export function parseManifest(text: string): Digest[] | null {
  const digests: Digest[] = [];
  for (const line of text.split(/\r?\n/)) {
    if (line.trim() === '') continue;
    const match = /^SHA-?(1|256|384|512)\s*\((.{1,4096})\)\s*=\s*([0-9a-fA-F]{40,128})\s*$/.exec(line);
    if (match === null) return null;
    const [, bits = '', name = '', hex = ''] = match;
    digests.push({ name, algorithm: `sha${bits}` as Digest['algorithm'], hex: hex.toLowerCase() });
  }
  return digests;
}
