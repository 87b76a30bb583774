/**
 * The plane's HTTP as a function: method, path and body in, status and JSON out. main.ts puts it on a socket. The
 * routes are those of contract.ts.
 */
import { z } from 'zod';
import { duplicateNames } from './conflicts.js';
import {
  JobRequest,
  Lease,
  RenameRequest,
  RepairRequest,
  RollbackRequest,
  SnapshotRequest,
  StorageConfig,
  VolumeSpec,
  type ErrorReply,
  type Health,
} from './contract.js';
import { JobError, type JobErrorCode } from './jobs/errors.js';
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
  POOL_KIND: 409,
  POOL_IO: 500,
  VOLUME_NAME_INVALID: 400,
  VOLUME_UNKNOWN: 404,
  VOLUME_DAMAGED: 500,
  VOLUME_SHRINK: 409,
  VOLUME_TOO_LARGE: 400,
  VOLUME_EXPORTED: 409,
  VOLUME_NO_SPACE: 507,
  VOLUME_KEY: 409,
  VOLUME_EXISTS: 409,
  VOLUME_DIFFERS: 409,
  VOLUME_HAS_SNAPSHOTS: 409,
  LEASE_EXISTS: 409,
  LEASE_UNKNOWN: 404,
  LEASE_FAILED: 409,
  SNAPSHOT_UNKNOWN: 404,
  SNAPSHOT_EXISTS: 409,
  SNAPSHOT_NAME_INVALID: 400,
  SNAPSHOT_FAILED: 500,
  REMOTE_UNREACHABLE: 502,
  REMOTE_REFUSED: 502,
  REMOTE_GONE: 502,
  REMOTE_IO: 502,
};

const JOB_STATUS_OF: Readonly<Partial<Record<JobErrorCode, number>>> = {
  JOB_UNKNOWN: 404,
  JOB_BUSY: 503,
  JOB_IO: 500,
  JOB_SYNC: 500,
  JOB_DAMAGED: 500,
  JOB_THREAD_GONE: 500,
  BACKUP_UNKNOWN: 404,
  BACKUP_DAMAGED: 500,
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
    if (error instanceof JobError)
      return failure(JOB_STATUS_OF[error.code] ?? 409, error.code, error.message);
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
  url: string,
  body: string,
): Promise<Reply> {
  const { pathname, searchParams } = new URL(url, 'http://plane');
  const path = pathname.slice(1).split('/').map(decodeURIComponent);
  const [room, name] = path;
  const json = (): unknown => JSON.parse(body);
  switch (path.length) {
    case 1:
      if (room === 'health') return only('GET', method, () => ok(health()));
      if (room === 'status') return only('GET', method, () => ok(server.status()));
      if (room === 'config')
        return only('PUT', method, async () => {
          const config = StorageConfig.parse(json());
          const twice = duplicateNames(config);
          if (twice.length > 0) return failure(400, 'BAD_REQUEST', `named twice: ${twice.join(', ')}`);
          return ok(await server.apply(config));
        });
      if (room === 'jobs')
        return method === 'POST'
          ? ok(server.jobs.begin(JobRequest.parse(json())))
          : only('GET', method, () => ok({ jobs: server.jobs.list() }));
      if (room === 'backups')
        return only('GET', method, async () => {
          const directory = searchParams.get('directory');
          if (directory === null || !directory.startsWith('/'))
            return failure(400, 'BAD_REQUEST', 'directory= must say where, by an absolute path');
          return ok({ backups: await server.jobs.backups(directory) });
        });
      if (room === 'snapshots')
        return only('POST', method, async () =>
          ok({ snapshots: await server.snapshot(SnapshotRequest.parse(json())) }),
        );
      break;
    case 2:
      if (room === 'jobs') {
        if (method === 'DELETE') return ok(server.jobs.cancel(name!));
        return only('GET', method, () => ok(server.jobs.get(name!)));
      }
      if (room === 'leases') return lease(server, method, name!, json);
      break;
    default:
      if (room === 'pools' && path[2] === 'repair' && path.length === 3)
        return only('POST', method, async () =>
          ok(await server.repairPool(name!, RepairRequest.parse(body === '' ? {} : json()))),
        );
      if (room === 'pools' && path[2] === 'exports' && path.length === 3)
        return only('GET', method, async () => ok(await server.remoteExports(name!)));
      if (room === 'pools' && path[2] === 'volumes')
        return volumes(server, method, name!, path.slice(3), searchParams, json);
  }
  return failure(404, 'NOT_FOUND', `there is nothing at ${pathname}`);
}

async function lease(
  server: StorageServer,
  method: string,
  name: string,
  json: () => unknown,
): Promise<Reply> {
  if (method === 'DELETE') {
    await server.endLease(name);
    return ok({});
  }
  return only('PUT', method, async () => {
    await server.lease(name, Lease.parse(json()));
    return ok({});
  });
}

/** Behind /pools/:pool/volumes. */
async function volumes(
  server: StorageServer,
  method: string,
  pool: string,
  [volume, what, which]: readonly string[],
  query: URLSearchParams,
  json: () => unknown,
): Promise<Reply> {
  if (volume === undefined) return only('GET', method, () => ok({ volumes: server.volumesOf(pool) }));
  if (what === undefined) {
    if (method === 'DELETE') {
      await server.destroyVolume(pool, volume, query.get('snapshots') === 'true');
      return ok({ deleted: true });
    }
    return only('PUT', method, async () =>
      ok(await server.ensureVolume(pool, volume, VolumeSpec.parse(json()))),
    );
  }
  if (what === 'snapshots' && which !== undefined)
    return only('DELETE', method, async () => {
      await server.deleteSnapshot(pool, volume, which);
      return ok({ deleted: true });
    });
  if (what === 'diff' && which === undefined)
    return only('GET', method, () => {
      const offset_bytes = Number(query.get('offset') ?? 0);
      if (!Number.isSafeInteger(offset_bytes) || offset_bytes < 0)
        return failure(400, 'BAD_REQUEST', 'offset: a whole number of bytes is needed');
      return ok(server.diff(pool, volume, query.get('from'), query.get('to'), offset_bytes));
    });
  if (what === 'mirror' && which === undefined)
    return only('GET', method, async () =>
      ok(await server.mirrorAtRest(pool, volume, query.get('pool') ?? '')),
    );
  if (what === 'rollback' && which === undefined)
    return only('POST', method, async () =>
      ok(await server.rollback(pool, volume, RollbackRequest.parse(json()).snapshot)),
    );
  if (what === 'rename' && which === undefined)
    return only('POST', method, async () =>
      ok(await server.renameVolume(pool, volume, RenameRequest.parse(json()).to)),
    );
  return failure(404, 'NOT_FOUND', `volumes have no ${what}`);
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
