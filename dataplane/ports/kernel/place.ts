/** Where a port's device is: taps are made with us, and moved into containers by others. */
import { ENODEV, HostError } from '../../../host/errno.js';
import { O_RDONLY, fstat, openFile } from '../../../host/file.js';
import { linkByName } from '../../../host/netlink.js';
import { close } from '../../../host/raw.js';
import { tapIfname, tapNetns } from '../../../host/tap.js';
import type { KernelDevice } from '../../engine/port.js';

export interface Whereabouts {
  readonly ifname: string;
  /** In the network namespace of this process. */
  readonly isHome: boolean;
  /** Differs when the device is another, or elsewhere, or takes frames of another length. */
  readonly place: string;
}

let homeInode: number | undefined;

function inodeOf(fd: number): number {
  try {
    return fstat(fd).inode;
  } finally {
    close(fd);
  }
}

/** A few microseconds for a tap, some twenty for an interface. Throws HostError when it is gone or we may not ask. */
export function whereIs({ kind, fd, ifname }: KernelDevice): Whereabouts {
  if (kind === 'packet') {
    const link = linkByName(ifname);
    if (link === undefined) throw new HostError('RTM_GETLINK', ENODEV, ifname, 'there is no such interface');
    return { ifname, isHome: true, place: `${fd} ${link.index} ${link.mtu_bytes}` };
  }
  homeInode ??= inodeOf(openFile('/proc/thread-self/ns/net', O_RDONLY));
  const inode = inodeOf(tapNetns(fd));
  const now = tapIfname(fd);
  return { ifname: now, isHome: inode === homeInode, place: `${fd} ${now} ${inode}` };
}

/** An fd of a tap's namespace, the caller's to close. As long as it is open the namespace lives. */
export function netnsOf(tap: number): number {
  return tapNetns(tap);
}
