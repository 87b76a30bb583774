/** The disk servers that are measured against each other, each with a file of its own on the same file system. */
import { readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import type { SnapshotStatus } from '../../../storage/contract/volumes.js';
import { askJson } from '../../lab/harness/http.js';
import type { Lab } from '../../lab/harness/lab.js';
import { missing } from '../../lab/harness/needs.js';
import { cpuTimeOfAll_s, eventually, run } from '../../lab/harness/processes.js';
import { Storage } from '../../lab/harness/weft.js';
import { OURS } from '../bench.js';
import type { ContenderSource } from '../bench.js';
import { VOLUME_BYTES, fill, fio, nbdContender } from './load.js';
import type { NbdCase } from './load.js';

/** What is different from a volume made without options, on a Unix socket. */
export interface Variant {
  readonly tcp?: boolean;
  /** By certificate; clients show none. */
  readonly tls?: boolean;
  /** Of ours: a raw file as it is, no checksums, or so many layers, each with a part of the blocks. */
  readonly volume?: 'device' | 'nosum' | 'clone1' | 'clone10';
}

/** Where a server is to listen. */
interface Place {
  readonly socket: string;
  readonly port: number | null;
  /** A directory with certificates, named as GnuTLS's users name them. */
  readonly keys: string | null;
}

interface ServedBy {
  readonly pid: number;
  readonly stderr?: string;
  /** The volume is written already. */
  readonly filled?: boolean;
}

type Serve = (lab: Lab, directory: string, place: Place) => Promise<ServedBy>;

const HOST = '127.0.0.1';
const FIRST_PORT = 20_809;
let ports = 0;

/** All offer the volume by the same name. */
const EXPORT = 'bench';

function uriOf({ socket, port, keys }: Place): string {
  if (port === null) return `nbd+unix:///${EXPORT}?socket=${socket}`;
  return `${keys === null ? 'nbd' : 'nbds'}://${HOST}:${port}/${EXPORT}`;
}

async function listens({ socket, port }: Place): Promise<true | null> {
  return new Promise(resolve => {
    const probe = port === null ? connect(socket) : connect(port, HOST);
    probe.on('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.on('error', () => resolve(null));
  });
}

function source(
  variant: Variant,
  name: string,
  programs: readonly string[],
  serve: Serve,
): ContenderSource<NbdCase> {
  return {
    name,
    missing: () =>
      missing({ programs: ['fio', ...(variant.tls === true ? ['openssl', 'setpriv'] : []), ...programs] }),
    start: async lab => {
      const directory = lab.path(name);
      await run(['mkdir', directory]);
      const keys = variant.tls === true ? await makeKeys(lab.path(`${name}.home`)) : null;
      const port = variant.tcp === true ? FIRST_PORT + ports++ : null;
      const place: Place = { socket: lab.path(`${name}.sock`), port, keys };
      const { pid, stderr = '', filled = false } = await serve(lab, directory, place);
      await eventually(`${name} to listen; it says: ${stderr}`, async () => listens(place));
      const uri = uriOf(place);
      const home = keys === null ? null : lab.path(`${name}.home`);
      if (!filled) await fill(uri, home);
      const where = { uri, socket: place.socket, nbdName: EXPORT, home, directory };
      return nbdContender(name, { ...where, processCpu_s: () => cpuTimeOfAll_s(pid) });
    },
  };
}

/**
 * An authority and a server's certificate where libnbd looks for them by itself; in a URI it may not be told of files by fio.
 * Returns that directory.
 */
async function makeKeys(home: string): Promise<string> {
  const keys = `${home}/.pki/libnbd`;
  await mkdir(keys, { recursive: true });
  const openssl = async (...how: string[]): Promise<unknown> => run(['openssl', ...how], { cwd: keys });
  const fresh = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '7'];
  const authority = ['-keyout', 'ca-key.pem', '-out', 'ca-cert.pem', '-subj', '/CN=bench authority'];
  await openssl('req', '-x509', ...fresh, ...authority);
  const server = ['-keyout', 'server-key.pem', '-out', 'server-cert.pem', '-subj', '/CN=localhost'];
  const names = ['-addext', `subjectAltName=IP:${HOST}`, '-addext', 'basicConstraints=critical,CA:FALSE'];
  await openssl('req', '-x509', ...fresh, ...server, ...names, '-CA', 'ca-cert.pem', '-CAkey', 'ca-key.pem');
  return keys;
}

function weft({ volume }: Variant): Serve {
  return async (lab, directory, place) => {
    const plane = await Storage.start(lab, { socket: `${directory}.http` });
    const device = volume === 'device' ? await rawFile(directory) : null;
    const pools = [device === null ? { name: 'bench', directory } : { name: 'bench', device }];
    const listen =
      place.port === null
        ? { kind: 'unix' as const, path: place.socket }
        : {
            kind: 'tcp' as const,
            host: HOST,
            port: place.port,
            ...(place.keys === null
              ? {}
              : {
                  tls: { certificate: `${place.keys}/server-cert.pem`, key: `${place.keys}/server-key.pem` },
                }),
          };
    const serve = async (name: string): Promise<void> => {
      const exported = { name: 'bench', nbdName: EXPORT, pool: 'bench', volume: name, readOnly: false };
      await plane.configure({ pools, exports: [{ ...exported, listen: [listen] }] });
    };
    await plane.configure({ pools, exports: [] });
    if (device === null) {
      const checksums = volume === 'nosum' ? { checksums: false } : {};
      await plane.put('/pools/bench/volumes/volume', { size_bytes: VOLUME_BYTES, ...checksums });
    }
    await serve('volume');
    if (volume !== 'clone1' && volume !== 'clone10') return plane.program;

    await eventually('weft-storage to listen', async () => listens(place));
    await fill(uriOf(place));
    const snapshot = async (name: string): Promise<void> => {
      const volumes = [{ pool: 'bench', volume: 'volume' }];
      await askJson<{ snapshots: SnapshotStatus[] }>(plane.socket, 'POST', '/snapshots', { name, volumes });
    };
    const depth = volume === 'clone1' ? 1 : 10;
    for (let layer = 1; layer < depth; layer++) {
      await snapshot(`s${layer}`);
      const part = { rw: 'randwrite', bs: '4k', iodepth: 32, io_size: VOLUME_BYTES / 16, refill_buffers: 1 };
      await run(fio(uriOf(place), VOLUME_BYTES, part), { timeout_ms: 60_000 });
    }
    await snapshot('last');
    const from = { volume: 'volume', snapshot: 'last' };
    await plane.put('/pools/bench/volumes/clone', { size_bytes: VOLUME_BYTES, from });
    await serve('clone');
    return { pid: plane.pid, filled: true };
  };
}

async function rawFile(directory: string): Promise<string> {
  const path = `${directory}/volume.raw`;
  await run(['truncate', '--size', String(VOLUME_BYTES), path]);
  return path;
}

const nbdkit: Serve = async (lab, directory, { socket, port, keys }) => {
  const where = port === null ? ['--unix', socket] : ['--ipaddr', HOST, '--port', String(port)];
  const tls = keys === null ? [] : ['--tls=require', `--tls-certificates=${keys}`];
  const file = await rawFile(directory);
  return lab.start(['nbdkit', '--foreground', ...where, ...tls, 'file', file]);
};

const qemuNbd: Serve = async (lab, directory, { socket, port, keys }) => {
  const how = ['--persistent', '--format=raw', '--cache=writeback', '--shared=8', `--export-name=${EXPORT}`];
  const where = port === null ? [`--socket=${socket}`] : [`--bind=${HOST}`, `--port=${port}`];
  const object = `tls-creds-x509,id=tls,endpoint=server,verify-peer=no,dir=${keys}`;
  const tls = keys === null ? [] : ['--object', object, '--tls-creds=tls'];
  return lab.start(['qemu-nbd', ...how, ...where, ...tls, await rawFile(directory)]);
};

/** It goes into the background by itself: in the foreground it serves one client and ends. */
const nbdServer: Serve = async (lab, directory, { socket, port, keys }) => {
  const where = port === null ? [`unixsock = ${socket}`] : [`listenaddr = ${HOST}`, `port = ${port}`];
  const file = await rawFile(directory);
  const config = [
    '[generic]',
    ...where,
    ...(keys === null
      ? []
      : [
          `cacertfile = ${keys}/ca-cert.pem`,
          `certfile = ${keys}/server-cert.pem`,
          `keyfile = ${keys}/server-key.pem`,
        ]),
    `[${EXPORT}]`,
    `exportname = ${file}`,
    `filesize = ${VOLUME_BYTES}`,
    'flush = true',
    'fua = true',
  ];
  const [configFile, pidFile] = [`${directory}.conf`, `${directory}.pid`];
  await writeFile(configFile, `${config.join('\n')}\n`);
  const program = lab.start(['nbd-server', '-C', configFile, '-p', pidFile]);
  const pid = await eventually(`nbd-server's ${pidFile}`, () => {
    try {
      return Number(readFileSync(pidFile, 'latin1')) || null;
    } catch {
      return null;
    }
  });
  return { pid, stderr: program.stderr };
};

export function contendersOf(variant: Variant): ContenderSource<NbdCase>[] {
  return [
    source(variant, OURS, [], weft(variant)),
    source(variant, 'nbdkit', ['nbdkit'], nbdkit),
    source(variant, 'qemu-nbd', ['qemu-nbd'], qemuNbd),
    source(variant, 'nbd-server', ['nbd-server'], nbdServer),
  ];
}

/** A volume made without options, and beside it others of ours: `weft-device`, … */
export function oursOf(kinds: readonly NonNullable<Variant['volume']>[]): ContenderSource<NbdCase>[] {
  return [
    source({}, OURS, [], weft({})),
    ...kinds.map(volume => source({ volume }, `${OURS}-${volume}`, [], weft({ volume }))),
  ];
}
