/** Where a tap is: taps are made with us, and moved into containers by others. */
import { fstat } from '../../../host/file.js';
import { O_RDONLY, openFile } from '../../../host/file.js';
import { close } from '../../../host/raw.js';
import { tapIfname, tapNetns } from '../../../host/tap.js';

export interface Place {
  readonly ifname: string;
  /** Of the namespace: tells two apart as long as both exist. */
  readonly inode: number;
  /** In the namespace of this process. */
  readonly isHome: boolean;
}

let homeInode: number | undefined;

function inodeOf(fd: number): number {
  try {
    return fstat(fd).inode;
  } finally {
    close(fd);
  }
}

/** A few microseconds. Throws HostError when the tap is gone or we may not ask. */
export function placeOf(tap: number): Place {
  homeInode ??= inodeOf(openFile('/proc/thread-self/ns/net', O_RDONLY));
  const inode = inodeOf(tapNetns(tap));
  return { ifname: tapIfname(tap), inode, isHome: inode === homeInode };
}

/** An fd of the namespace, the caller's to close. As long as it is open the namespace lives. */
export function netnsOf(tap: number): number {
  return tapNetns(tap);
}
