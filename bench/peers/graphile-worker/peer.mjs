// graphile-worker as a peer of the farm's queue. Prints one line of JSON.
//
//   node peer.mjs throughput DATABASE_URL TASKS CLIENTS as_it_comes|batched
//   node peer.mjs pickup DATABASE_URL SAMPLES PAUSE_MS
//
// Times are of the monotonic clock, which all processes of a machine share.

import { fork } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { Logger, makeWorkerUtils, run } from "graphile-worker";
import pg from "pg";

const [mode, connectionString, ...rest] = process.argv.slice(2);
const logger = new Logger(() => () => {});
const now = () => process.hrtime.bigint();
const milliseconds = (from, to) => Number(to - from) / 1e6;

function start(concurrentJobs, noop, more = {}) {
  const worker = { connectionString, concurrentJobs, maxPoolSize: concurrentJobs + 2, logger, ...more };
  return run({ preset: { worker }, taskList: { noop }, noHandleSignals: true });
}

async function throughput(tasks, clients, variant) {
  const utils = await makeWorkerUtils({ connectionString, logger });
  await utils.migrate();
  const client = new pg.Client({ connectionString });
  await client.connect();
  await client.query(
    "select graphile_worker.add_job('noop', json_build_object('n', n)) from generate_series(1, $1::int) as n",
    [tasks],
  );
  const more =
    variant === "batched"
      ? { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 }
      : {};
  const begun = now();
  const runner = await start(clients, async () => {}, more);
  let done = 0;
  await new Promise((resolve) => {
    runner.events.on("job:complete", () => {
      done += 1;
      if (done === tasks) resolve();
    });
  });
  const seconds = milliseconds(begun, now()) / 1000;
  await runner.stop();
  await utils.release();
  await client.end();
  return { seconds };
}

async function pickup(samples, pause) {
  const utils = await makeWorkerUtils({ connectionString, logger });
  await utils.migrate();
  const child = fork(process.argv[1], ["worker", connectionString]);
  const messages = [];
  let wake = () => {};
  child.on("message", (message) => {
    messages.push(message);
    wake();
  });
  const next = async () => {
    while (messages.length === 0) await new Promise((resolve) => (wake = resolve));
    return messages.shift();
  };
  await next();
  const fromCall = [];
  const fromCommit = [];
  for (let n = 0; n < samples + 20; n += 1) {
    await sleep(pause);
    const called = now();
    await utils.addJob("noop", { n });
    const committed = now();
    const told = await next();
    if (n < 20) continue;
    fromCall.push(milliseconds(called, BigInt(told.at)));
    fromCommit.push(milliseconds(committed, BigInt(told.at)));
  }
  child.kill();
  await utils.release();
  return { from_call: fromCall, from_commit: fromCommit };
}

if (mode === "throughput") {
  console.log(JSON.stringify(await throughput(Number(rest[0]), Number(rest[1]), rest[2])));
} else if (mode === "pickup") {
  console.log(JSON.stringify(await pickup(Number(rest[0]), Number(rest[1]))));
} else {
  await start(1, async ({ n }) => process.send({ n, at: now().toString() }));
  process.send({ ready: true });
}
