/**
 * Remote volumes' edge to the kernel: sockets that the data thread's loop watches, and how a volume is put together from its
 * opening. `server.host` is an address: whoever sends the opening has looked the name up, because this thread cannot wait
 * for an answer.
 */
import { EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT } from '../../host/epoll.js';
import { HostError } from '../../host/errno.js';
import { connectTcp, setKeepAlive, setNoDelay } from '../../host/inet.js';
import { mapAnonymous } from '../../host/memory.js';
import { MSG_NOSIGNAL, close, recv, send } from '../../host/raw.js';
import { connectResult, setOption, setSockBuf } from '../../host/socket.js';
import { connectUnix } from '../../host/unix.js';
import type { RemoteOpening } from '../volume/opening.js';
import type { Reactor, Watcher } from '../volume/reactor.js';
import { AlignedVolume } from './aligned.js';
import type { Dial, RemoteSocket } from './link.js';
import { RemoteVolume } from './remoteVolume.js';

const EAGAIN = -11;
const IPPROTO_TCP = 6;
const TCP_USER_TIMEOUT = 18;
/** A server whose machine is gone is noticed after so long, whether we are sending or waiting. */
const SILENCE_LIMIT_MS = 30_000;
const KEEPALIVE_IDLE_S = 15;
const KEEPALIVE_INTERVAL_S = 5;
const SEND_BUFFER_BYTES = 1024 * 1024;

class HostSocket implements RemoteSocket, Watcher {
  reason: string | null = null;
  #fd: number;
  #reactor: Reactor;
  #told: (input: boolean, output: boolean) => void;
  #writable = false;
  #events = 0;

  constructor(fd: number, reactor: Reactor, told: (input: boolean, output: boolean) => void) {
    this.#fd = fd;
    this.#reactor = reactor;
    this.#told = told;
  }

  ready(events: number): void {
    const gone = (events & (EPOLLERR | EPOLLHUP)) !== 0;
    if (gone || (events & EPOLLOUT) !== 0) this.#writable = true;
    this.#told(gone || (events & EPOLLIN) !== 0, this.#writable && (gone || (events & EPOLLOUT) !== 0));
  }

  connected(): number {
    return this.#writable ? connectResult(this.#fd) : EAGAIN;
  }
  recv(address: number, length_bytes: number): number {
    return recv(this.#fd, address, length_bytes, 0);
  }
  send(address: number, length_bytes: number): number {
    return send(this.#fd, address, length_bytes, MSG_NOSIGNAL);
  }
  shakeTls(): number {
    this.reason = 'TLS to remote servers is not there yet';
    return -95;
  }
  want(input: boolean, output: boolean): void {
    const events = (input ? EPOLLIN : 0) | (output ? EPOLLOUT : 0);
    if (events === this.#events || this.#fd < 0) return;
    this.#events = events;
    this.#reactor.watch(this.#fd, events, this);
  }
  close(): void {
    if (this.#fd < 0) return;
    this.#reactor.unwatch(this.#fd);
    close(this.#fd);
    this.#fd = -1;
  }
}

/** To a server; nothing waits. */
export function dialer({ server }: RemoteOpening, reactor: Reactor): Dial {
  return told => {
    try {
      const fd = server.kind === 'unix' ? connectUnix(server.path) : connectTcp(server.host, server.port);
      if (server.kind === 'tcp') {
        setNoDelay(fd);
        setKeepAlive(fd, KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S);
        setOption(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, SILENCE_LIMIT_MS);
      }
      setSockBuf(fd, { send_bytes: SEND_BUFFER_BYTES });
      return new HostSocket(fd, reactor, told);
    } catch (error) {
      if (error instanceof HostError) return error.message;
      throw error;
    }
  };
}

/** What build.ts needs: `onState` is told the outer volume. */
export function openRemote(
  opening: RemoteOpening,
  reactor: Reactor,
  onState: (volume: AlignedVolume) => void,
): AlignedVolume {
  const { server, exportName, size_bytes, connections, patience_ms, tls } = opening;
  // No state is told before the constructor has returned.
  let outer: AlignedVolume | null = null;
  const inner = new RemoteVolume({
    exportName,
    size_bytes,
    connections,
    patience_ms,
    tls: tls !== null,
    where: server.kind === 'unix' ? server.path : `${server.host}:${server.port}`,
    dial: dialer(opening, reactor),
    allocate: mapAnonymous,
    later: reactor.later,
    now_ms: reactor.now_ms,
    touch: volume => reactor.touch(volume),
    onState: () => {
      if (outer !== null) onState(outer);
    },
  });
  outer = new AlignedVolume(inner, mapAnonymous, reactor.later);
  return outer;
}
