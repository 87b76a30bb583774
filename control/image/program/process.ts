/** Runs a program of the host to its end and gives what it printed; its failure in words that help. */
import { spawn } from 'node:child_process';
import { ImageError, type ImageErrorCode } from '../errors.js';

/** Of each of the two outputs, the last so much is kept. */
const MAX_OUTPUT_BYTES = 4 * 2 ** 20;

export interface RunOptions {
  /** What its failure is called. */
  code: ImageErrorCode;
  cwd?: string;
  signal?: AbortSignal | undefined;
  onOutput?: (text: string) => void;
}

export async function run(command: string, args: readonly string[], options: RunOptions): Promise<string> {
  const { code, cwd, signal, onOutput } = options;
  if (signal?.aborted === true) throw new ImageError('IMAGE_ABORTED', `${command} was called off`);
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      // English, and no questions.
      env: { ...process.env, LC_ALL: 'C.UTF-8', DEBIAN_FRONTEND: 'noninteractive' },
      ...(cwd === undefined ? {} : { cwd }),
      ...(signal === undefined ? {} : { signal }),
    });
    let output = '';
    let errors = '';
    child.stdout.on('data', (chunk: Buffer) => {
      const text = chunk.toString('utf8');
      output = (output + text).slice(-MAX_OUTPUT_BYTES);
      onOutput?.(text);
    });
    child.stderr.on('data', (chunk: Buffer) => {
      errors = (errors + chunk.toString('utf8')).slice(-MAX_OUTPUT_BYTES);
    });
    child.on('error', error => {
      const called = signal?.aborted === true;
      const missing = 'code' in error && error.code === 'ENOENT';
      reject(
        called
          ? new ImageError('IMAGE_ABORTED', `${command} was called off`, { cause: error })
          : new ImageError(code, missing ? `${command} is not installed` : `${command}: ${error.message}`, {
              cause: error,
            }),
      );
    });
    child.on('close', (status, signalName) => {
      if (status === 0) resolve(output);
      else {
        const words = errors.trim().split('\n').slice(-3).join(' | ').slice(-600);
        const how = signalName === null ? `exit status ${status}` : signalName;
        reject(new ImageError(code, `${command} failed: ${words === '' ? how : words}`));
      }
    });
  });
}
