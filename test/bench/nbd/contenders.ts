/** The disk servers that are measured against each other, each with a file of its own on the same file system. */
import { existsSync } from 'node:fs';
import type { Lab } from '../../lab/harness/lab.js';
import { missing } from '../../lab/harness/needs.js';
import { cpuTime_s, eventually, run } from '../../lab/harness/processes.js';
import type { RunningProgram } from '../../lab/harness/processes.js';
import { Storage } from '../../lab/harness/weft.js';
import { OURS } from '../bench.js';
import type { ContenderSource } from '../bench.js';
import { VOLUME_BYTES, fill, nbdContender } from './load.js';
import type { NbdCase } from './load.js';

function source(
  name: string,
  programs: readonly string[],
  serve: (lab: Lab, directory: string, socket: string) => Promise<RunningProgram>,
): ContenderSource<NbdCase> {
  return {
    name,
    missing: () => missing({ programs: ['fio', ...programs] }),
    start: async lab => {
      const directory = lab.path(name);
      await run(['mkdir', directory]);
      const socket = lab.path(`${name}.sock`);
      const program = await serve(lab, directory, socket);
      await eventually(`${name} to listen; it says: ${program.stderr}`, () =>
        existsSync(socket) ? true : null,
      );
      const uri = `nbd+unix:///?socket=${socket}`;
      await fill(uri);
      return nbdContender(name, { uri, directory, processCpu_s: () => cpuTime_s(program.pid) });
    },
  };
}

const weft = source(OURS, [], async (lab, directory, socket) => {
  const plane = await Storage.start(lab);
  const pools = [{ name: 'bench', directory }];
  await plane.configure({ pools, exports: [] });
  await plane.makeVolume('bench', 'volume', VOLUME_BYTES);
  const exported = { name: 'bench', nbdName: '', pool: 'bench', volume: 'volume', readOnly: false };
  await plane.configure({ pools, exports: [{ ...exported, listen: [{ kind: 'unix', path: socket }] }] });
  return plane.program;
});

async function rawFile(directory: string): Promise<string> {
  const path = `${directory}/volume.raw`;
  await run(['truncate', '--size', String(VOLUME_BYTES), path]);
  return path;
}

const nbdkit = source('nbdkit', ['nbdkit'], async (lab, directory, socket) =>
  lab.start(['nbdkit', '--foreground', '--unix', socket, 'file', await rawFile(directory)]),
);

const qemuNbd = source('qemu-nbd', ['qemu-nbd'], async (lab, directory, socket) => {
  const how = ['--persistent', '--format=raw', '--cache=writeback', '--shared=8', `--socket=${socket}`];
  return lab.start(['qemu-nbd', ...how, await rawFile(directory)]);
});

export const nbdContenders = [weft, nbdkit, qemuNbd];
