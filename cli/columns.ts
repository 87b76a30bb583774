/**
 * Which columns `weft get` shows of each kind. Everything under `observed` is weftd's to choose, so each cell asks
 * politely and shows `-` for what is not there.
 */
import type { Resource } from '../control/api/contract.js';
import { parseSize, type Kind } from '../control/model/spec.js';
import { formatBytes, formatValue } from './format.js';
import { readiness } from './resources.js';
import type { Style } from './style.js';
import type { Cell, Row } from './table.js';

interface Column {
  header: string;
  /** With `-o wide` only. */
  wide?: boolean;
  cell(resource: Resource, style: Style): string | Cell;
}

const NONE = '-';

export function text(record: Readonly<Record<string, unknown>>, key: string): string {
  const value = record[key];
  return value === undefined || value === null || value === '' ? NONE : formatValue(value);
}

function bytes(record: Readonly<Record<string, unknown>>, key: string): string {
  const value = record[key];
  return typeof value === 'number' ? formatBytes(value) : NONE;
}

function size(resource: Resource, key: string): string {
  const value = resource.spec[key];
  const size_bytes = typeof value === 'string' ? parseSize(value) : undefined;
  return size_bytes === undefined ? NONE : formatBytes(size_bytes);
}

function items(value: unknown): readonly Readonly<Record<string, unknown>>[] {
  return Array.isArray(value) ? value.filter(item => typeof item === 'object' && item !== null) : [];
}

function vlanOf(port: Readonly<Record<string, unknown>>): string {
  if (typeof port['vlan'] === 'number') return String(port['vlan']);
  return port['trunk'] === undefined ? '1' : 'trunk';
}

const name: Column = { header: 'NAME', cell: resource => resource.name };

const ready: Column = {
  header: 'READY',
  cell: (resource, style) => {
    const state = readiness(resource);
    const paint = state.ready === 'True' ? style.green : state.ready === 'False' ? style.red : style.yellow;
    return { text: state.ready === 'True' ? 'yes' : state.reason || 'no', paint };
  },
};

const message: Column = {
  header: 'MESSAGE',
  cell: resource => {
    const state = readiness(resource);
    if (state.ready !== 'True') return state.message;
    // Ready, but something else wants attention.
    const open = resource.status.conditions.find(
      ({ type, status }) => type === 'RestartRequired' && status === 'True',
    );
    return open === undefined ? '' : `${open.type}: ${open.message}`;
  },
};

const generation: Column = {
  header: 'GENERATION',
  wide: true,
  cell: ({ generation: asked, status }) =>
    status.observedGeneration === asked ? String(asked) : `${status.observedGeneration} of ${asked}`,
};

const observedText = (header: string, key: string, wide = false): Column => ({
  header,
  wide,
  cell: resource => text(resource.status.observed, key),
});

const observedBytes = (header: string, key: string, wide = false): Column => ({
  header,
  wide,
  cell: resource => bytes(resource.status.observed, key),
});

const specText = (header: string, key: string, wide = false): Column => ({
  header,
  wide,
  cell: resource => text(resource.spec, key),
});

const OF_KIND: Readonly<Record<Kind, readonly Column[]>> = {
  switch: [
    {
      header: 'PORTS',
      cell: ({ status }) => {
        const ports = items(status.observed['ports']);
        return `${ports.filter(port => port['state'] === 'up').length}/${ports.length}`;
      },
    },
    observedText('MACS', 'macCount'),
    specText('AGEING', 'ageing', true),
  ],
  pool: [
    observedText('STATE', 'state'),
    observedText('VOLUMES', 'volumeCount'),
    observedBytes('ALLOCATED', 'allocated_bytes'),
    observedBytes('PROVISIONED', 'provisioned_bytes', true),
    observedBytes('FREE', 'free_bytes'),
    observedText('DIRECTORY', 'directory', true),
  ],
  image: [
    {
      header: 'TYPE',
      cell: ({ spec }) =>
        'tiny' in spec ? 'tiny' : 'disk' in spec ? 'disk' : 'kernel' in spec ? 'kernel' : NONE,
    },
    {
      header: 'FROM',
      wide: true,
      cell: ({ spec }) => ('disk' in spec ? text(spec, 'disk') : text(spec, 'kernel')),
    },
  ],
  volume: [
    specText('POOL', 'pool'),
    {
      header: 'SIZE',
      // Of a clone or of a remote volume the configuration may leave it out.
      cell: resource =>
        resource.spec['size'] === undefined
          ? bytes(resource.status.observed, 'size_bytes')
          : size(resource, 'size'),
    },
    observedBytes('ALLOCATED', 'allocated_bytes'),
    observedText('STATE', 'state'),
    specText('IMAGE', 'image', true),
  ],
  export: [
    specText('VOLUME', 'volume'),
    { header: 'MODE', cell: ({ spec }) => (spec['readOnly'] === true ? 'ro' : 'rw') },
    {
      header: 'TCP',
      cell: ({ spec }) => {
        const tcp = items([spec['tcp']])[0];
        return tcp === undefined ? NONE : `${text(tcp, 'host')}:${text(tcp, 'port')}`;
      },
    },
    observedText('CONNECTIONS', 'connectionCount'),
    {
      header: 'UNIX',
      wide: true,
      cell: ({ spec, status }) => {
        const observed = text(status.observed, 'unix');
        return observed === NONE ? text(spec, 'unix') : observed;
      },
    },
  ],
  machine: [
    observedText('STATE', 'state'),
    observedText('ACCEL', 'accel'),
    specText('CPUS', 'cpus'),
    { header: 'MEMORY', cell: resource => size(resource, 'memory') },
    {
      header: 'NICS',
      cell: ({ spec }) => {
        const nics = items(spec['nics']);
        return nics.length === 0 ? NONE : nics.map(nic => `${text(nic, 'switch')}:${vlanOf(nic)}`).join(',');
      },
    },
    {
      header: 'DISKS',
      cell: ({ spec }) => {
        const disks = items(spec['disks']);
        return disks.length === 0 ? NONE : disks.map(disk => text(disk, 'volume')).join(',');
      },
    },
    specText('IMAGE', 'image', true),
    observedText('PID', 'pid', true),
  ],
};

/** Of one kind: its own columns. Of many: what all have. */
export function tableOf(
  resources: readonly Resource[],
  kind: Kind | undefined,
  wide: boolean,
  style: Style,
): { headers: string[]; rows: Row[] } {
  const columns: readonly Column[] =
    kind === undefined
      ? [{ header: 'KIND', cell: resource => resource.kind }, name, ready, generation, message]
      : [name, ...OF_KIND[kind], ready, generation, message];
  const shown = columns.filter(column => wide || column.wide !== true);
  return {
    headers: shown.map(column => column.header),
    rows: resources.map(resource => shown.map(column => column.cell(resource, style))),
  };
}
