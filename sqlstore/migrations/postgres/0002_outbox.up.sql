-- +goose Up
-- Tasks that were enqueued in a transaction and are not created yet.
-- Times are microseconds since 1970.

-- "due" is when the row could first be sent, and "next_at" when a relay may take
-- it: that time, the end of the relay's lease, or the end of a backoff. "unknown" is
-- whether an earlier send may have created the task; "parked" why no relay takes
-- the row any more.
CREATE TABLE handoff.outbox (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	queue text COLLATE "C" NOT NULL,
	kind text NOT NULL,
	made bigint NOT NULL,
	due bigint NOT NULL,
	next_at bigint NOT NULL,
	expires bigint NOT NULL,
	size integer NOT NULL,
	tries integer NOT NULL DEFAULT 0,
	unknown boolean NOT NULL DEFAULT false,
	parked text,
	draft bytea NOT NULL
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

CREATE INDEX outbox_next ON handoff.outbox (queue, next_at) WHERE parked IS NULL;
CREATE INDEX outbox_parked ON handoff.outbox (id) WHERE parked IS NOT NULL;

INSERT INTO handoff.migration (version, least) VALUES (2, 1);
