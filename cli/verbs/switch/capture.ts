/** `weft switch capture`: frames of a switch into a file or a pipe. */
import { createWriteStream } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { resolve } from 'node:path';
import { Transform, type Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Command } from 'commander';
import { CliError, UsageError } from '../../errors.js';
import { collect, count } from '../../options.js';
import { PacketCounter } from '../../pcapng.js';
import type { Session } from '../../session.js';

interface CaptureOptions {
  write?: string;
  port: string[];
  count?: number;
  snaplen?: number;
}

export function registerCapture(group: Command, session: Session): void {
  group
    .command('capture')
    .description('record frames as pcapng, for Wireshark or tcpdump; Ctrl-C ends it')
    .argument('<switch>', 'name of a switch')
    .argument('[filter...]', "only these frames, in tcpdump's words: host 10.0.0.7 and not port 22")
    .option('-w, --write <file>', 'into this file; - or nothing: to standard output')
    .option('--port <port>', 'only frames of this port; may be said many times', collect, [])
    .option('-c, --count <frames>', 'end after so many frames', count)
    .option('--snaplen <bytes>', 'keep only so many bytes of each frame', count)
    .action(async (name: string, filter: string[], options: CaptureOptions, command) => {
      const toStdout = options.write === undefined || options.write === '-';
      if (toStdout && session.io.stdout.isTTY === true) {
        throw new UsageError(
          'a capture is binary and would garble this terminal',
          'Say a file with -w FILE, or pipe it: weft switch capture lan | tshark -r -',
        );
      }
      const client = session.client(command);
      const response = await client.stream('GET', `/v1/switches/${encodeURIComponent(name)}/capture`, {
        query: {
          port: options.port,
          count: options.count,
          snaplen_bytes: options.snaplen,
          filter: filter.length === 0 ? undefined : filter.join(' '),
        },
      });
      const target = toStdout ? session.io.stdout : await openTarget(session, options.write ?? '');
      await record(session, response, target, toStdout ? 'standard output' : (options.write ?? ''));
    });
}

async function openTarget(session: Session, path: string): Promise<Writable> {
  const stream = createWriteStream(resolve(session.io.cwd, path));
  return new Promise((done, failed) => {
    stream.once('open', () => done(stream));
    stream.once('error', error =>
      failed(new CliError('UNWRITABLE', `cannot write ${path}: ${error.message}`, { cause: error })),
    );
  });
}

/** Until the stream ends or the user ends it; either is a success, and what has come is in the file. */
async function record(
  session: Session,
  response: IncomingMessage,
  target: Writable,
  where: string,
): Promise<void> {
  const counter = new PacketCounter();
  let interrupted = false;
  const counting = new Transform({
    transform(bytes: Buffer, _encoding, done) {
      counter.push(bytes);
      done(null, bytes);
    },
  });
  const off = session.io.onSignal(() => {
    interrupted = true;
    // Ending the copy instead of breaking it off flushes what has come so far.
    response.unpipe(counting);
    response.destroy();
    counting.end();
  });
  session.say('Capturing; Ctrl-C ends it.');
  try {
    response.pipe(counting);
    response.once('error', error => {
      if (!interrupted) counting.destroy(error);
    });
    response.once('close', () => counting.end());
    await pipeline(counting, target, { end: target !== session.io.stdout });
  } finally {
    off();
    response.destroy();
  }
  session.say(`${counter.packets} frame${counter.packets === 1 ? '' : 's'} captured to ${where}.`);
}
