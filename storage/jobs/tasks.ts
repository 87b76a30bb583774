/** What each task does (messages.ts): the room's parts joined. It runs in the jobs thread, and in tests anywhere. */
import type { Checksum } from '../checksum/checksum.js';
import { connect } from '../remote/session.js';
import type { LayerOpening } from '../volume/opening.js';
import {
  beginMaking,
  freeName,
  incompletesOf,
  listBackups,
  manifestsOf,
  openPlace,
  pruneBackups,
} from './backupPlace.js';
import { writeBackup, writeRemote } from './backupTask.js';
import { BlockCipher } from './blockCipher.js';
import { copyChain, mergeLayers } from './copyTask.js';
import { JobError } from './errors.js';
import { LayerFile } from './layerFile.js';
import { chainOf, newestOf } from './manifest.js';
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
    flatten: ({ shared, reach_bytes, into }, slices, buffer) =>
      copyChain(shared.map(layerOf), reach_bytes, layerOf(into), buffer, slices),
    scrub: ({ layers }, slices, buffer) => scrubLayers(layers, checksum, buffer, slices),
    place: ({ directory, volume, volumeUuid }) => {
      const placeUuid = openPlace(directory);
      const { manifests, problems } = manifestsOf(directory, volume);
      // One whose chain is broken brings nothing back, and so would what builds upon it.
      const usable = manifests.filter(
        one => one.uuid === volumeUuid && chainOf(one, manifests).problem === null,
      );
      const last = newestOf(usable);
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
                encryption: last.encryption ?? null,
              },
        lastSequence: newestOf(manifests)?.sequence ?? 0,
        incomplete: incompletesOf(directory, volume)
          .filter(({ head }) => head.volumeUuid === volumeUuid)
          .map(({ head }) => head.snapshot.uuid),
        problems,
      };
    },
    backup: async (ask, slices, buffer) => {
      const { directory, volume, snapshot, sequence, base, createdAt_ms, encryption } = ask;
      const making = beginMaking(directory, volume.name, volume.uuid, snapshot.uuid);
      let goesOn = false;
      try {
        const name = freeName(directory, volume.name, ask.name);
        const { uuid, size_bytes } = volume;
        const known = { uuid, volume: volume.name, name, size_bytes, sequence, snapshot, base, createdAt_ms };
        const head = encryption === null ? known : { ...known, encryption };
        const [chain, from] = [ask.chain.map(layerOf), ask.from?.map(layerOf) ?? null];
        const { manifest, resumed_bytes } = await withCipher(ask.key, cipher =>
          writeBackup({ chain, from, head, cipher }, making, buffer, slices),
        );
        making.publish(name);
        return { name, data_bytes: manifest.data_bytes, resumed_bytes };
      } catch (error) {
        goesOn = isWorthKeeping(error);
        throw error;
      } finally {
        making.close(goesOn);
      }
    },
    remoteBackup: async ({ chain, from, target, key }, slices, buffer) => {
      const session = await connect(target.address, target.exportName, target.tls);
      try {
        const older = from?.map(layerOf) ?? null;
        const data_bytes = await withCipher(key, cipher =>
          writeRemote(chain.map(layerOf), older, session, cipher, buffer, slices),
        );
        return { data_bytes };
      } finally {
        await session.close();
      }
    },
    findBackup: ({ directory, volume, backup }) => {
      const chain = findChain(directory, volume, backup);
      const { name, size_bytes, encryption } = chain.at(-1)!;
      return { name, size_bytes, count: chain.length, encryption: encryption ?? null };
    },
    restore: async ({ directory, volume, backup, into, key }, slices, buffer) => {
      const chain = findChain(directory, volume, backup);
      await withCipher(key, cipher => restoreChain(directory, chain, layerOf(into), cipher, buffer, slices));
      return { count: chain.length };
    },
    verify: ({ directory, volume, backup }, slices, buffer) =>
      verifyBackups(directory, volume, backup, buffer, slices),
    prune: ({ directory, volume, keep, now_ms }) => pruneBackups(directory, volume, keep, now_ms),
    list: ({ directory }) => listBackups(directory),
  };
}

/** The key is wiped at the end. */
async function withCipher<T>(
  key: Uint8Array | null,
  then: (cipher: BlockCipher | null) => Promise<T>,
): Promise<T> {
  const cipher = key === null ? null : new BlockCipher(key);
  try {
    return await then(cipher);
  } finally {
    cipher?.close();
  }
}

/**
 * What was copied until then is good: a later try goes on with it. Not where it may be lost though it can be read, where what is
 * backed up is damaged, and where nobody wants it any more.
 */
function isWorthKeeping(error: unknown): boolean {
  return error instanceof JobError && (error.code === 'JOB_IO' || error.code === 'JOB_STOPPED');
}
