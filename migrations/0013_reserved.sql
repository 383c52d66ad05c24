-- The id of the job that a request makes, kept for its repetitions: where the reply to a commit was lost, nobody knows whether it was made.
alter table idempotency_keys add column reserved uuid;
-- The request failed in a way that may pass; the key is free for the same request, which keeps its id.
alter table idempotency_keys add column abandoned boolean not null default false;
