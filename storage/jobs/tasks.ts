/** What each task does (messages.ts): the room's parts joined. It runs in the jobs thread, and in tests anywhere. */
import type { Checksum } from '../checksum/checksum.js';
import { connect } from '../remote/session.js';
import type { LayerOpening } from '../volume/opening.js';
import { beginMaking, freeName, listBackups, manifestsOf, openPlace } from './backupPlace.js';
import { writeBackup, writeRemote } from './backupTask.js';
import { copyChain, mergeLayers } from './copyTask.js';
import { LayerFile } from './layerFile.js';
import { newestOf } from './manifest.js';
import type { TaskKind, Tasks } from './messages.js';
import { findChain, restoreChain, verifyBackups } from './restoreTask.js';
import { scrubLayers } from './scrubTask.js';
import type { Slices } from './slices.js';

/** `buffer` has SLICE_BYTES, in memory of `checksum`. */
export type Task<K extends TaskKind> = (
  ask: Tasks[K]['ask'],
  slices: Slices,
  buffer: Uint8Array,
) => Tasks[K]['answer'] | Promise<Tasks[K]['answer']>;

export function newTasks(checksum: Checksum): { readonly [K in TaskKind]: Task<K> } {
  const layerOf = (opening: LayerOpening): LayerFile => new LayerFile(opening, checksum);
  return {
    merge: ({ lower, upper, lowest }, slices, buffer) =>
      mergeLayers(layerOf(lower), layerOf(upper), lowest, buffer, slices),
    flatten: async ({ shared, reach_bytes, into }, slices, buffer) => ({
      copied_bytes: await copyChain(shared.map(layerOf), reach_bytes, layerOf(into), buffer, slices),
    }),
    scrub: ({ layers }, slices, buffer) => scrubLayers(layers, checksum, buffer, slices),
    place: ({ directory, volume, volumeUuid }) => {
      const placeUuid = openPlace(directory);
      const { manifests, problems } = manifestsOf(directory, volume);
      const last = newestOf(manifests.filter(one => one.uuid === volumeUuid));
      return {
        placeUuid,
        last:
          last === null
            ? null
            : {
                name: last.name,
                snapshotUuid: last.snapshot.uuid,
                sequence: last.sequence,
                manifestSha256: last.sha256,
              },
        lastSequence: newestOf(manifests)?.sequence ?? 0,
        problems,
      };
    },
    backup: async (ask, slices, buffer) => {
      const { chain, from, directory, volume, snapshot, sequence, base, createdAt_ms } = ask;
      const making = beginMaking(directory, volume.name);
      try {
        const name = freeName(directory, volume.name, ask.name);
        const { uuid, size_bytes } = volume;
        const head = { uuid, volume: volume.name, name, size_bytes, sequence, snapshot, base, createdAt_ms };
        const layers = chain.map(layerOf);
        const older = from?.map(layerOf) ?? null;
        const manifest = await writeBackup(layers, older, head, making, buffer, slices);
        making.publish(name);
        return { name, data_bytes: manifest.data_bytes, zero_bytes: manifest.zero_bytes };
      } finally {
        making.close();
      }
    },
    remoteBackup: async ({ chain, from, target }, slices, buffer) => {
      const session = await connect(target.address, target.exportName, target.tls);
      try {
        const older = from?.map(layerOf) ?? null;
        return { data_bytes: await writeRemote(chain.map(layerOf), older, session, buffer, slices) };
      } finally {
        await session.close();
      }
    },
    findBackup: ({ directory, volume, backup }) => {
      const chain = findChain(directory, volume, backup);
      const { name, size_bytes } = chain.at(-1)!;
      return { name, size_bytes, count: chain.length };
    },
    restore: async ({ directory, volume, backup, into }, slices, buffer) => {
      const chain = findChain(directory, volume, backup);
      await restoreChain(directory, chain, layerOf(into), buffer, slices);
      return { count: chain.length };
    },
    verify: ({ directory, volume, backup }, slices, buffer) =>
      verifyBackups(directory, volume, backup, buffer, slices),
    list: ({ directory }) => listBackups(directory),
  };
}
