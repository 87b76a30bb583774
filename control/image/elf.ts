/**
 * What we need to know of ELF files: which modules a kernel module depends on (its `.modinfo` section holds
 * `depends=a,b`), and whether a program is static (no PT_INTERP). Read from the file itself because a kernel
 * package holds no modules.dep: that is made by depmod when the package is installed, and ours never is.
 * ELF-64, little-endian, which both x86-64 and arm64 are. Pure; odd bytes give undefined, never an exception.
 */

const SHT_ENTRY_BYTES = 64;
const PHT_ENTRY_BYTES = 56;
const PT_INTERP = 3;

/** e_machine values, ELF specification; of the two kinds of host that we know. */
export const EM_X86_64 = 62;
export const EM_AARCH64 = 183;

function elfView(bytes: Uint8Array): DataView | undefined {
  if (bytes.length < 64) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  // e_ident: magic, ELFCLASS64, ELFDATA2LSB.
  if (view.getUint32(0) !== 0x7f454c46 || view.getUint8(4) !== 2 || view.getUint8(5) !== 1) return undefined;
  return view;
}

/** An offset or size of the file; -1 when it lies beyond it. */
function inFile(view: DataView, at: number): number {
  const value = view.getBigUint64(at, true);
  return value <= BigInt(view.byteLength) ? Number(value) : -1;
}

export interface Program {
  machine: number;
  static: boolean;
}

export function parseProgram(bytes: Uint8Array): Program | undefined {
  const view = elfView(bytes);
  if (view === undefined) return undefined;
  const table = inFile(view, 32); // e_phoff
  const count = view.getUint16(56, true); // e_phnum
  if (table < 0 || view.getUint16(54, true) !== PHT_ENTRY_BYTES) return undefined;
  if (table + count * PHT_ENTRY_BYTES > bytes.length) return undefined;
  let isStatic = true;
  for (let index = 0; index < count; index++)
    if (view.getUint32(table + index * PHT_ENTRY_BYTES, true) === PT_INTERP) isStatic = false;
  return { machine: view.getUint16(18, true), static: isStatic };
}

export interface ModuleInfo {
  /** Names as the kernel spells them: `_` and `-` are the same to it, we use `_`. */
  depends: string[];
  /** `pre:` soft dependencies: wanted first where they exist. */
  softPre: string[];
}

export function parseModule(bytes: Uint8Array): ModuleInfo | undefined {
  const text = modinfoSection(bytes);
  if (text === undefined) return undefined;
  const info: ModuleInfo = { depends: [], softPre: [] };
  for (const line of text.split('\0')) {
    if (line.startsWith('depends='))
      info.depends.push(...line.slice(8).split(',').map(moduleName).filter(Boolean));
    else if (line.startsWith('softdep=')) {
      const pre = /\bpre:\s*((?:(?!post:)\S+\s*)*)/.exec(line.slice(8))?.[1] ?? '';
      info.softPre.push(...pre.split(/\s+/).map(moduleName).filter(Boolean));
    }
  }
  return info;
}

/** `/lib/modules/…/virtio-rng.ko.xz` and `virtio-rng` -> `virtio_rng`. */
export function moduleName(pathOrName: string): string {
  return pathOrName
    .slice(pathOrName.lastIndexOf('/') + 1)
    .replace(/\.ko(\.(xz|zst|gz))?$/, '')
    .replaceAll('-', '_');
}

function modinfoSection(bytes: Uint8Array): string | undefined {
  const view = elfView(bytes);
  if (view === undefined) return undefined;
  const table = inFile(view, 40); // e_shoff
  const count = view.getUint16(60, true); // e_shnum
  const namesIndex = view.getUint16(62, true); // e_shstrndx
  if (table < 0 || view.getUint16(58, true) !== SHT_ENTRY_BYTES) return undefined;
  if (table + count * SHT_ENTRY_BYTES > bytes.length || namesIndex >= count) return undefined;
  const section = (index: number): Uint8Array | undefined => {
    const offset = inFile(view, table + index * SHT_ENTRY_BYTES + 24); // sh_offset
    const size = inFile(view, table + index * SHT_ENTRY_BYTES + 32); // sh_size
    if (offset < 0 || size < 0 || offset + size > bytes.length) return undefined;
    return bytes.subarray(offset, offset + size);
  };
  const names = section(namesIndex);
  if (names === undefined) return undefined;
  for (let index = 0; index < count; index++) {
    const nameAt = view.getUint32(table + index * SHT_ENTRY_BYTES, true); // sh_name
    const end = names.indexOf(0, nameAt);
    if (end < 0 || latin1(names.subarray(nameAt, end)) !== '.modinfo') continue;
    const content = section(index);
    return content === undefined ? undefined : latin1(content);
  }
  return undefined;
}

function latin1(bytes: Uint8Array): string {
  return new TextDecoder('latin1').decode(bytes);
}
