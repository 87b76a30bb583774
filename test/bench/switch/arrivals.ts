/**
 * Counts the frames that come in at an interface, alike for all contenders: by a small program at its tcx hook. The
 * interface's own counter will not do, since a frame that the kernel redirects into a tap is not in it.
 */
import * as bpf from '../../../host/bpf.js';
import { BpfAssembler, R0, R1, R2, R6, reg } from '../../../host/bpfAssembler.js';
import { linkByName } from '../../../host/netlink.js';
import { inNetns } from '../../../host/netns.js';
import { close } from '../../../host/raw.js';
import type { Namespace } from '../../lab/harness/network.js';

/** struct __sk_buff: the type behind the addresses, in network order. */
const SKB_PROTOCOL = 16;
const VERDICT_NEXT = -1;

export interface Arrivals {
  /** Frames of the type so far. */
  count(): number;
  close(): void;
}

/** On kernels without tcx (before 6.6, where nothing is redirected either) the interface's own counter, of all types. */
export function countArrivals(where: Namespace, ifname: string, etherType: number): Arrivals {
  const map = new bpf.BpfMap({ type: bpf.MAP_TYPE_ARRAY, key_bytes: 4, value_bytes: 8, entries: 1 });
  const instructions = new BpfAssembler()
    .move(R6, reg(R1))
    .load(4, R1, R6, SKB_PROTOCOL)
    .jumpIf(R1, '!=', ((etherType & 0xff) << 8) | (etherType >>> 8), 'other')
    .loadMapValue(R1, map.fd, 0)
    .move(R2, 1)
    .atomicAdd(8, R1, 0, R2)
    .label('other')
    .move(R0, VERDICT_NEXT)
    .exit()
    .finish();
  const attachType = bpf.ATTACH_TCX_INGRESS;
  const program = bpf.loadProgram({
    type: bpf.PROG_TYPE_SCHED_CLS,
    instructions,
    attachType,
    name: 'arrivals',
  });
  let link: number;
  try {
    link = inNetns(where.path, () => bpf.createLink(program, linkByName(ifname)?.index ?? 0, attachType));
  } catch {
    map.close();
    return { count: () => where.receivedPackets(ifname), close: () => {} };
  } finally {
    close(program);
  }
  return {
    count: () => {
      map.key.setUint32(0, 0, true);
      map.lookup();
      return Number(map.value.getBigUint64(0, true));
    },
    close: () => {
      close(link);
      map.close();
    },
  };
}
