package sqlstore

import "strings"

// sqlite returns the statements for SQLite 3.37 and later.
//
// In all of them ?1 is the time of the process, in µs, so that it is virtual in a
// testing/synctest bubble; what postgres.go calls $1 is ?2 here. The database is in
// this process or beside it, and has one lock for all writers: a statement that
// writes waits for an open transaction, and finds no row that another holds.
//
// RETURNING knows only the new values of a row. So some answer less than those of
// PostgreSQL: no row is "lost" to a caller.
func sqlite(schema string) statements {
	in := func(sql string) string { return withPrefix(sql, schema) }
	return statements{
		parameter: "?",
		timed:     true,

		version:  in(`SELECT coalesce(max(version), 0), coalesce(max(least), 0) FROM "handoff_migration"`),
		migrate:  `BEGIN IMMEDIATE`,
		migrated: in(`SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'handoff_migration')`),

		claim:    in(sqliteClaim),
		found:    in(sqliteFound),
		extend:   in(sqliteExtend),
		renew:    in(sqliteRenew),
		complete: in(sqliteComplete),
		release:  in(sqliteRelease),
		end:      in(sqliteChange + `, state = 4, note = ?5` + sqliteHeld),
		keep:     in(sqliteChange + `, memo = ?5` + sqliteHeld),
		show: in(`SELECT state, owner, redrives, generation, attempt, token, first, lease_end, letter, memo, expires
FROM "handoff_fence" WHERE key = ?2 AND expires > ?1`),
		free:  in(`DELETE FROM "handoff_fence" WHERE key = ?2 AND lease_end <= ?1 RETURNING 'changed'`),
		sweep: in(`DELETE FROM "handoff_fence" WHERE key IN (SELECT key FROM "handoff_fence" WHERE expires_hour <= ?1 / 3600000000 ORDER BY expires_hour LIMIT ?2)`),

		begin:          `BEGIN IMMEDIATE; SAVEPOINT handoff_run`,
		mark:           in(sqliteMarks + `, state = 5, note = NULL, memo = NULL, lease_end = 0` + sqliteMarked),
		markEnding:     in(sqliteMarks + `, state = 4, note = ?8` + sqliteMarked),
		commit:         `RELEASE handoff_run; COMMIT`,
		committed:      in(sqliteCommitted),
		keepTx:         in(`UPDATE "handoff_fence" SET memo = ?8, lease_end = ?1 + ?7` + sqliteMarked),
		kept:           in(sqliteMemoKept),
		inbox:          in(sqliteInbox),
		committedInbox: in(`UPDATE "handoff_inbox" SET key = key WHERE key = ?2 RETURNING owner = ?3`),
		sweepInbox:     in(`DELETE FROM "handoff_inbox" WHERE key IN (SELECT key FROM "handoff_inbox" WHERE expires_hour <= ?1 / 3600000000 ORDER BY expires_hour LIMIT ?2)`),

		enqueue:      in(`INSERT INTO "handoff_outbox" (queue, kind, made, due, next_at, expires, size, draft) VALUES `),
		enqueueRow:   `(#1, #2, ?1, max(?1, #3), max(?1, #3), #4, #5, #6)`,
		queuesOutbox: in(sqliteQueues),
		takeOutbox:   in(sqliteTake),
		sentOutbox:   in(`DELETE FROM "handoff_outbox" WHERE id IN (SELECT value FROM json_each(?2))`),
		backOutbox: in(`UPDATE "handoff_outbox" AS o SET next_at = ?1 + json_extract(a.value, '$[1]'), unknown = json_extract(a.value, '$[2]')
FROM json_each(?2) a WHERE o.id = json_extract(a.value, '$[0]') AND o.next_at = CAST(json_extract(a.value, '$[3]') AS INTEGER)`),
		parkOutbox: in(`UPDATE "handoff_outbox" AS o SET parked = json_extract(a.value, '$[1]'), unknown = json_extract(a.value, '$[2]')
FROM json_each(?2) a WHERE o.id = json_extract(a.value, '$[0]')`),
		listOutbox: in(`SELECT id, queue, kind, made, due, next_at, expires, tries, unknown & 1, coalesce(parked, '') FROM "handoff_outbox"
WHERE id > ?2 AND (NOT ?4 OR parked IS NOT NULL) ORDER BY id LIMIT ?3`),
		retryOutbox: in(`UPDATE "handoff_outbox" SET parked = NULL, next_at = ?1 WHERE id = ?2`),
		dropOutbox:  in(`DELETE FROM "handoff_outbox" WHERE id = ?2`),
		statsOutbox: in(`SELECT queue, count(*) FILTER (WHERE parked IS NULL AND due <= ?1), count(*) FILTER (WHERE parked IS NULL AND due > ?1), count(parked),
	coalesce(min(due) FILTER (WHERE parked IS NULL AND due <= ?1), 0)
FROM "handoff_outbox" GROUP BY queue ORDER BY queue`),

		putLetter:    in(sqlitePutLetter),
		trimLetters:  in(sqliteTrimLetters),
		getLetter:    in(`SELECT letter, payload, redriven FROM "handoff_letter" WHERE id = ?2 AND ` + sqliteKept),
		listLetters:  in(sqliteListLetters(``)),
		listKind:     in(sqliteListLetters(`AND kind = ?9`)),
		deleteLetter: in(`DELETE FROM "handoff_letter" WHERE id = ?2`),
		markLetter:   in(`UPDATE "handoff_letter" SET redriven = ?1 WHERE id = ?2 AND buried = ?4 AND redriven IS NULL AND ` + sqliteKept),
		countLetters: in(`SELECT kind, count(*) FROM "handoff_letter" WHERE ?2 IS NULL AND redriven IS NULL AND ` + sqliteKept + ` GROUP BY kind`),
	}
}

// withPrefix has the names of tables begin with the schema, where sql says
// "handoff_ or 'handoff_.
func withPrefix(sql, schema string) string {
	return strings.NewReplacer(
		`"`+defaultSchema+`_`, `"`+strings.ReplaceAll(schema, `"`, `""`)+`_`,
		`'`+defaultSchema+`_`, `'`+strings.ReplaceAll(schema, `'`, `''`)+`_`,
	).Replace(sql)
}

// sqliteVerdict is postgresVerdict.
const sqliteVerdict = `CASE
	WHEN f.expires <= ?1 THEN 'fresh'
	WHEN f.state = 5 THEN 'done'
	WHEN f.state = 6 AND ?4 > f.redrives THEN 'first'
	WHEN f.state = 6 AND f.letter = ?8 THEN 'fresh'
	WHEN f.state = 6 THEN 'dead'
	WHEN f.state = 4 AND f.owner = ?3 THEN CASE WHEN f.lease_end > 0 THEN 'repeat' ELSE 'busy' END
	WHEN f.state = 4 AND f.lease_end > ?1 THEN 'busy'
	WHEN f.state = 4 THEN 'end'
	WHEN (?4, ?5) < (f.redrives, f.generation) THEN 'superseded'
	WHEN f.state = 1 AND f.owner = ?3 AND (?4, ?5) = (f.redrives, f.generation) THEN 'repeat'
	WHEN f.state = 1 AND f.lease_end > ?1 THEN 'busy'
	WHEN f.state = 2 AND f.owner = ?3 AND (?4, ?5) = (f.redrives, f.generation) THEN 'busy'
	WHEN (?4, ?5) = (f.redrives, f.generation) THEN 'again'
	ELSE 'first'
END`

// sqliteClaim takes key, owner, redrives, generation, TTL, window and the freed
// letter. It makes the record or takes it over, or returns no row.
const sqliteClaim = `INSERT INTO "handoff_fence" AS f (key, owner, token, first, lease_end, expires, expires_hour, redrives, generation, attempt, state, crashed)
VALUES (?2, ?3, ?1, ?1, ?1 + ?6, ?1 + ?7, (?1 + ?7 + 3599999999) / 3600000000, ?4, ?5, 1, 1, 0)
ON CONFLICT (key) DO UPDATE SET
	(owner, token, first, attempt, crashed, state, redrives, generation, note, letter, memo) = (SELECT
		?3,
		CASE v WHEN 'repeat' THEN f.token ELSE max(f.token + 1, ?1) END,
		CASE WHEN v IN ('fresh', 'first') OR f.state = 3 AND f.attempt = 0 THEN ?1 ELSE f.first END,
		CASE v WHEN 'fresh' THEN 1 WHEN 'first' THEN 1 WHEN 'again' THEN f.attempt + 1 ELSE f.attempt END,
		CASE v WHEN 'again' THEN f.state = 1 OR f.crashed WHEN 'repeat' THEN f.crashed ELSE 0 END,
		CASE WHEN v IN ('fresh', 'first', 'again') THEN 1 ELSE f.state END,
		CASE WHEN v IN ('fresh', 'first') THEN ?4 ELSE f.redrives END,
		CASE WHEN v IN ('fresh', 'first') THEN ?5 ELSE f.generation END,
		CASE WHEN v IN ('fresh', 'first') THEN NULL ELSE f.note END,
		CASE WHEN v IN ('fresh', 'first') THEN NULL ELSE f.letter END,
		CASE v WHEN 'fresh' THEN NULL ELSE f.memo END
	FROM (SELECT ` + sqliteVerdict + ` AS v)),
	lease_end = excluded.lease_end, expires = excluded.expires, expires_hour = excluded.expires_hour
WHERE ` + sqliteVerdict + ` IN ('fresh', 'first', 'again', 'repeat', 'end')
RETURNING 'took', state, attempt, token, first, crashed, memo, note, letter, 0`

// sqliteFound takes the same, and returns why a record was not taken. One that
// could be taken by its looks was changed a moment ago: busy.
const sqliteFound = `SELECT CASE WHEN v IN ('done', 'dead', 'superseded') THEN v ELSE 'busy' END,
	state, attempt, token, first, crashed, NULL AS memo, NULL AS note, letter,
	CASE WHEN lease_end = 0 AND owner = ?3 THEN 0 ELSE max(lease_end - ?1, 1000) END
FROM (SELECT state, attempt, token, first, crashed, letter, lease_end, owner, ` + sqliteVerdict + ` AS v FROM "handoff_fence" f WHERE f.key = ?2)`

// sqliteAsked is the JSON list of [key, owner, TTL, window] that a renewal takes.
const sqliteAsked = `(SELECT key AS i, json_extract(value, '$[0]') AS key, CAST(json_extract(value, '$[1]') AS INTEGER) AS owner,
	CAST(json_extract(value, '$[2]') AS INTEGER) AS ttl, CAST(json_extract(value, '$[3]') AS INTEGER) AS live FROM json_each(?2)) AS asked`

// sqliteExtend renews, and sqliteRenew says afterwards what it did not: in one
// statement the list could not be named in RETURNING.
const sqliteExtend = `UPDATE "handoff_fence" AS f SET lease_end = ?1 + ttl, expires = ?1 + live, expires_hour = (?1 + live + 3599999999) / 3600000000
FROM ` + sqliteAsked + ` WHERE f.key = asked.key AND f.owner = asked.owner AND f.lease_end > 0 AND f.expires > ?1`

const sqliteRenew = `SELECT i, CASE WHEN f.owner = asked.owner AND f.state IN (4, 5) THEN 'ended' ELSE 'lost' END
FROM ` + sqliteAsked + ` LEFT JOIN "handoff_fence" f ON f.key = asked.key
WHERE f.key IS NULL OR f.owner <> asked.owner OR f.lease_end = 0 OR f.expires <= ?1`

// sqliteChange begins the statements that take key, owner and window and change a
// record which the owner holds. They return no row where it is lost.
const (
	sqliteChange = `UPDATE "handoff_fence" SET expires = ?1 + ?4, expires_hour = (?1 + ?4 + 3599999999) / 3600000000`
	sqliteOwned  = `
WHERE key = ?2 AND owner = ?3 AND expires > ?1 AND `
	sqliteHeld = sqliteOwned + `lease_end > 0 RETURNING 'changed'`
)

// sqliteComplete also takes what it opens, as [handoff.Opening] has it, and the
// letter or NULL.
const sqliteComplete = sqliteChange + `,
	generation = CASE WHEN lease_end > 0 AND ?5 > 0 THEN generation + 1 ELSE generation END,
	attempt = CASE WHEN lease_end > 0 AND ?5 = 1 THEN 0 WHEN lease_end > 0 AND ?5 = 3 THEN attempt - 1 ELSE attempt END,
	state = CASE WHEN lease_end = 0 THEN state WHEN ?5 > 0 THEN 3 WHEN ?6 IS NULL THEN 5 ELSE 6 END,
	letter = CASE WHEN lease_end > 0 THEN ?6 ELSE letter END,
	memo = CASE WHEN lease_end > 0 AND ?5 = 0 AND ?6 IS NULL THEN NULL ELSE memo END,
	note = NULL, crashed = 0, lease_end = 0` + sqliteOwned + `(lease_end > 0 OR state IN (3, 5, 6)) RETURNING 'changed'`

// sqliteRelease also takes whether the attempt counts.
const sqliteRelease = sqliteChange + `,
	attempt = CASE WHEN state = 1 AND NOT ?5 THEN attempt - 1 ELSE attempt END,
	crashed = crashed AND NOT (state = 1 AND ?5),
	state = CASE state WHEN 1 THEN 2 ELSE state END,
	lease_end = 0` + sqliteOwned + `state IN (1, 2, 4) RETURNING 'changed'`

// sqliteMarks takes key, owner, token, redrives, generation, window, and where the
// work is not done yet the note. It must hit one row.
const (
	sqliteMarks  = `UPDATE "handoff_fence" SET expires = ?1 + ?7, expires_hour = (?1 + ?7 + 3599999999) / 3600000000, crashed = 0`
	sqliteMarked = `
WHERE key = ?2 AND owner = ?3 AND token = ?4 AND redrives = ?5 AND generation = ?6 AND state = 1 AND lease_end > 0`
)

// sqliteInbox takes the same, without a note.
const sqliteInbox = `INSERT INTO "handoff_inbox" AS i (key, owner, token, redrives, generation, expires, expires_hour)
VALUES (?2, ?3, ?4, ?5, ?6, ?1 + ?7, (?1 + ?7 + 3599999999) / 3600000000)
ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, token = excluded.token, redrives = excluded.redrives, generation = excluded.generation,
	expires = excluded.expires, expires_hour = excluded.expires_hour
WHERE i.expires <= ?1`

// sqliteCommitted takes key and owner. It writes, though it changes nothing: so it
// waits for an open transaction, where a read would not.
const sqliteCommitted = `UPDATE "handoff_fence" SET key = key WHERE key = ?2
RETURNING CASE WHEN owner = ?3 AND state IN (4, 5) THEN 'changed' ELSE 'lost' END`

// sqliteMemoKept takes key, owner and memo.
const sqliteMemoKept = `UPDATE "handoff_fence" SET key = key WHERE key = ?2
RETURNING CASE WHEN owner <> ?3 THEN 'gone' WHEN memo = ?4 THEN 'changed' ELSE 'lost' END`

// sqliteQueues goes from one queue to the next in the index.
const sqliteQueues = `WITH RECURSIVE q(queue) AS (
	SELECT min(queue) FROM "handoff_outbox" WHERE parked IS NULL
	UNION ALL
	SELECT (SELECT min(o.queue) FROM "handoff_outbox" o WHERE o.parked IS NULL AND o.queue > q.queue) FROM q WHERE q.queue IS NOT NULL)
SELECT queue FROM q WHERE queue IS NOT NULL`

// sqliteTake takes a queue, where the scan begins, the most rows and bytes, and
// the time for which the rows are taken. Every scan begins at zero, for which it
// returns 0: no dead rows are in its way.
const sqliteTake = `UPDATE "handoff_outbox" SET next_at = ?1 + ?6, tries = tries + 1,
	unknown = CASE WHEN unknown & 1 THEN 3 WHEN expires > 0 AND expires <= ?1 THEN 0 ELSE 1 END
WHERE id IN (
	SELECT id FROM (
		SELECT id, row_number() OVER first AS place, sum(size) OVER first AS total FROM (
			SELECT id, next_at, size FROM "handoff_outbox" WHERE queue = ?2 AND parked IS NULL AND next_at >= ?3 AND next_at <= ?1
			ORDER BY next_at LIMIT ?4)
		WINDOW first AS (ORDER BY next_at, id))
	WHERE place = 1 OR total <= ?5)
RETURNING id, 0, next_at, expires > 0 AND expires <= ?1, unknown & 2 <> 0, tries, draft`

// sqliteKept holds for a letter whose retention, in µs, is not over.
const sqliteKept = `put > ?1 - ?3`

// sqlitePutLetter takes ID, retention, kind, time of burial, letter and payload.
const sqlitePutLetter = `INSERT INTO "handoff_letter" AS l (id, kind, buried, put, letter, payload) VALUES (?2, ?4, ?5, ?1, ?6, ?7)
ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, buried = excluded.buried, put = excluded.put, letter = excluded.letter, payload = excluded.payload,
	redriven = CASE WHEN l.buried = excluded.buried AND l.` + sqliteKept + ` THEN l.redriven END`

// sqliteTrimLetters takes the ID of a letter that stays, the retention, and the
// number of letters to keep.
const sqliteTrimLetters = `WITH old AS (
	SELECT id FROM "handoff_letter" WHERE id <> ?2 AND NOT ` + sqliteKept + ` ORDER BY put LIMIT 100),
many AS (
	SELECT id FROM "handoff_letter" WHERE id <> ?2 ORDER BY redriven IS NULL, buried, id DESC
	LIMIT max(0, (SELECT count(*) FROM "handoff_letter") - (SELECT count(*) FROM old) - ?4))
DELETE FROM "handoff_letter" WHERE id IN (SELECT id FROM old UNION SELECT id FROM many)`

// sqliteListLetters takes what postgresListLetters does.
func sqliteListLetters(condition string) string {
	return `SELECT letter, CASE WHEN ?7 THEN payload END, redriven, found FROM (
	SELECT letter, payload, redriven, buried, id, count(*) OVER () AS found,
		row_number() OVER newest AS place, sum(length(letter) + CASE WHEN ?7 THEN coalesce(length(payload), 0) ELSE 0 END) OVER newest AS total
	FROM (
		SELECT letter, payload, redriven, buried, id FROM "handoff_letter"
		WHERE buried <= ?4 AND (buried < ?4 OR id > ?2) AND (redriven IS NOT NULL) = ?6 AND ` + sqliteKept + ` ` + condition + `
		ORDER BY buried DESC, id LIMIT ?5)
	WINDOW newest AS (ORDER BY buried DESC, id))
WHERE place = 1 OR total <= ?8 ORDER BY buried DESC, id`
}
