/**
 * The plane's HTTP as a function: method, path and body in, status and JSON out. main.ts puts it on a socket. The
 * routes are those of contract.ts.
 */
import { z } from 'zod';
import { duplicateNames } from './conflicts.js';
import { StorageConfig, VolumeSpec, type ErrorReply, type Health } from './contract.js';
import { StorageError, type StorageErrorCode } from './volume/errors.js';
import type { StorageServer } from './server.js';

export interface Reply {
  readonly status: number;
  readonly body: unknown;
}

/** By code: what the caller can do about it decides. */
const STATUS_OF: Readonly<Record<StorageErrorCode, number>> = {
  POOL_IN_USE: 409,
  POOL_NOT_A_POOL: 409,
  POOL_DAMAGED: 500,
  POOL_UNKNOWN: 404,
  POOL_IO: 500,
  VOLUME_NAME_INVALID: 400,
  VOLUME_UNKNOWN: 404,
  VOLUME_DAMAGED: 500,
  VOLUME_SHRINK: 409,
  VOLUME_TOO_LARGE: 400,
  VOLUME_EXPORTED: 409,
  VOLUME_NO_SPACE: 507,
  REMOTE_UNREACHABLE: 502,
  REMOTE_REFUSED: 502,
  REMOTE_GONE: 502,
  REMOTE_IO: 502,
};

export async function answer(
  server: StorageServer,
  health: () => Health,
  method: string,
  pathname: string,
  body: string,
): Promise<Reply> {
  try {
    return await route(server, health, method, pathname, body);
  } catch (error) {
    if (error instanceof StorageError) return failure(STATUS_OF[error.code], error.code, error.message);
    if (error instanceof z.ZodError) return failure(400, 'BAD_REQUEST', issuesOf(error));
    if (error instanceof SyntaxError)
      return failure(400, 'BAD_REQUEST', `the body is no JSON: ${error.message}`);
    if (error instanceof URIError) return failure(400, 'BAD_REQUEST', 'the path is not well encoded');
    throw error;
  }
}

async function route(
  server: StorageServer,
  health: () => Health,
  method: string,
  pathname: string,
  body: string,
): Promise<Reply> {
  const [room, poolName, volumes, volumeName, ...rest] = pathname.slice(1).split('/').map(decodeURIComponent);
  if (poolName === undefined) {
    if (room === 'health') return only('GET', method, () => ok(health()));
    if (room === 'status') return only('GET', method, () => ok(server.status()));
    if (room === 'config')
      return only('PUT', method, async () => {
        const config = StorageConfig.parse(JSON.parse(body));
        const twice = duplicateNames(config);
        if (twice.length > 0) return failure(400, 'BAD_REQUEST', `named twice: ${twice.join(', ')}`);
        return ok(await server.apply(config));
      });
  }
  if (room === 'pools' && poolName !== undefined && volumes === 'volumes' && rest.length === 0) {
    if (volumeName === undefined)
      return only('GET', method, () => ok({ volumes: server.volumesOf(poolName) }));
    if (method === 'DELETE') {
      await server.destroyVolume(poolName, volumeName);
      return ok({ deleted: true });
    }
    return only('PUT', method, async () => {
      const { size_bytes } = VolumeSpec.parse(JSON.parse(body));
      return ok(await server.ensureVolume(poolName, volumeName, size_bytes));
    });
  }
  return failure(404, 'NOT_FOUND', `there is nothing at ${pathname}`);
}

async function only(wanted: string, method: string, then: () => Reply | Promise<Reply>): Promise<Reply> {
  if (method === wanted) return then();
  return failure(405, 'METHOD_NOT_ALLOWED', `${wanted} is the method here`);
}

function ok(body: unknown): Reply {
  return { status: 200, body };
}

export function failure(status: number, code: string, message: string): Reply {
  const body: ErrorReply = { error: { code, message } };
  return { status, body };
}

function issuesOf(error: z.ZodError): string {
  return error.issues
    .slice(0, 10)
    .map(issue => `${issue.path.join('.') || 'body'}: ${issue.message}`)
    .join('; ');
}
