/** The end of all volumes, when the loop stops. */
import type { HeldVolume } from './mail.js';

/** Shuts each volume once; a failure is told by the volume itself. */
export class Shutting {
  left: number;

  constructor(volumes: readonly HeldVolume[]) {
    this.left = volumes.length;
    for (const volume of volumes) volume.shut(() => this.left--);
  }
}
