/** One line for people on what a planned change does. */
import { exportSocket } from './layout.js';
import type { Difference } from './meaning.js';
import type { Kind, SpecOf } from './spec.js';
import { dotted } from './resource.js';
import { isOpenToStrangers, isReadOnly, tcpOf } from './storage/export.js';
import { placeInWords } from './storage/pool.js';
import type { AnySpec } from './resource.js';
import type { ChangeContext } from './change.js';

/** Machine fields that QEMU is started with; the rest is changed under the running guest. */
const AT_BOOT: ReadonlySet<string> = new Set(['image', 'cmdline', 'cpus', 'memory', 'accel', 'disks']);

function counted(count: number, thing: string): string {
  return `${count} ${thing}${count === 1 ? '' : 's'}`;
}

function created(kind: Kind, name: string, spec: AnySpec, context: ChangeContext): string {
  switch (kind) {
    case 'switch':
      return `a switch with ${counted(Object.keys((spec as SpecOf['switch']).ports).length, 'port')} of its own`;
    case 'pool':
      return poolInWords(name, spec as SpecOf['pool'], context);
    case 'image': {
      const image = spec as SpecOf['image'];
      if ('tiny' in image) return "a tiny Linux from this machine's packages, built when first needed";
      return 'disk' in image ? `the disk image ${image.disk}` : `the kernel ${image.kernel}`;
    }
    case 'volume': {
      return volumeInWords(name, spec as SpecOf['volume'], context);
    }
    case 'export': {
      return exportInWords(name, spec as SpecOf['export'], context);
    }
    case 'machine': {
      const { cpus, memory, disks, nics, running } = spec as SpecOf['machine'];
      return `${counted(cpus, 'cpu')}, ${memory}, ${counted(disks.length, 'disk')}, ${counted(nics.length, 'card')}${running ? ', started' : ', not started'}`;
    }
  }
}

function poolInWords(name: string, spec: SpecOf['pool'], { layout }: ChangeContext): string {
  const place = placeInWords(layout, name, spec);
  if (spec.remote !== undefined) return `volumes of the NBD server at ${place}`;
  return spec.device === undefined ? `a pool in ${place}` : `${place} as one volume`;
}

function volumeInWords(name: string, spec: SpecOf['volume'], { volumeSizes }: ChangeContext): string {
  const { pool, size, image, from, encryption, mirror } = spec;
  const isThere = volumeSizes.has(`${pool}/${name}`);
  const more = [
    ...(encryption === undefined ? [] : ['encrypted']),
    ...(mirror === undefined ? [] : [`mirrored in pool ${mirror.pool}`]),
  ];
  if (isThere) return [`takes over the data that is in pool ${pool} under this name`, ...more].join(', ');
  const source = from?.snapshot === undefined ? from?.volume : `${from.volume}@${from.snapshot}`;
  return [
    `${size === undefined ? '' : `${size} `}in pool ${pool}`,
    ...(image === undefined ? [] : [`filled from image ${image}`]),
    ...(source === undefined ? [] : [`a clone of ${source}`]),
    ...more,
  ].join(', ');
}

function exportInWords(name: string, spec: SpecOf['export'], { layout }: ChangeContext): string {
  const { volume, snapshot, tls, unix } = spec;
  const what = snapshot === undefined ? `volume ${volume}` : `snapshot ${volume}@${snapshot}`;
  const where = [
    exportSocket(layout, name, unix),
    ...tcpOf(spec).map(({ host, port }) => `${host}:${port}${tls === undefined ? '' : ' (TLS)'}`),
  ].join(' and ');
  const open = isOpenToStrangers(spec) ? ', open to whoever reaches it' : '';
  return `serves ${what}${isReadOnly(spec) ? ' read-only' : ''} on ${where}${open}`;
}

function deleted(kind: Kind, name: string, spec: AnySpec, context: ChangeContext): string {
  switch (kind) {
    case 'pool':
      return `closes it; what is in ${placeInWords(context.layout, name, spec as SpecOf['pool'])} stays`;
    case 'volume':
      return `its data stays in pool ${(spec as SpecOf['volume']).pool}`;
    case 'machine':
      return context.isActive(name) ? 'powers it off; its volumes stay' : 'its volumes stay';
    case 'image':
      return 'tiny' in (spec as SpecOf['image']) ? 'removes what was built' : 'its files stay';
    default:
      return 'removes it';
  }
}

function inWords(value: unknown): string {
  if (value === undefined || value === null) return 'none';
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function needsRestart({ path }: Difference): boolean {
  const [first, second, third] = path;
  // Whether its changes are kept is decided at power-off.
  if (first === 'disks' && third === 'undo') return false;
  if (typeof first === 'string' && AT_BOOT.has(first)) return true;
  // A card that comes or goes, or changes its address; its switch and VLAN do not matter to the guest.
  return first === 'nics' && second !== undefined && (third === undefined || third === 'mac');
}

export function summaryOf(
  verb: 'create' | 'update' | 'delete',
  kind: Kind,
  name: string,
  spec: AnySpec,
  changes: readonly Difference[],
  context: ChangeContext,
): string {
  if (verb === 'create') return created(kind, name, spec, context);
  if (verb === 'delete') return deleted(kind, name, spec, context);
  const words = changes
    .slice(0, 4)
    .map(({ path, from, to }) => `${dotted(path)} ${inWords(from)} -> ${inWords(to)}`);
  if (changes.length > 4) words.push(`${changes.length - 4} more`);
  const waits = kind === 'machine' && context.isActive(name) && changes.some(needsRestart);
  return `${words.join(', ')}${waits ? ' (takes effect when the machine is restarted)' : ''}`;
}
