/**
 * The layered volume takes the exam in several shapes: alone, on top of others, as a clone, with and without checksums,
 * preallocated; where the page cache has all, and where it has not; on a disk in memory, and on files with and without io_uring.
 */
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import t from 'tap';
import { EventFd } from '../../../host/eventfd.js';
import { IoUring } from '../../../host/ioUring.js';
import { RingIo } from '../../../storage/dataThread/ring.js';
import { KernelIo } from '../../../storage/layers/kernelIo.js';
import { LayeredVolume } from '../../../storage/layers/layeredVolume.js';
import { mapBytesOf } from '../../../storage/layers/map.js';
import { RegionBudget } from '../../../storage/layers/regions.js';
import { BlockingIo } from '../../../storage/pool/file.js';
import { Later } from '../../../storage/volume/later.js';
import type { LayerOpening } from '../../../storage/volume/opening.js';
import { EXAM_BYTES, exam, type Examined } from '../volume/suite.js';
import { Rig, sums, type Shape } from './rig.js';

function onRig(depth: number, shape: Partial<Shape>, cold_percent: number): () => Examined {
  return () => {
    const rig = Rig.make(1, { size_bytes: EXAM_BYTES, checksums: true, ...shape });
    rig.disk.cold_percent = cold_percent;
    for (let i = 1; i < depth; i++) {
      let done = false;
      rig.snapshot(undefined, () => (done = true));
      rig.until(() => done, 'snapshot');
    }
    return {
      volume: rig.volume,
      turn: () => rig.turn(),
      grow: size => rig.grow(size),
      close: () => {
        if (rig.shut() !== 0) throw new Error('it does not shut');
        if (rig.volume.busy) throw new Error('something is left');
      },
    };
  };
}

exam(t, 'one layer', onRig(1, {}, 0));
exam(t, 'one layer, cold', onRig(1, {}, 40));
exam(t, 'three layers', onRig(3, {}, 0));
exam(t, 'three layers, cold', onRig(3, {}, 40));
exam(t, 'no checksums', onRig(2, { checksums: false }, 20));
exam(t, 'preallocated', onRig(1, { preallocated: true }, 20));

function onFiles(uring: boolean, depth: number, plain: boolean): () => Examined {
  return () => {
    const room = fs.mkdtempSync(path.join(os.tmpdir(), 'weft-layers-'));
    const fds: number[] = [];
    const open = (name: string, size: number): number => {
      const fd = fs.openSync(path.join(room, name), 'w+');
      fs.ftruncateSync(fd, size);
      fds.push(fd);
      return fd;
    };
    const layers: LayerOpening[] = [];
    for (let i = depth; i > 0; i--) {
      layers.push({
        uuid: `layer${i}`,
        dataFd: open(`data${i}`, EXAM_BYTES),
        mapFd: plain && i === 1 ? -1 : open(`map${i}`, mapBytesOf(EXAM_BYTES)),
        size_bytes: EXAM_BYTES,
        inherits_bytes: EXAM_BYTES,
        checksums: true,
      });
    }
    const later = new Later();
    const signal = uring ? EventFd.create() : null;
    const ring = signal === null ? null : new IoUring(64, signal);
    const slow = ring === null ? null : new RingIo(ring);
    const volume = new LayeredVolume({
      opening: {
        kind: 'layers',
        layers,
        size_bytes: EXAM_BYTES,
        writable: true,
        preallocated: false,
        quotaLeft_bytes: Infinity,
        checkpoints: [],
      },
      io: new KernelIo(slow ?? new BlockingIo(later)),
      later,
      checksum: sums,
      budget: new RegionBudget(),
      now_ms: () => performance.now(),
      onState: () => undefined,
    });
    const turn = (): void => {
      later.turn();
      slow?.submit();
      slow?.reap();
    };
    return {
      volume,
      turn,
      grow: size => {
        fs.ftruncateSync(layers[0]!.dataFd, size);
        if (layers[0]!.mapFd >= 0) fs.ftruncateSync(layers[0]!.mapFd, mapBytesOf(size));
        volume.grow(size);
      },
      close: () => {
        let over = false;
        volume.shut(() => (over = true));
        while (!over || volume.busy) turn();
        ring?.close();
        signal?.close();
        for (const fd of fds) fs.closeSync(fd);
        fs.rmSync(room, { recursive: true });
      },
    };
  };
}

exam(t, 'files', onFiles(false, 2, false));
exam(t, 'a clone of a plain volume', onFiles(false, 2, true));
exam(t, 'a plain volume', onFiles(false, 1, true));
const available = IoUring.available();
if (available.available) exam(t, 'files with io_uring', onFiles(true, 3, false));
else void t.test('files with io_uring', { skip: available.reason }, async () => undefined);
