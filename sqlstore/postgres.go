package sqlstore

// postgres returns the statements for PostgreSQL 14 and later.
//
// Three rules hold for all of them. None waits for a row of the fence that
// another transaction holds, since a Run may hold it for minutes: rows are
// locked with SKIP LOCKED, and inserted only where there is none. Time is
// clock_timestamp(), in µs; now() is when the transaction began. Every
// parameter has a cast, so that it is the same through every driver and in
// PgBouncer's modes.
func postgres(schema string) statements {
	return statements{
		parameter: "$",

		version: inSchema(`SELECT coalesce(max(version), 0), coalesce(max(least), 0) FROM $schema.migration`, schema),
		// Any number, as long as no other program locks it. The lock goes with the
		// transaction, so that it also holds behind PgBouncer.
		migrate:  `BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock(7161736485)`,
		migrated: inSchema(`SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = $literal AND tablename = 'migration')`, schema),

		claimNew: inSchema(postgresClaimNew, schema),
		claim:    inSchema(postgresClaim, schema),
		renew:    inSchema(postgresRenew, schema),
		complete: inSchema(postgresComplete, schema),
		release:  inSchema(postgresRelease, schema),
		end:      inSchema(postgresEnd, schema),
		keep:     inSchema(postgresKeep, schema),
		show:     inSchema(postgresShow, schema),
		free:     inSchema(postgresFree, schema),
		sweep:    inSchema(postgresSweep, schema),

		mark:           inSchema(postgresMark, schema),
		markEnding:     inSchema(postgresMarkEnding, schema),
		commit:         postgresCommit + `; COMMIT`,
		keepTx:         inSchema(postgresKeepTx, schema),
		keepCommit:     inSchema(postgresKeepCommit, schema),
		kept:           inSchema(postgresMemoKept, schema),
		inbox:          inSchema(postgresInbox, schema),
		probeInbox:     inSchema(postgresProbeInbox, schema),
		committedInbox: inSchema(postgresCommittedInbox, schema),
		sweepInbox:     inSchema(postgresSweepInbox, schema),
		committed:      inSchema(postgresCommitted, schema),

		enqueue:      inSchema(`INSERT INTO $schema.outbox (queue, kind, made, due, next_at, expires, size, draft) VALUES `, schema),
		enqueueRow:   `(#1::text, #2::text, ` + postgresMicros + `, greatest(` + postgresMicros + `, #3::bigint), greatest(` + postgresMicros + `, #3::bigint), #4::bigint, #5::int, #6::bytea)`,
		queuesOutbox: inSchema(postgresQueues, schema),
		takeOutbox:   inSchema(postgresTake, schema),
		sentOutbox:   inSchema(`DELETE FROM $schema.outbox WHERE id = ANY (ARRAY(SELECT a::bigint FROM jsonb_array_elements_text($1::jsonb) a))`, schema),
		backOutbox: inSchema(`UPDATE $schema.outbox o SET next_at = `+postgresMicros+` + (a->>1)::bigint, unknown = (a->>2)::boolean
FROM jsonb_array_elements($1::jsonb) a WHERE o.id = (a->>0)::bigint AND o.next_at = (a->>3)::bigint`, schema),
		parkOutbox: inSchema(`UPDATE $schema.outbox o SET parked = a->>1, unknown = (a->>2)::boolean FROM jsonb_array_elements($1::jsonb) a WHERE o.id = (a->>0)::bigint`, schema),
		notify:     `SELECT pg_notify($1::text, $2::text)`,
		listOutbox: inSchema(`SELECT id, queue, kind, made, due, next_at, expires, tries, unknown, coalesce(parked, '') FROM $schema.outbox
WHERE id > $1::bigint AND (NOT $3::boolean OR parked IS NOT NULL) ORDER BY id LIMIT $2::int`, schema),
		retryOutbox: inSchema(`UPDATE $schema.outbox SET parked = NULL, next_at = `+postgresMicros+` WHERE id = $1::bigint`, schema),
		dropOutbox:  inSchema(`DELETE FROM $schema.outbox WHERE id = $1::bigint`, schema),
		statsOutbox: inSchema(postgresStats, schema),

		putLetter:    inSchema(postgresPutLetter, schema),
		trimLetters:  inSchema(postgresTrimLetters, schema),
		getLetter:    inSchema(`SELECT letter, payload, redriven FROM $schema.letter WHERE id = $1::bytea AND `+postgresKept, schema),
		listLetters:  inSchema(postgresListLetters(``), schema),
		listKind:     inSchema(postgresListLetters(`AND kind = $8::bytea`), schema),
		deleteLetter: inSchema(`DELETE FROM $schema.letter WHERE id = $1::bytea`, schema),
		markLetter: inSchema(`UPDATE $schema.letter SET redriven = (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
WHERE id = $1::bytea AND buried = $3::bigint AND redriven IS NULL AND `+postgresKept, schema),
		countLetters: inSchema(`SELECT kind, count(*) FROM $schema.letter WHERE $1::bytea IS NULL AND redriven IS NULL AND `+postgresKept+` GROUP BY kind`, schema),
	}
}

// The states of a record, as the column has them. A lease_end of 0 is no lease.
//
//	1 running  2 idle  3 opened  4 ending  5 done  6 dead

// postgresNow is read by every statement that needs the time, once. The hour of
// a record is the first that begins when it has expired.
const postgresNow = `t AS MATERIALIZED (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now)`

// postgresVerdict says what a claim finds in a record: the table in the
// documentation of [handoff.Store]. It is one of
//
//	fresh   nothing: the record has expired, or its letter is gone
//	first   the work, to be begun at its first attempt
//	again   the work, to be tried once more
//	repeat  this owner's own claim
//	end     an ending that was cut short
//
// or the reason why the claim is not acquired.
const postgresVerdict = `CASE
	WHEN f.expires <= t.now THEN 'fresh'
	WHEN f.state = 5 THEN 'done'
	WHEN f.state = 6 AND $3::int > f.redrives THEN 'first'
	WHEN f.state = 6 AND f.letter = $7::bytea THEN 'fresh'
	WHEN f.state = 6 THEN 'dead'
	WHEN f.state = 4 AND f.owner = $2::bigint THEN CASE WHEN f.lease_end > 0 THEN 'repeat' ELSE 'busy' END
	WHEN f.state = 4 AND f.lease_end > t.now THEN 'busy'
	WHEN f.state = 4 THEN 'end'
	WHEN ($3::int, $4::int) < (f.redrives, f.generation) THEN 'superseded'
	WHEN f.state = 1 AND f.owner = $2::bigint AND ($3::int, $4::int) = (f.redrives, f.generation) THEN 'repeat'
	WHEN f.state = 1 AND f.lease_end > t.now THEN 'busy'
	WHEN f.state = 2 AND f.owner = $2::bigint AND ($3::int, $4::int) = (f.redrives, f.generation) THEN 'busy'
	WHEN ($3::int, $4::int) = (f.redrives, f.generation) THEN 'again'
	ELSE 'first'
END`

// postgresClaimNew takes key, owner, redrives, generation, TTL and window. It makes
// the record, and returns its token, where there is none. It waits for another
// statement that makes the same record, but for no Run.
const postgresClaimNew = `INSERT INTO $schema.fence (key, owner, token, first, lease_end, expires, expires_hour, redrives, generation, attempt, state, crashed)
SELECT $1::text, $2::bigint, t.now AS token, t.now AS first, t.now + $5::bigint, t.now + $6::bigint, (t.now + $6::bigint + 3599999999) / 3600000000, $3::int, $4::int, 1, 1, false
FROM (SELECT ` + postgresMicros + ` AS now) t WHERE NOT EXISTS (SELECT FROM $schema.fence WHERE key = $1::text)
ON CONFLICT DO NOTHING
RETURNING token`

// postgresClaim takes the same, and the freed letter. It locks a row only to take it. A row that could be taken by its looks
// and was not is locked by somebody, or was changed a moment ago: busy.
const postgresClaim = `WITH ` + postgresNow + `,
free AS MATERIALIZED (
	SELECT f.key, ` + postgresVerdict + ` AS verdict FROM $schema.fence f, t
	WHERE f.key = $1::text AND ` + postgresVerdict + ` IN ('fresh', 'first', 'again', 'repeat', 'end')
	FOR UPDATE OF f SKIP LOCKED),
took AS (
	UPDATE $schema.fence f SET
		owner = $2::bigint,
		token = CASE free.verdict WHEN 'repeat' THEN f.token ELSE greatest(f.token + 1, t.now) END,
		first = CASE WHEN free.verdict IN ('fresh', 'first') OR f.state = 3 AND f.attempt = 0 THEN t.now ELSE f.first END,
		attempt = CASE free.verdict WHEN 'fresh' THEN 1 WHEN 'first' THEN 1 WHEN 'again' THEN f.attempt + 1 ELSE f.attempt END,
		crashed = CASE free.verdict WHEN 'again' THEN f.state = 1 OR f.crashed WHEN 'repeat' THEN f.crashed ELSE false END,
		state = CASE WHEN free.verdict IN ('fresh', 'first', 'again') THEN 1 ELSE f.state END,
		redrives = CASE WHEN free.verdict IN ('fresh', 'first') THEN $3::int ELSE f.redrives END,
		generation = CASE WHEN free.verdict IN ('fresh', 'first') THEN $4::int ELSE f.generation END,
		note = CASE WHEN free.verdict IN ('fresh', 'first') THEN NULL ELSE f.note END,
		letter = CASE WHEN free.verdict IN ('fresh', 'first') THEN NULL ELSE f.letter END,
		memo = CASE free.verdict WHEN 'fresh' THEN NULL ELSE f.memo END,
		lease_end = t.now + $5::bigint, expires = t.now + $6::bigint, expires_hour = (t.now + $6::bigint + 3599999999) / 3600000000
	FROM free, t WHERE f.key = free.key
	RETURNING free.verdict, f.state, f.attempt, f.token, f.first, f.crashed, f.memo, f.note, f.letter)
SELECT verdict, state, attempt, token, first, crashed, memo, note, letter, 0::bigint AS wait FROM took
UNION ALL
SELECT CASE WHEN verdict IN ('done', 'dead', 'superseded') THEN verdict ELSE 'busy' END,
	state, attempt, token, first, crashed, NULL::bytea AS memo, NULL::bytea AS note, letter,
	CASE WHEN lease_end = 0 AND owner = $2::bigint THEN 0 ELSE greatest(lease_end - now, 1000) END
FROM (SELECT f.state, f.attempt, f.token, f.first, f.crashed, f.letter, f.owner, f.lease_end, t.now, ` + postgresVerdict + ` AS verdict FROM $schema.fence f, t WHERE f.key = $1::text) seen
WHERE NOT EXISTS (SELECT FROM took)`

// postgresRenew takes a JSON list of [key, owner, TTL, window]. It returns a
// row for each that is not kept: its place in the list, and "locked" where another
// transaction holds the row, "ended" where this owner's work is over, or "lost".
const postgresRenew = `WITH ` + postgresNow + `,
asked AS MATERIALIZED (
	SELECT i, a->>0 AS key, (a->>1)::bigint AS owner, (a->>2)::bigint AS ttl, (a->>3)::bigint AS live
	FROM jsonb_array_elements($1::jsonb) WITH ORDINALITY AS all_asked (a, i)),
free AS MATERIALIZED (
	SELECT f.key FROM $schema.fence f WHERE f.key = ANY (ARRAY(SELECT key FROM asked)) FOR UPDATE SKIP LOCKED),
kept AS (
	UPDATE $schema.fence f SET lease_end = t.now + ttl, expires = t.now + live, expires_hour = (t.now + live + 3599999999) / 3600000000
	FROM asked, free, t
	WHERE f.key = asked.key AND f.key = free.key AND f.owner = asked.owner AND f.lease_end > 0 AND f.expires > t.now
	RETURNING asked.i)
SELECT i - 1, CASE
	WHEN f.key IS NULL THEN 'lost'
	WHEN f.key NOT IN (SELECT key FROM free) THEN 'locked'
	WHEN f.owner = asked.owner AND f.state IN (4, 5) THEN 'ended'
	ELSE 'lost'
END FROM asked LEFT JOIN $schema.fence f ON f.key = asked.key WHERE i NOT IN (SELECT i FROM kept)`

// postgresChange begins the statements that take key, owner and window and change
// a record which the owner holds, or which it has already changed so. They answer
// "changed", "locked" by another transaction, or "lost".
const (
	postgresChange = `WITH ` + postgresNow + `,
free AS MATERIALIZED (
	SELECT f.key, f.lease_end > 0 AS held FROM $schema.fence f, t
	WHERE f.key = $1::text AND f.expires > t.now AND f.owner = $2::bigint
	FOR UPDATE OF f SKIP LOCKED),
changed AS (
	UPDATE $schema.fence f SET expires = t.now + $3::bigint, expires_hour = (t.now + $3::bigint + 3599999999) / 3600000000`
	postgresChanged = `
	RETURNING 1)
SELECT CASE
	WHEN EXISTS (SELECT FROM changed) THEN 'changed'
	WHEN NOT EXISTS (SELECT FROM free) AND EXISTS (SELECT FROM $schema.fence f, t WHERE f.key = $1::text AND f.expires > t.now AND f.owner = $2::bigint) THEN 'locked'
	ELSE 'lost'
END`
)

// postgresComplete also takes what it opens, as [handoff.Opening] has it, and the
// letter or NULL.
const postgresComplete = postgresChange + `,
		generation = CASE WHEN free.held AND $4::int > 0 THEN f.generation + 1 ELSE f.generation END,
		attempt = CASE WHEN free.held AND $4::int = 1 THEN 0 WHEN free.held AND $4::int = 3 THEN f.attempt - 1 ELSE f.attempt END,
		state = CASE WHEN NOT free.held THEN f.state WHEN $4::int > 0 THEN 3 WHEN $5::bytea IS NULL THEN 5 ELSE 6 END,
		letter = CASE WHEN free.held THEN $5::bytea ELSE f.letter END,
		memo = CASE WHEN free.held AND $4::int = 0 AND $5::bytea IS NULL THEN NULL ELSE f.memo END,
		note = NULL, crashed = false, lease_end = 0
	FROM free, t WHERE f.key = free.key AND (free.held OR f.state IN (3, 5, 6))` + postgresChanged

// postgresRelease also takes whether the attempt counts.
const postgresRelease = postgresChange + `,
		attempt = CASE WHEN f.state = 1 AND NOT $4::boolean THEN f.attempt - 1 ELSE f.attempt END,
		crashed = f.crashed AND NOT (f.state = 1 AND $4::boolean),
		state = CASE f.state WHEN 1 THEN 2 ELSE f.state END,
		lease_end = 0
	FROM free, t WHERE f.key = free.key AND f.state IN (1, 2, 4)` + postgresChanged

// postgresEnd also takes the note.
const postgresEnd = postgresChange + `, state = 4, note = $4::bytea
	FROM free, t WHERE f.key = free.key AND free.held` + postgresChanged

// postgresKeep also takes the memo, or NULL.
const postgresKeep = postgresChange + `, memo = $4::bytea
	FROM free, t WHERE f.key = free.key AND free.held` + postgresChanged

// postgresMark takes key, owner, token, redrives, generation, window, the time in ms
// after which the database ends a transaction that is idle, the name of a Run, and
// where the work is not done yet the note. It must hit one row. It is the first statement of a transaction,
// so that nothing can change the row from then on; as the last one it would fail
// at REPEATABLE READ and above as soon as the lease was renewed in between.
//
// Run sends it as text, to be planned each time: so it has no join and no more
// expressions than it needs.
const (
	postgresMark       = postgresMarks + `, state = 5, note = NULL, memo = NULL, lease_end = 0` + postgresMarked
	postgresMarkEnding = postgresMarks + `, state = 4, note = $9::bytea` + postgresMarked

	postgresMarks  = `UPDATE $schema.fence SET expires = ` + postgresMicros + ` + $6::bigint, expires_hour = (` + postgresMicros + ` + $6::bigint + 3599999999) / 3600000000, crashed = false`
	postgresMarked = `
WHERE key = $1::text AND owner = $2::bigint AND token = $3::bigint AND redrives = $4::bigint AND generation = $5::bigint AND state = 1 AND lease_end > 0
RETURNING set_config('idle_in_transaction_session_timeout', $7::bigint::text, true), set_config('handoff.run', $8::text, true)`
)

// postgresKeepTx takes the same, with the TTL in place of the window, and the memo.
const postgresKeepTx = `UPDATE $schema.fence SET memo = $9::bytea, lease_end = ` + postgresMicros + ` + $6::bigint` + postgresMarked

// postgresInbox takes the same as postgresMark, without a note. Two transactions of one key take turns: the second
// waits for the first, and hits no row if that committed.
const postgresInbox = `INSERT INTO $schema.inbox AS i (key, owner, token, redrives, generation, expires, expires_hour)
SELECT $1::text, $2::bigint, $3::bigint, $4::bigint, $5::bigint, t.now + $6::bigint, (t.now + $6::bigint + 3599999999) / 3600000000
FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now) t
ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, token = excluded.token, redrives = excluded.redrives, generation = excluded.generation,
	expires = excluded.expires, expires_hour = excluded.expires_hour
WHERE i.expires <= (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
RETURNING set_config('idle_in_transaction_session_timeout', $7::bigint::text, true), set_config('handoff.run', $8::text, true)`

// postgresCommittedInbox takes key and owner, and is the second statement of a
// transaction whose first is postgresProbeInbox.
const postgresCommittedInbox = `SELECT EXISTS (SELECT FROM $schema.inbox WHERE key = $1::text AND owner = $2::bigint)`

// postgresProbeInbox takes a key and a time in ms. A row that another transaction
// has inserted cannot be seen before it commits, nor locked; an insert of the same
// key waits for it.
const postgresProbeInbox = `BEGIN; SELECT set_config('lock_timeout', $2::text, true);
INSERT INTO $schema.inbox (key, owner, token, redrives, generation, expires, expires_hour) VALUES ($1::text, 0, 0, 0, 0, 0, 0) ON CONFLICT DO NOTHING;
SELECT 1 FROM $schema.inbox WHERE key = $1::text FOR UPDATE`

// postgresSweepInbox takes the most rows to remove.
const postgresSweepInbox = `WITH ` + postgresNow + `,
old AS MATERIALIZED (
	SELECT i.key FROM $schema.inbox i WHERE i.expires_hour <= (SELECT now FROM t) / 3600000000 ORDER BY i.expires_hour LIMIT $1::int FOR UPDATE OF i SKIP LOCKED)
DELETE FROM $schema.inbox WHERE key IN (SELECT key FROM old)`

// postgresCommit takes the name of the Run. The first statement fails where the
// transaction is another than the one that the Run began, or none, or has failed:
// COMMIT itself would then do as if all were well.
const postgresCommit = `SELECT 1 / (coalesce(current_setting('handoff.run', true), '') = $1::text)::int`

// postgresKeepCommit also takes key and TTL. No renewal reached the lease while the
// transaction held the row.
const postgresKeepCommit = postgresCommit + `; UPDATE $schema.fence SET lease_end = ` + postgresMicros + ` + $3::bigint WHERE key = $2::text; COMMIT`

// postgresCommitted takes key and owner. It answers "changed" if that owner's work
// is over, "lost" if it is not, "locked" while a transaction holds the row, and
// "gone" where there is none.
const postgresCommitted = `WITH free AS MATERIALIZED (SELECT owner, state FROM $schema.fence WHERE key = $1::text FOR UPDATE SKIP LOCKED)
SELECT CASE
	WHEN EXISTS (SELECT FROM free WHERE owner = $2::bigint AND state IN (4, 5)) THEN 'changed'
	WHEN EXISTS (SELECT FROM free) THEN 'lost'
	WHEN EXISTS (SELECT FROM $schema.fence WHERE key = $1::text) THEN 'locked'
	ELSE 'gone'
END`

// postgresMemoKept takes key, owner and memo. It answers "changed" if the owner's memo
// is this one, "lost" if it is another, "locked" while a transaction holds the row,
// and "gone" if the record is not the owner's any more.
const postgresMemoKept = `WITH free AS MATERIALIZED (SELECT owner, memo FROM $schema.fence WHERE key = $1::text FOR UPDATE SKIP LOCKED)
SELECT CASE
	WHEN EXISTS (SELECT FROM free WHERE owner = $2::bigint AND memo = $3::bytea) THEN 'changed'
	WHEN EXISTS (SELECT FROM free WHERE owner = $2::bigint) THEN 'lost'
	WHEN NOT EXISTS (SELECT FROM free) AND EXISTS (SELECT FROM $schema.fence WHERE key = $1::text) THEN 'locked'
	ELSE 'gone'
END`

const postgresShow = `WITH ` + postgresNow + `
SELECT state, owner, redrives, generation, attempt, token, first, lease_end, letter, memo, expires
FROM $schema.fence, t WHERE key = $1::text AND expires > t.now`

// postgresFree answers as the statements that change a record, where "lost" is
// none, or "held".
const postgresFree = `WITH ` + postgresNow + `,
free AS MATERIALIZED (
	SELECT f.key FROM $schema.fence f, t WHERE f.key = $1::text AND f.lease_end <= t.now FOR UPDATE OF f SKIP LOCKED),
freed AS (DELETE FROM $schema.fence WHERE key IN (SELECT key FROM free) RETURNING 1)
SELECT CASE
	WHEN EXISTS (SELECT FROM freed) THEN 'changed'
	WHEN EXISTS (SELECT FROM $schema.fence f, t WHERE f.key = $1::text AND f.lease_end > t.now) THEN 'held'
	WHEN EXISTS (SELECT FROM $schema.fence f, t WHERE f.key = $1::text AND f.expires > t.now) THEN 'locked'
	ELSE 'lost'
END`

// postgresSweep takes the most rows to remove.
const postgresSweep = `WITH ` + postgresNow + `,
old AS MATERIALIZED (
	SELECT f.key FROM $schema.fence f WHERE f.expires_hour <= (SELECT now FROM t) / 3600000000 ORDER BY f.expires_hour LIMIT $1::int FOR UPDATE OF f SKIP LOCKED)
DELETE FROM $schema.fence WHERE key IN (SELECT key FROM old)`

const postgresMicros = `(extract(epoch FROM clock_timestamp()) * 1000000)::bigint`

// postgresQueues goes from one queue to the next in the index.
const postgresQueues = `WITH RECURSIVE q AS (
	(SELECT queue FROM $schema.outbox WHERE parked IS NULL ORDER BY queue LIMIT 1)
	UNION ALL
	SELECT (SELECT o.queue FROM $schema.outbox o WHERE o.parked IS NULL AND o.queue > q.queue ORDER BY o.queue LIMIT 1) FROM q WHERE q.queue IS NOT NULL)
SELECT queue FROM q WHERE queue IS NOT NULL`

// postgresStats goes by when a row could first be sent, not by its next_at, which
// every try moves on.
const postgresStats = `WITH ` + postgresNow + `
SELECT queue, count(*) FILTER (WHERE parked IS NULL AND due <= now), count(*) FILTER (WHERE parked IS NULL AND due > now), count(parked),
	coalesce(min(due) FILTER (WHERE parked IS NULL AND due <= now), 0)
FROM $schema.outbox, t GROUP BY queue ORDER BY queue`

// postgresTake takes a queue, where the scan begins, the most rows and bytes, and
// the time for which the rows are taken. Rows are found by their time, never by
// their ID: those that commit late would be skipped. What is about to be sent is
// unknown from now on, for the case that this relay dies; it returns what was
// known before. The time is no table of the join: where the statistics know of no
// row from $2 on, the planner would join first, and sort the whole backlog.
const postgresTake = `WITH ` + postgresNow + `,
due AS MATERIALIZED (
	SELECT o.id, o.size, o.next_at, o.unknown, o.expires > 0 AND o.expires <= (SELECT now FROM t) AS over FROM $schema.outbox o
	WHERE o.queue = $1::text AND o.parked IS NULL AND o.next_at >= $2::bigint AND o.next_at <= (SELECT now FROM t)
	ORDER BY o.next_at LIMIT $3::int FOR UPDATE OF o SKIP LOCKED),
fit AS MATERIALIZED (
	SELECT id, next_at, unknown, over FROM (
		SELECT id, next_at, unknown, over, row_number() OVER first AS place, sum(size) OVER first AS total FROM due WINDOW first AS (ORDER BY next_at, id)) counted
	WHERE place = 1 OR total <= $4::bigint)
UPDATE $schema.outbox o SET next_at = t.now + $5::bigint, tries = o.tries + 1, unknown = o.unknown OR NOT fit.over
FROM fit, t WHERE o.id = fit.id
RETURNING o.id, fit.next_at, o.next_at, fit.over, fit.unknown, o.tries, o.draft`

// postgresKept holds for a letter whose retention, in µs, is not over.
const postgresKept = `put > (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - $2::bigint`

// postgresPutLetter takes ID, retention, kind, time of burial, letter and payload.
const postgresPutLetter = `INSERT INTO $schema.letter AS l (id, kind, buried, put, letter, payload)
VALUES ($1::bytea, $3::bytea, $4::bigint, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, $5::bytea, $6::bytea)
ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, buried = excluded.buried, put = excluded.put, letter = excluded.letter, payload = excluded.payload,
	redriven = CASE WHEN l.buried = excluded.buried AND l.` + postgresKept + ` THEN l.redriven END`

// postgresTrimLetters takes the ID of a letter that stays, the retention, and the
// number of letters to keep.
const postgresTrimLetters = `WITH over AS MATERIALIZED (
	SELECT id FROM $schema.letter WHERE id <> $1::bytea AND NOT ` + postgresKept + ` ORDER BY put LIMIT 100),
many AS MATERIALIZED (
	SELECT id FROM $schema.letter WHERE id <> $1::bytea ORDER BY redriven IS NULL, buried, id DESC
	LIMIT greatest(0, (SELECT count(*) FROM $schema.letter) - (SELECT count(*) FROM over) - $3::bigint)),
free AS MATERIALIZED (
	SELECT l.id FROM $schema.letter l WHERE l.id IN (SELECT id FROM over UNION SELECT id FROM many) FOR UPDATE SKIP LOCKED)
DELETE FROM $schema.letter WHERE id IN (SELECT id FROM free)`

// postgresListLetters takes what the page before ended with (ID, and time of
// burial as the third), the retention, the most letters, whether they are those
// that were redriven, whether with payloads, the most bytes, and maybe a kind. Each
// row also has how many there are, up to the most.
func postgresListLetters(condition string) string {
	return `SELECT letter, CASE WHEN $6::boolean THEN payload END, redriven, found FROM (
	SELECT letter, payload, redriven, buried, id, count(*) OVER () AS found,
		row_number() OVER newest AS place, sum(length(letter) + CASE WHEN $6::boolean THEN coalesce(length(payload), 0) ELSE 0 END) OVER newest AS total
	FROM (
		SELECT letter, payload, redriven, buried, id FROM $schema.letter
		WHERE buried <= $3::bigint AND (buried < $3::bigint OR id > $1::bytea) AND (redriven IS NOT NULL) = $5::boolean AND ` + postgresKept + ` ` + condition + `
		ORDER BY buried DESC, id LIMIT $4::int) matching
	WINDOW newest AS (ORDER BY buried DESC, id)) page
WHERE place = 1 OR total <= $7::bigint ORDER BY buried DESC, id`
}
