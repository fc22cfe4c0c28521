-- +goose Up
-- The fence, its dead letters, and the inbox of those who keep the fence elsewhere.
-- Times are microseconds since 1970.

CREATE SCHEMA IF NOT EXISTS handoff;

-- A newer program's tables are used as they are, unless "least" is above the
-- version that this program knows.
CREATE TABLE handoff.migration (
	version integer PRIMARY KEY,
	least integer NOT NULL,
	applied timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One row a piece of work. What an ordinary life of a row changes is in no index
-- but the hour, so that its updates stay on their page (HOT).
CREATE TABLE handoff.fence (
	key text COLLATE "C" PRIMARY KEY,
	owner bigint NOT NULL,
	token bigint NOT NULL,
	first bigint NOT NULL,
	lease_end bigint NOT NULL,
	expires bigint NOT NULL,
	expires_hour integer NOT NULL,
	redrives integer NOT NULL,
	generation integer NOT NULL,
	attempt integer NOT NULL,
	state smallint NOT NULL,
	crashed boolean NOT NULL,
	letter bytea,
	note bytea,
	memo bytea
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX fence_expires_hour ON handoff.fence (expires_hour);

-- What was done, for those whose fence is elsewhere: the key alone, since two
-- claims of different generations may both believe to hold it.
CREATE TABLE handoff.inbox (
	key text COLLATE "C" PRIMARY KEY,
	owner bigint NOT NULL,
	token bigint NOT NULL,
	redrives integer NOT NULL,
	generation integer NOT NULL,
	expires bigint NOT NULL,
	expires_hour integer NOT NULL
);

CREATE INDEX inbox_expires_hour ON handoff.inbox (expires_hour);

-- A letter is a gob, apart from its payload, since texts in it may be any bytes;
-- so may IDs and kinds, which go by the order of bytes. "put" is when it was put,
-- "redriven" when its work was enqueued again.
CREATE TABLE handoff.letter (
	id bytea PRIMARY KEY,
	kind bytea NOT NULL,
	buried bigint NOT NULL,
	put bigint NOT NULL,
	redriven bigint,
	letter bytea NOT NULL,
	payload bytea
);

CREATE INDEX letter_buried ON handoff.letter (buried DESC, id);
CREATE INDEX letter_kind_buried ON handoff.letter (kind, buried DESC, id);
CREATE INDEX letter_put ON handoff.letter (put);

INSERT INTO handoff.migration (version, least) VALUES (1, 1);
