-- +goose Up
-- The fence, its dead letters, and the inbox of those who keep the fence elsewhere.
-- Times are microseconds since 1970.

-- A newer program's tables are used as they are, unless "least" is above the
-- version that this program knows.
CREATE TABLE "handoff_migration" (
	version INTEGER PRIMARY KEY,
	least INTEGER NOT NULL,
	applied TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
) STRICT;

-- One row a piece of work. What an ordinary life of a row changes is in no index
-- but the hour.
CREATE TABLE "handoff_fence" (
	key TEXT NOT NULL PRIMARY KEY,
	owner INTEGER NOT NULL,
	token INTEGER NOT NULL,
	first INTEGER NOT NULL,
	lease_end INTEGER NOT NULL,
	expires INTEGER NOT NULL,
	expires_hour INTEGER NOT NULL,
	redrives INTEGER NOT NULL,
	generation INTEGER NOT NULL,
	attempt INTEGER NOT NULL,
	state INTEGER NOT NULL,
	crashed INTEGER NOT NULL,
	letter BLOB,
	note BLOB,
	memo BLOB
) STRICT;

CREATE INDEX "handoff_fence_expires_hour" ON "handoff_fence" (expires_hour);

-- What was done, for those whose fence is elsewhere: the key alone, since two
-- claims of different generations may both believe to hold it.
CREATE TABLE "handoff_inbox" (
	key TEXT NOT NULL PRIMARY KEY,
	owner INTEGER NOT NULL,
	token INTEGER NOT NULL,
	redrives INTEGER NOT NULL,
	generation INTEGER NOT NULL,
	expires INTEGER NOT NULL,
	expires_hour INTEGER NOT NULL
) STRICT;

CREATE INDEX "handoff_inbox_expires_hour" ON "handoff_inbox" (expires_hour);

-- A letter is a gob, apart from its payload, since texts in it may be any bytes;
-- so may IDs and kinds, which go by the order of bytes. "put" is when it was put,
-- "redriven" when its work was enqueued again.
CREATE TABLE "handoff_letter" (
	id BLOB NOT NULL PRIMARY KEY,
	kind BLOB NOT NULL,
	buried INTEGER NOT NULL,
	put INTEGER NOT NULL,
	redriven INTEGER,
	letter BLOB NOT NULL,
	payload BLOB
) STRICT;

CREATE INDEX "handoff_letter_buried" ON "handoff_letter" (buried DESC, id);
CREATE INDEX "handoff_letter_kind_buried" ON "handoff_letter" (kind, buried DESC, id);
CREATE INDEX "handoff_letter_put" ON "handoff_letter" (put);

INSERT INTO "handoff_migration" (version, least) VALUES (1, 1);
