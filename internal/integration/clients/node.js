// Google's Node client against an emulator: node node.js grpc|rest HOST PORT WORKER_URL
//
// It fails, with a stack, at the first response that is not the expected one.

import assert from 'node:assert/strict';
import grpc from '@grpc/grpc-js';
import {v2} from '@google-cloud/tasks';
import {PassThroughClient} from 'google-auth-library';

const [transport, host, port, worker] = process.argv.slice(2);

const options = {apiEndpoint: host, port: Number(port), authClient: new PassThroughClient()};
const client = new v2.CloudTasksClient(
  transport === 'grpc'
    ? {...options, sslCreds: grpc.credentials.createInsecure()}
    : {...options, fallback: true, protocol: 'http'},
);

const project = 'projects/p';
const parent = `${project}/locations/us-central1`;
const queue = `${parent}/queues/node-${transport}`;

// Over REST this client has HTTP statuses for codes.
const codes = {ALREADY_EXISTS: [6, 409], NOT_FOUND: [5, 404], INVALID_ARGUMENT: [3, 400]};

async function fails(promise, name, message) {
  await assert.rejects(promise, err => {
    assert.equal(Number(err.code), codes[name][transport === 'grpc' ? 0 : 1]);
    assert.ok(err.message.includes(message), err.message);
    return true;
  });
}

async function collect(iterable) {
  const all = [];
  for await (const item of iterable) all.push(item);
  return all;
}

// Locations: over REST it asks for /v1.
const locations = await collect(client.listLocationsAsync({name: project}));
assert.ok(locations.some(l => l.locationId === 'us-central1'));
const [location] = await client.getLocation({name: parent});
assert.equal(location.name, parent);

// Queues.
const [created] = await client.createQueue({parent, queue: {name: queue, retryConfig: {maxAttempts: 7, minBackoff: {seconds: 1, nanos: 500000000}}}});
assert.equal(created.name, queue);
assert.equal(created.state, 'RUNNING');
assert.equal(created.retryConfig.maxAttempts, 7);
assert.equal(Number(created.retryConfig.minBackoff.seconds), 1);
assert.equal(created.rateLimits.maxDispatchesPerSecond, 500);
await fails(client.createQueue({parent, queue: {name: queue}}), 'ALREADY_EXISTS', 'Queue already exists');
await fails(client.getQueue({name: `${parent}/queues/none`}), 'NOT_FOUND', 'Queue does not exist.');
const [updated] = await client.updateQueue({
  queue: {name: queue, rateLimits: {maxDispatchesPerSecond: 5}},
  updateMask: {paths: ['rate_limits.max_dispatches_per_second']},
});
assert.equal(updated.rateLimits.maxDispatchesPerSecond, 5);
assert.equal(updated.retryConfig.maxAttempts, 7);
assert.deepEqual((await collect(client.listQueuesAsync({parent}))).map(q => q.name).filter(n => n === queue), [queue]);
assert.equal((await client.pauseQueue({name: queue}))[0].state, 'PAUSED');

// Policies.
const [policy] = await client.setIamPolicy({resource: queue, policy: {bindings: [{role: 'roles/cloudtasks.viewer', members: ['user:a@example.com']}]}});
assert.equal(policy.bindings[0].role, 'roles/cloudtasks.viewer');
assert.deepEqual((await client.getIamPolicy({resource: queue}))[0].bindings[0].members, ['user:a@example.com']);
const [held] = await client.testIamPermissions({resource: queue, permissions: ['cloudtasks.tasks.create']});
assert.deepEqual(held.permissions, ['cloudtasks.tasks.create']);

// Tasks.
const body = Buffer.from('from node');
const [task] = await client.createTask({
  parent: queue,
  task: {
    name: `${queue}/tasks/first`,
    scheduleTime: {seconds: Math.floor(Date.now() / 1000) + 3600},
    dispatchDeadline: {seconds: 30},
    httpRequest: {url: worker, httpMethod: 'PUT', headers: {'X-From': 'node'}, body},
  },
});
assert.equal(task.name, `${queue}/tasks/first`);
assert.equal(task.view, 'BASIC');
assert.equal(task.httpRequest.httpMethod, 'PUT');
const [full] = await client.getTask({name: task.name, responseView: 'FULL'});
assert.equal(full.view, 'FULL');
assert.equal(Buffer.from(full.httpRequest.body, typeof full.httpRequest.body === 'string' ? 'base64' : undefined).toString(), 'from node');
await fails(client.createTask({parent: queue, task: {name: task.name, httpRequest: {url: worker}}}), 'ALREADY_EXISTS', 'already exists');
await fails(client.createTask({parent: queue, task: {httpRequest: {url: 'ftp://x'}}}), 'INVALID_ARGUMENT', 'must start with');
assert.equal((await collect(client.listTasksAsync({parent: queue, responseView: 'FULL'}))).length, 1);
await client.runTask({name: task.name}); // reaches the worker, which the Go side sees
const [second] = await client.createTask({parent: queue, task: {appEngineHttpRequest: {relativeUri: '/x?y=1'}}});
await client.deleteTask({name: second.name});
await fails(client.getTask({name: second.name}), 'NOT_FOUND', 'The task no longer exists');

const [purged] = await client.purgeQueue({name: queue});
assert.ok(purged.purgeTime);
assert.equal((await client.resumeQueue({name: queue}))[0].state, 'RUNNING');
await client.deleteQueue({name: queue});
await fails(client.deleteQueue({name: queue}), 'NOT_FOUND', 'Requested entity was not found.');
await client.close();
