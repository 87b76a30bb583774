/** The real process, started as anybody would start it, and spoken to over its socket. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { connect, createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import type { DataplaneStatus, PortStatus } from '../../dataplane/contract.js';
import * as ethernet from '../../dataplane/wire/ethernet.js';
import { framed } from './ports/realRig.js';

const MAIN = fileURLToPath(new URL('../../dataplane/main.js', import.meta.url));

export interface Reply {
  status: number;
  body: unknown;
}

export class PlaneProcess {
  readonly directory: string;
  readonly socket: string;
  child!: ChildProcess;
  stderr = '';

  private constructor(directory: string) {
    this.directory = directory;
    this.socket = join(directory, 'dataplane.sock');
  }

  static async start(t: Test): Promise<PlaneProcess> {
    const plane = new PlaneProcess(mkdtempSync(join(tmpdir(), 'weft-dataplane-')));
    t.teardown(async () => {
      await plane.end('SIGKILL');
      rmSync(plane.directory, { recursive: true, force: true });
    });
    await plane.spawn();
    return plane;
  }

  async spawn(): Promise<void> {
    this.child = spawn(process.execPath, [MAIN, '--socket', this.socket], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.child.stderr!.on('data', (text: Buffer) => (this.stderr += text.toString()));
    await until('the plane is healthy', async () => {
      if (this.child.exitCode !== null) throw new Error(`it ended: ${this.stderr}`);
      return this.ask('GET', '/health').then(
        reply => reply.status === 200,
        () => false,
      );
    });
  }

  /** Sends the signal and waits for the end. Returns the exit code. */
  async end(signal: NodeJS.Signals): Promise<number | null> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return this.child.exitCode;
    const exit = once(this.child, 'exit');
    this.child.kill(signal);
    const [code] = (await exit) as [number | null];
    return code;
  }

  async open(method: string, path: string, body?: string | Buffer): Promise<IncomingMessage> {
    const call = request({ socketPath: this.socket, method, path, agent: false });
    call.end(body);
    const [reply] = (await once(call, 'response')) as [IncomingMessage];
    return reply;
  }

  async ask(method: string, path: string, body?: unknown): Promise<Reply> {
    const text = typeof body === 'string' || body === undefined ? body : JSON.stringify(body);
    const reply = await this.open(method, path, text);
    const parts: Buffer[] = [];
    for await (const part of reply as AsyncIterable<Buffer>) parts.push(part);
    return { status: reply.statusCode ?? 0, body: JSON.parse(Buffer.concat(parts).toString()) };
  }

  async status(): Promise<DataplaneStatus> {
    return (await this.ask('GET', '/status')).body as DataplaneStatus;
  }

  async port(name: string): Promise<PortStatus> {
    const status = await this.status();
    const found = status.switches.flatMap(each => each.ports).find(port => port.name === name);
    if (found === undefined) throw new Error(`no port ${name}`);
    return found;
  }
}

export async function until(what: string, holds: () => Promise<boolean> | boolean): Promise<void> {
  for (let i = 0; i < 1000; i++) {
    if (await holds()) return;
    await pause(10);
  }
  throw new Error(`waited in vain until ${what}`);
}

/** One end of a stream port: what a guest's QEMU is to the plane. */
export class StreamPeer {
  readonly frames: Uint8Array[] = [];
  #rest = Buffer.alloc(0);
  readonly #socket: Socket;
  isEnded = false;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', data => this.#take(data));
    socket.on('error', () => {});
    socket.on('close', () => (this.isEnded = true));
  }

  static async dial(path: string): Promise<StreamPeer> {
    const socket = connect(path);
    await once(socket, 'connect');
    return new StreamPeer(socket);
  }

  #take(data: Buffer): void {
    let rest = Buffer.concat([this.#rest, data]);
    while (rest.length >= 4 && rest.length >= 4 + rest.readUInt32BE(0)) {
      const length = rest.readUInt32BE(0);
      this.frames.push(Uint8Array.from(rest.subarray(4, 4 + length)));
      rest = rest.subarray(4 + length);
    }
    this.#rest = rest;
  }

  send(...frames: Uint8Array[]): void {
    this.#socket.write(framed(frames));
  }

  close(): void {
    this.#socket.destroy();
  }
}

/** Listens as QEMU does with `server=on`; peers come in the order in which the plane dials. */
export class StreamServer {
  readonly peers: StreamPeer[] = [];
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
    server.on('connection', socket => this.peers.push(new StreamPeer(socket)));
  }

  static async listen(t: Test, path: string): Promise<StreamServer> {
    const server = createServer();
    server.listen(path);
    await once(server, 'listening');
    const made = new StreamServer(server);
    t.teardown(() => made.close());
    return made;
  }

  async peer(index = 0): Promise<StreamPeer> {
    await until(`peer ${index} has come`, () => this.peers.length > index);
    return this.peers[index]!;
  }

  close(): void {
    for (const peer of this.peers) peer.close();
    this.#server.close();
  }
}

export const ALL = 'ff:ff:ff:ff:ff:ff';
export const A = '02:00:00:00:00:0a';
export const B = '02:00:00:00:00:0b';

export function frame(to: string, from: string, length = 60): Uint8Array {
  const bytes = new Uint8Array(length);
  ethernet.emit(new DataView(bytes.buffer), 0, { destination: to, source: from, type: 0x88b5 });
  return bytes;
}

export const access = (vlan: number) => ({ mode: 'access', vlan }) as const;
export const stream = (name: string, path: string, role: 'connect' | 'listen', vlan = 10) => ({
  name,
  vlan: access(vlan),
  device: { kind: 'stream', path, role } as const,
});
export const config = (generation: number, ports: unknown[], more = {}) => ({
  generation,
  switches: [{ name: 'lan', ports, ...more }],
});
