-- +goose Up
-- Tasks that were enqueued in a transaction and are not created yet.
-- Times are microseconds since 1970.

-- "due" is when the row could first be sent, and "next_at" when a relay may take
-- it: that time, the end of the relay's lease, or the end of a backoff. The lowest
-- bit of "unknown" is whether a send may have created the task, the second whether
-- that was so before a relay last took the row. "parked" is why no relay takes the
-- row any more.
CREATE TABLE "handoff_outbox" (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	queue TEXT NOT NULL,
	kind TEXT NOT NULL,
	made INTEGER NOT NULL,
	due INTEGER NOT NULL,
	next_at INTEGER NOT NULL,
	expires INTEGER NOT NULL,
	size INTEGER NOT NULL,
	tries INTEGER NOT NULL DEFAULT 0,
	unknown INTEGER NOT NULL DEFAULT 0,
	parked TEXT,
	draft BLOB NOT NULL
) STRICT;

CREATE INDEX "handoff_outbox_next" ON "handoff_outbox" (queue, next_at) WHERE parked IS NULL;
CREATE INDEX "handoff_outbox_parked" ON "handoff_outbox" (id) WHERE parked IS NOT NULL;

INSERT INTO "handoff_migration" (version, least) VALUES (2, 1);
