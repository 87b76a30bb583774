/** Sends the samplers' datagrams, from the thread that may wait: what cannot be sent is lost, as UDP is. */
import { createSocket } from 'node:dgram';
import type { Socket } from 'node:dgram';
import type { SwitchSampling } from '../contract.js';

export class Exporter {
  readonly #onError: (error: Error) => void;
  #v4: Socket | undefined;
  #v6: Socket | undefined;

  /** `onError` is told of the first of equal failures. */
  constructor(onError: (error: Error) => void) {
    let last = '';
    this.#onError = error => {
      if (error.message === last) return;
      last = error.message;
      onError(error);
    };
  }

  send(datagram: Uint8Array, collectors: SwitchSampling['collectors']): void {
    for (const { address, port } of collectors)
      this.#socketFor(address).send(datagram, port, address, error => {
        if (error !== null) this.#onError(error);
      });
  }

  close(): void {
    this.#v4?.close();
    this.#v6?.close();
    this.#v4 = undefined;
    this.#v6 = undefined;
  }

  #socketFor(address: string): Socket {
    if (address.includes(':')) return (this.#v6 ??= this.#open('udp6'));
    return (this.#v4 ??= this.#open('udp4'));
  }

  #open(type: 'udp4' | 'udp6'): Socket {
    const socket = createSocket(type);
    socket.on('error', this.#onError);
    // It is to keep nothing alive.
    socket.unref();
    return socket;
  }
}
